r"""Several strengths of the regulariser from one decomposition.

With the singular value decomposition R = U S V^T (columns scaled by the relative strengths where
they differ), p = V^T g and g_perp = g - V p,

    g^T H^-1 g = sum_j p_j^2 / (s_j^2 + mu) + |g_perp|^2 / mu

so that every further mu costs one division an entry of p, and no product with the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm, qr_triangle
from torchlpr.errors import InputError

__all__ = ["Spectrum"]

TOLERANCE = 1e-8  # relative error that rounding of the decomposition may cause


class Spectrum:
    """Singular values and right singular vectors of the rows.

    Args:
        basis: V^T, orthonormal rows, shape (r, P), float64.
        values: eigenvalues of V^T (R^T R + shift) V, shape (r,).
        shift: regulariser that the eigenvalues contain already.
        weights: relative strengths of the regulariser, shape (P,), positive, or None for ones.
    """

    def __init__(
        self, basis: Tensor, values: Tensor, shift: float = 0.0, weights: Tensor | None = None
    ) -> None:
        self._basis, self._values = basis, values
        self._shift, self._weights = shift, weights

    @classmethod
    def from_rows(cls, rows: Tensor, weights: Tensor | None = None) -> Spectrum:
        """Decompose rows.

        Args:
            rows: R, shape (M, P), float64.
            weights: relative strengths of the regulariser, shape (P,), or None.

        Returns:
            The spectrum, r = min(M, P).
        """
        scaled = rows if weights is None else rows * weights.rsqrt()
        if rows.shape[0] >= rows.shape[1]:
            return cls.from_triangle(qr_triangle(scaled), 0.0, weights)
        q, r = torch.linalg.qr(scaled.mT)  # r = W S Z^T, R = r^T q^T = Z S (q W)^T
        w, s, _ = torch.linalg.svd(r, full_matrices=False)
        return cls(w.mT @ q.mT, s.square(), 0.0, weights)

    @classmethod
    def from_triangle(
        cls, triangle: Tensor, shift: float = 0.0, weights: Tensor | None = None
    ) -> Spectrum:
        """Decompose a triangle T with T^T T = R^T R + shift, columns scaled already.

        Args:
            triangle: shape (r, P).
            shift: regulariser that it contains.
            weights: relative strengths that its columns were divided by the roots of.

        Returns:
            The spectrum.
        """
        _, s, vt = torch.linalg.svd(triangle, full_matrices=False)
        return cls(vt, s.square(), shift, weights)

    def accurate(self, mu: float) -> bool:
        """Whether rounding stays below 1e-8 of g^T H^-1 g at this mu.

        Singular values are known to eps s_max, which enters s^2 + mu twice times s, and what is
        outside the basis to eps |g|.

        Args:
            mu: strength of the regulariser.

        Returns:
            The verdict.
        """
        if not len(self._values):
            return True
        roots, eps = self._values.sqrt(), torch.finfo(torch.float64).eps
        error = 2 * eps * roots * roots.max()
        inside = bool((error <= TOLERANCE * (self._values + (mu - self._shift))).all())
        if self._basis.shape[0] == self._basis.shape[1]:
            return inside
        return inside and eps * float(roots.max()) <= TOLERANCE * mu**0.5

    def quadratic_forms(self, gradients: Tensor, mus: Sequence[float]) -> QuadraticForm:
        """g^T H^-1 g at every mu.

        Args:
            gradients: shape (K, P), float64.
            mus: strengths of the regulariser (times the weights), positive.

        Returns:
            Values and regulariser shares, shape (mus, K) each.
        """
        self._check(mus)
        scaled = gradients if self._weights is None else gradients * self._weights.rsqrt()
        p = scaled @ self._basis.mT  # [k, r]
        squares = p.square().mT
        outside = scaled.new_zeros(len(scaled))
        if self._basis.shape[0] < self._basis.shape[1]:
            outside = torch.addmm(scaled, p, self._basis, alpha=-1).square_().sum(1)
        mu = torch.as_tensor(list(mus), dtype=torch.float64, device=p.device).unsqueeze(1)
        inverse = 1.0 / (self._values + (mu - self._shift))  # [mu, r]
        perpendicular = outside / mu
        value = inverse @ squares + perpendicular
        return QuadraticForm(value, mu * (inverse.square() @ squares) + perpendicular)

    def effective_dof(self, mus: Sequence[float]) -> Tensor:
        """tr(H^-1 R^T R) = sum_j s_j^2 / (s_j^2 + mu) at every mu, shape (mus,)."""
        self._check(mus)
        mu = torch.as_tensor(list(mus), dtype=torch.float64, device=self._values.device)
        squares = (self._values - self._shift).clamp(min=0)
        return (squares / (self._values + (mu.unsqueeze(1) - self._shift))).sum(1)

    def _check(self, mus: Sequence[float]) -> None:
        for mu in mus:
            if not self.accurate(mu):
                raise InputError(
                    f"mu = {mu:.3g} lies below what this decomposition resolves to "
                    f"{TOLERANCE:.0e}; build the rigidity anew at that mu"
                )
