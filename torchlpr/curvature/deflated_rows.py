r"""Row space without its strongest directions, where the difference form keeps its digits.

Gradients of atoms have most of their length in common, along the largest singular vectors of the
rows: there the difference form of :mod:`torchlpr.curvature.row_space` cancels. The splitting of
:mod:`torchlpr.curvature.deflation`, which is exact whatever the directions, damps them:

    g^T H^-1 g = g'^T (Z^T Z + mu I)^-1 g',   g' = P^-1/2 g,   Z = (I - U U^T) R P^-1/2

and with z = (Z^T Z + mu I)^-1 g' the regulariser's share is mu z^T P^-1 z.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.deflation import Deflated, strongest_directions
from torchlpr.curvature.factor import QuadraticForm
from torchlpr.curvature.products import DenseRows, Scaled
from torchlpr.curvature.row_space import RowSpace

__all__ = ["DeflatedRows"]

DIRECTIONS = 16


class DeflatedRows:
    """Quadratic forms of gradients by what remains of the rows.

    Args:
        factor: in row space, with one mu; it stays as it is.
    """

    def __init__(self, factor: RowSpace) -> None:
        rows, self.mu, self.n_parameters = factor.rows, factor.mu, factor.n_parameters
        scaled = Scaled(DenseRows(rows), self.mu)
        m, p = rows.shape
        rank = min(DIRECTIONS, m, p)
        left, values, right = strongest_directions(scaled, m, p, rank, rows, rank)
        self._map = Deflated(scaled, left, values, right)
        remaining = torch.addmm(rows, left.mT, left @ rows, alpha=-1)
        self.factor = RowSpace(self._map.half_(remaining), self.mu)
        self._inside = remaining @ right.mT
        self._lost = values.square() / (1 + values.square())

    def quadratic_form_(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g; the gradients are overwritten.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each.
        """
        damped = self._map.half_(gradients)
        forms, alpha = self.factor.forms_and_alpha(damped)
        inside = torch.addmm(damped @ self._map.right.mT, alpha, self._inside, alpha=-1)  # mu z
        lost = (inside.square() * self._lost).sum(1) / self.mu
        return QuadraticForm(forms.value, (forms.regulariser - lost).clamp(min=0))
