"""Choosing between the shapes of the Gauss-Newton Hessian, and saying why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from torchlpr.curvature.factor import Factor, check_finite, regulariser_vector
from torchlpr.curvature.parameter_space import ParameterSpace
from torchlpr.curvature.row_space import RowSpace
from torchlpr.errors import InputError

__all__ = ["Shape", "build", "choose_shape", "load_factor"]

Shape = Literal["auto", "row", "parameter"]


def choose_shape(n_rows: int, n_parameters: int, zero_mu: bool = False) -> tuple[Shape, str]:
    """The cheaper exact shape.

    Args:
        n_rows: number M of rows.
        n_parameters: number P of weights.
        zero_mu: whether some weight is not regularised.

    Returns:
        "row" or "parameter", and the reason in words.
    """
    sizes = f"{n_rows} rows, {n_parameters} parameters"
    if zero_mu:
        return "parameter", f"{sizes}: a weight without regulariser needs the P x P triangle"
    if n_rows <= n_parameters:
        return "row", f"{sizes}: the M x M system is the smaller one"
    return "parameter", f"{sizes}: the P x P triangle is the smaller one"


def build(rows: Tensor, mu: float | Tensor, shape: Shape = "auto") -> Factor:
    """Factorise H = R^T R + diag(mu).

    Args:
        rows: R, shape (M, P); computed in float64 whatever the dtype.
        mu: strength of the L2 term, a number or shape (P,).
        shape: "row", "parameter", or "auto" for the cheaper one.

    Returns:
        The factor.

    Raises:
        InputError: if the input is not finite, mu is not allowed, or the shape is unknown or
            cannot hold the problem.
    """
    matrix = check_finite("row", rows)
    regulariser = regulariser_vector(mu, matrix)
    zero_mu = bool((regulariser == 0).any())
    if shape == "auto":
        shape, _ = choose_shape(matrix.shape[0], matrix.shape[1], zero_mu)
    if shape == "row":
        if zero_mu:
            raise InputError("row space needs every mu positive; use shape='parameter'")
        return RowSpace(matrix, regulariser)
    if shape == "parameter":
        return ParameterSpace.from_rows(matrix, regulariser)
    raise InputError(f"shape {shape!r} is unknown; use 'auto', 'row' or 'parameter'")


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
