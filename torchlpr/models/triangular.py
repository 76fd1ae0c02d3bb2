"""Rows times the inverse of a triangle."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["solve_gram_rows", "solve_rows"]


def solve_rows(triangle: Tensor, rows: Tensor, upper: bool) -> Tensor:
    """X with X T = B.

    As T^T X^T = B^T, in which a row-major B is in LAPACK's order: up to four times faster for few
    rows.

    Args:
        triangle: T, shape (n, n), or one for each batch of rows, (..., n, n).
        rows: B, shape (..., k, n).
        upper: whether T is an upper triangle.

    Returns:
        Shape (..., k, n).
    """
    shape = rows.shape
    if triangle.ndim == 2:  # or torch would copy T for each batch
        rows = rows.flatten(0, -2)
    return torch.linalg.solve_triangular(triangle.mT, rows.mT, upper=not upper).mT.reshape(shape)


def solve_gram_rows(triangle: Tensor, rows: Tensor) -> Tensor:
    """X with X T^T T = B, for an upper triangle.

    Args:
        triangle: T, shape (n, n).
        rows: B, shape (k, n).

    Returns:
        Shape (k, n).
    """
    return solve_rows(triangle.mT, solve_rows(triangle, rows, upper=True), upper=False)
