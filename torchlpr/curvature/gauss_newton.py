"""Choosing between the shapes of the Gauss-Newton Hessian, and saying why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from torchlpr.curvature import free_memory, memory
from torchlpr.curvature.factor import Factor, check_finite, regulariser_vector
from torchlpr.curvature.matrix_free import MatrixFree, MatrixFreeSettings
from torchlpr.curvature.parameter_space import ParameterSpace
from torchlpr.curvature.products import DenseRows, ModelRows, RowProducts
from torchlpr.curvature.row_space import RowSpace
from torchlpr.curvature.subsets import Subset
from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch

__all__ = ["Shape", "build", "build_matrix_free", "check_shape", "choose_shape", "load_factor"]

Shape = Literal["auto", "row", "parameter", "column", "matrix-free"]


def choose_shape(
    n_rows: int, n_parameters: int, zero_mu: bool = False, memory_limit: int | None = None
) -> tuple[Shape, str]:
    """The cheaper exact shape among those that fit into memory, or matrix-free if none does.

    Args:
        n_rows: number M of rows.
        n_parameters: number P of weights.
        zero_mu: whether some weight is not regularised.
        memory_limit: bytes, by default three quarters of what is free on the CPU.

    Returns:
        "row", "parameter" or "matrix-free", and the reason in words, with the predicted memory.

    Raises:
        InputError: with sizes and alternatives, if no shape fits that allows a weight without
            regulariser.
    """
    limit = free_memory.memory_limit(memory_limit)
    sizes = f"{n_rows} rows, {n_parameters} parameters"
    if zero_mu:
        why = "a weight without regulariser needs the P x P triangle"
        order: tuple[memory.ShapeName, ...] = ("parameter",)
    elif n_rows <= n_parameters:
        why, order = "the M x M system is the smaller one", ("row", "parameter")
    else:
        why, order = "the P x P triangle is the smaller one", ("parameter", "row")
    fitting = memory.shapes_that_fit(order, n_rows, n_parameters, limit)
    if not fitting and not zero_mu:
        needs = memory.needs_in_words(order, n_rows, n_parameters)
        allowed = free_memory.format_bytes(limit)
        return "matrix-free", f"{sizes} need {needs}, {allowed} are allowed: intervals instead"
    shape, size = memory.fitting_shape(order, n_rows, n_parameters, limit)
    if shape != order[0]:
        return shape, f"{sizes}: the only exact one that fits into memory ({size})"
    return shape, f"{sizes}: {why} ({size})"


def build(
    rows: Tensor,
    mu: float | Tensor,
    shape: Shape = "auto",
    matrix_free: MatrixFreeSettings | None = None,
    memory_limit: int | None = None,
) -> Factor:
    """Factorise H = R^T R + diag(mu).

    Args:
        rows: R, shape (M, P); computed in float64 whatever the dtype.
        mu: strength of the L2 term, a number or shape (P,).
        shape: "row", "parameter", "matrix-free", or "auto" for the cheaper one that fits.
        matrix_free: how far the matrix-free shape iterates.
        memory_limit: bytes beside the rows, by default three quarters of what is free on their
            device.

    Returns:
        The factor.

    Raises:
        InputError: if the input is not finite, mu is not allowed, the shape is unknown or
            cannot hold the problem, or it does not fit into memory.
    """
    # the rows themselves are there already
    limit = free_memory.memory_limit(memory_limit, rows.device) + 8 * rows.numel()
    matrix = check_finite("row", rows)
    regulariser = regulariser_vector(mu, matrix)
    zero_mu = bool((regulariser == 0).any())
    if shape == "auto":
        shape, _ = choose_shape(matrix.shape[0], matrix.shape[1], zero_mu, limit)
    if shape == "matrix-free":
        if matrix.requires_grad:
            raise InputError(
                "the matrix-free shape is not differentiable; detach the rows or use shape='row'"
            )
        return build_matrix_free(DenseRows(matrix), regulariser, matrix_free)
    check_shape(shape)
    if shape == "column":
        raise InputError("shape='column' is one of Rigidity(ranks=...): here use shape='row'")
    exact: memory.ShapeName = "row" if shape == "row" else "parameter"
    memory.fitting_shape((exact,), matrix.shape[0], matrix.shape[1], limit)
    if exact == "parameter":
        return ParameterSpace.from_rows(matrix, regulariser)
    if zero_mu:
        raise InputError("row space needs every mu positive; use shape='parameter'")
    return RowSpace(matrix, regulariser)


def check_shape(shape: str) -> None:
    """Refuse a name that is no shape.

    Args:
        shape: the name.

    Raises:
        InputError: naming the shapes.
    """
    if shape not in get_args(Shape):
        known = ", ".join(repr(s) for s in get_args(Shape))
        raise InputError(f"shape {shape!r} is unknown; use one of {known}")


def build_matrix_free(
    rows: RowProducts, mu: float | Tensor, settings: MatrixFreeSettings | None = None
) -> MatrixFree:
    """The matrix-free shape of rows that are known by their products.

    Args:
        rows: products with R.
        mu: strength of the L2 term, a number or shape (P,).
        settings: how far to iterate.

    Returns:
        The factor.

    Raises:
        InputError: if mu is not allowed, or one vector does not fit into memory.
    """
    like = torch.empty(0, rows.n_parameters, device=rows.device)
    regulariser = regulariser_vector(mu, like)
    if bool((regulariser == 0).any()):
        raise InputError("matrix-free needs every mu positive; use shape='parameter'")
    return MatrixFree(rows, regulariser, settings)


def load_factor(
    state: Mapping[str, Tensor], model: nn.Module | None = None, subset: Subset | None = None
) -> Factor:
    """Rebuild a factor from its ``state_dict``.

    Args:
        state: as saved.
        model: the model that the rows of a matrix-free factor are derivatives of.
        subset: the weights that they are derivatives by, None for all.

    Returns:
        The factor.

    Raises:
        InputError: if the factor needs a model and there is none.
    """
    if "right" in state:
        return _load_matrix_free(state, model, subset)
    if "rows" in state:
        return RowSpace(state["rows"], state["mu"], state["triangle"])
    return ParameterSpace(state["triangle"], state["mu"], int(state["n_rows"]))


def _load_matrix_free(
    state: Mapping[str, Tensor], model: nn.Module | None, subset: Subset | None
) -> MatrixFree:
    rows: RowProducts
    if "matrix" in state:
        rows = DenseRows(state["matrix"])
    elif model is None:
        raise InputError("this matrix-free factor holds no rows; give the model they come from")
    else:
        batch = AtomBatch(state["features"], state["types"], state["structure"])
        rows = ModelRows(model, batch, state["scale"], subset)
    tolerance, most = state["settings"].tolist()
    settings = MatrixFreeSettings(tolerance, int(most), int(state["kept"]))
    directions = state["left"], state["values"], state["right"]
    return MatrixFree(rows, state["mu"], settings, directions)
