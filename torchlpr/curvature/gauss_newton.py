"""Choosing between the shapes of the Gauss-Newton Hessian, and saying why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from torchlpr.curvature import free_memory, memory
from torchlpr.curvature.factor import Factor, check_finite, regulariser_vector
from torchlpr.curvature.parameter_space import ParameterSpace
from torchlpr.curvature.row_space import RowSpace
from torchlpr.errors import InputError

__all__ = ["Shape", "build", "choose_shape", "load_factor"]

Shape = Literal["auto", "row", "parameter"]


def choose_shape(
    n_rows: int, n_parameters: int, zero_mu: bool = False, memory_limit: int | None = None
) -> tuple[Shape, str]:
    """The cheaper exact shape, among those that fit into memory.

    Args:
        n_rows: number M of rows.
        n_parameters: number P of weights.
        zero_mu: whether some weight is not regularised.
        memory_limit: bytes, by default three quarters of what is free on the CPU.

    Returns:
        "row" or "parameter", and the reason in words, with the predicted memory.

    Raises:
        InputError: with sizes and alternatives, if nothing fits.
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
    shape, size = memory.fitting_shape(order, n_rows, n_parameters, limit)
    if shape != order[0]:
        return shape, f"{sizes}: the only one that fits into memory ({size})"
    return shape, f"{sizes}: {why} ({size})"


def build(
    rows: Tensor,
    mu: float | Tensor,
    shape: Shape = "auto",
    memory_limit: int | None = None,
) -> Factor:
    """Factorise H = R^T R + diag(mu).

    Args:
        rows: R, shape (M, P); computed in float64 whatever the dtype.
        mu: strength of the L2 term, a number or shape (P,).
        shape: "row", "parameter", or "auto" for the cheaper one that fits.
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
    if shape not in {"row", "parameter"}:
        raise InputError(f"shape {shape!r} is unknown; use 'auto', 'row' or 'parameter'")
    memory.fitting_shape((shape,), matrix.shape[0], matrix.shape[1], limit)
    if shape == "parameter":
        return ParameterSpace.from_rows(matrix, regulariser)
    if zero_mu:
        raise InputError("row space needs every mu positive; use shape='parameter'")
    return RowSpace(matrix, regulariser)


def load_factor(state: Mapping[str, Tensor]) -> Factor:
    """Rebuild a factor from its ``state_dict``.

    Args:
        state: as saved.

    Returns:
        The factor.
    """
    if "rows" in state:
        return RowSpace(state["rows"], state["mu"], state["triangle"])
    return ParameterSpace(state["triangle"], state["mu"], int(state["n_rows"]))
