r"""Row space without its strongest directions, where the difference form keeps its digits.

Gradients of atoms have most of their length in common, along the largest singular vectors of the
rows: there the difference form of :mod:`torchlpr.curvature.row_space` cancels. The splitting of
:mod:`torchlpr.curvature.deflation`, which is exact whatever the directions, damps them:

    g^T H^-1 g = g'^T (Z^T Z + mu I)^-1 g',   g' = P^-1/2 g,   Z = (I - U U^T) R P^-1/2

and with z = (Z^T Z + mu I)^-1 g' the regulariser's share is mu z^T P^-1 z. What is left of the
rows is so weak beside mu that products with it may be taken in float32: their error is bounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.deflation import Deflated, strongest_directions
from torchlpr.curvature.factor import QuadraticForm
from torchlpr.curvature.float32_rows import Bounded, Float32Rows
from torchlpr.curvature.products import DenseRows, Scaled
from torchlpr.curvature.row_space import RowSpace
from torchlpr.errors import InputError
from torchlpr.models.affine import affine

__all__ = ["DeflatedRows"]

DIRECTIONS = 16
FLOAT32_DIRECTIONS = 32  # the bound falls with the square of the strongest that is left


class DeflatedRows:
    """Quadratic forms of gradients by what remains of the rows.

    Args:
        factor: in row space, with one mu; it stays as it is.
        float32_error: largest relative error of a rigidity, and error of a mu-fraction, that
            products in float32 may make; zero takes them in float64.
    """

    def __init__(self, factor: RowSpace, float32_error: float = 0.0) -> None:
        rows, self.mu, self.n_parameters = factor.rows, factor.mu, factor.n_parameters
        scaled = Scaled(DenseRows(rows), self.mu)
        m, p = rows.shape
        rank = min(FLOAT32_DIRECTIONS if float32_error else DIRECTIONS, m, p)
        left, values, right = strongest_directions(scaled, m, p, rank, rows, rank)
        self._map = Deflated(scaled, left, values, right)
        remaining = torch.addmm(rows, left.mT, left @ rows, alpha=-1)
        exact = RowSpace(self._map.half_(remaining), self.mu)
        self._inside = remaining @ right.mT
        self._damping = values.square() / (1 + values.square())
        self.float32_error = float32_error
        self.factor = Float32Rows(exact) if float32_error else exact

    def quadratic_form_(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g; the gradients are overwritten.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each.

        Raises:
            InputError: if the bound of the error of products in float32 is too large.
        """
        damped = self._map.half_(gradients)
        if isinstance(self.factor, RowSpace):
            forms, alpha = self.factor.forms_and_alpha(damped)
            share = forms.regulariser - self._lost(damped, alpha)
            return QuadraticForm(forms.value, share.clamp(min=0))
        found = self.factor.quadratic_form(damped)
        lost = self._lost(damped, found.alpha)
        self._check(found, lost)
        return QuadraticForm(found.forms.value, (found.forms.regulariser - lost).clamp(min=0))

    def values_(self, gradients: Tensor) -> Tensor:
        """g^T H^-1 g without the regulariser's share; the gradients are overwritten.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Shape (K,).

        Raises:
            InputError: if the bound of the error of products in float32 is too large.
        """
        if isinstance(self.factor, RowSpace):
            return self.factor.values(self._map.half_(gradients))
        return self.quadratic_form_(gradients).value

    def _lost(self, damped: Tensor, alpha: Tensor) -> Tensor:
        """What the damped directions take away from the regulariser's share."""
        inside = affine(damped, self._map.right)
        left = torch.addmm(inside, alpha, self._inside, alpha=-1)  # of mu z
        return (left.square() * self._damping).sum(1) / self.mu

    def _check(self, found: Bounded, lost: Tensor) -> None:
        """Refuse where float32 may show in a rigidity or a mu-fraction."""
        root = found.alpha_error * torch.linalg.matrix_norm(self._inside) / self.mu.sqrt()
        of_share = found.share_error + root * (2 * lost.sqrt() + root)
        bound, value = found.value_error + of_share, found.forms.value
        # NaN is refused too; a gradient of zeros has an error of its own
        refused = ~(bound <= self.float32_error * value) & (value != 0)
        if bool(refused.any()):
            worst = float((bound / value.clamp(min=0))[refused].nan_to_num(torch.inf).max())
            raise InputError(
                f"products in float32 may change a rigidity or a mu-fraction by {worst:.1e}, more "
                f"than float32_error={self.float32_error:.1e}: mu is small beside the rows; allow "
                "that error, or leave float32_error at 0 for float64"
            )
