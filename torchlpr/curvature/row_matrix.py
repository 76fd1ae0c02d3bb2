"""What is done with a matrix of rows: all their products, and finding some again."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["Gram", "find_rows", "gram_matrix"]

GRAM_BLOCK = 128
# rows computed twice differ by rounding; different structures differ by far more
SAME_ROW = 1e-9


class Gram:
    """R R^T, computed where it is first needed and once for all factors of the same rows.

    Args:
        rows: R, shape (M, P).
        matrix: R R^T, where it is already known.
    """

    def __init__(self, rows: Tensor, matrix: Tensor | None = None) -> None:
        self._rows = rows
        if matrix is not None:
            self.matrix = matrix

    @cached_property
    def matrix(self) -> Tensor:
        """Shape (M, M)."""
        return gram_matrix(self._rows)

    def kept(self, keep: Tensor, rows: Tensor) -> Gram:
        """That of some of the rows, cut from this one where it has been computed.

        Args:
            keep: which rows, shape (m,).
            rows: they themselves, shape (m, P).

        Returns:
            The products.
        """
        known = vars(self).get("matrix")
        return Gram(rows, None if known is None else known[keep][:, keep])


def gram_matrix(rows: Tensor) -> Tensor:
    """R R^T by its lower half, at little more than half the flops.

    Args:
        rows: R, shape (M, P).

    Returns:
        Shape (M, M), differentiable where R is.
    """
    if rows.requires_grad:
        return rows @ rows.mT
    gram = rows.new_empty(len(rows), len(rows))
    for start in range(0, len(rows), GRAM_BLOCK):
        stop = min(start + GRAM_BLOCK, len(rows))
        block = rows[start:] @ rows[start:stop].mT
        gram[start:, start:stop] = block
        gram[start:stop, stop:] = block[stop - start :].mT
    return gram


def find_rows(matrix: Tensor, rows: Tensor) -> Tensor:
    """Which rows remain when some are taken out.

    Args:
        matrix: all rows, shape (M, P).
        rows: those to take out, shape (k, P); a row given twice is taken out twice.

    Returns:
        Increasing indices of the rows that remain, shape (M - k,).

    Raises:
        InputError: naming the first row that is not there.
    """
    matrix, rows = matrix.detach(), rows.detach()
    present = torch.ones(len(matrix), dtype=torch.bool, device=matrix.device)
    sizes = matrix.square().sum(1) if len(rows) else matrix.new_zeros(0)
    for number, row in enumerate(rows):
        size = row.square().sum()
        # the expanded square is cheap but has half the digits: it only nominates
        nominated = (sizes + size - 2 * (matrix @ row)).abs() <= 1e-6 * size
        candidates = (nominated & present).nonzero().squeeze(1)
        distances = (matrix[candidates] - row).square().sum(1)
        if not len(candidates) or not bool(distances.min() <= SAME_ROW**2 * size):
            raise InputError(
                f"row {number} of those to remove is not among the {len(matrix)} rows of this "
                "factor; remove structures that were trained on, with the same model and weights"
            )
        present[candidates[distances.argmin()]] = False
    return present.nonzero().squeeze(1)
