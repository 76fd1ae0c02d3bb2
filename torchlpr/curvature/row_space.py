r"""Row space: exact quadratic forms from an M x M system, for fewer rows than parameters.

In coordinates scaled by 1/sqrt(mu) (so that H = mu (I + R^T R)) and with K = I + R R^T,

    alpha = K^-1 R g,   r = g - R^T alpha,   g^T H^-1 g = |r|^2 + |alpha|^2

This residual form is the minimum over alpha of a sum of squares: nothing cancels, and an error
in alpha enters squared. For any alpha the error is at most |R r - alpha|^2, which is computed
and driven down by refinement where K is ill-conditioned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm, qr_triangle

__all__ = ["RowSpace"]

# Cholesky of K squares the condition number of R; beyond this K is factorised by QR of [R^T; I]
CHOLESKY_LIMIT = 1e10
# beyond this eps * cond(K) may show in alpha, and the computed error bound is asked for
REFINE_LIMIT = 1e7
RELATIVE_ERROR = 1e-11
MAX_REFINEMENTS = 5


class RowSpace:
    """Gauss-Newton Hessian kept as its rows and the factor of an M x M matrix.

    Args:
        rows: R, shape (M, P), float64.
        mu: strength of the regulariser, shape () or (P,), all positive.
        triangle: upper factor T of K = T^T T, where it is already known, shape (M, M).
    """

    shape_name = "row space"

    def __init__(self, rows: Tensor, mu: Tensor, triangle: Tensor | None = None) -> None:
        self.n_rows, self.n_parameters = rows.shape
        self.mu = mu
        self._rows = rows
        self._scaled = rows * mu.rsqrt()  # [m, p]
        self.condition = 1.0 + float(
            self._scaled.detach().square().sum()
        )  # trace bound, never below
        self._triangle = self._factorise() if triangle is None else triangle

    def _factorise(self) -> Tensor:
        identity = torch.eye(self.n_rows, dtype=torch.float64, device=self._rows.device)
        if self.condition < CHOLESKY_LIMIT:
            gram = self._scaled @ self._scaled.mT
            return torch.linalg.cholesky(gram + identity, upper=True)
        return qr_triangle(self._scaled.mT, identity)

    def _solve_gram(self, right: Tensor) -> Tensor:
        """Rows x with K x = right, shape (k, M) to (k, M)."""
        half = torch.linalg.solve_triangular(self._triangle, right, upper=True, left=False)
        return torch.linalg.solve_triangular(self._triangle.mT, half, upper=False, left=False)

    def _project(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """The pair alpha (k, M) and the residual r = g - R^T alpha (k, P) of scaled gradients."""
        alpha = self._solve_gram(scaled @ self._scaled.mT)
        residual = scaled - alpha @ self._scaled
        if self.condition <= REFINE_LIMIT:
            return alpha, residual
        for _ in range(MAX_REFINEMENTS):
            error = residual @ self._scaled.mT - alpha
            value = residual.square().sum(1) + alpha.square().sum(1)
            if bool((error.square().sum(1) <= RELATIVE_ERROR * value).all()):
                return alpha, residual
            alpha = alpha + self._solve_gram(error)
            residual = scaled - alpha @ self._scaled
        return alpha, residual

    def quadratic_form(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g by the residual form.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each.
        """
        alpha, residual = self._project(gradients * self.mu.rsqrt())
        regulariser = residual.square().sum(1)
        return QuadraticForm(regulariser + alpha.square().sum(1), regulariser)

    def solve(self, vectors: Tensor) -> Tensor:
        """H^-1 v.

        Args:
            vectors: shape (K, P), float64.

        Returns:
            Shape (K, P).
        """
        _, residual = self._project(vectors * self.mu.rsqrt())
        return residual * self.mu.rsqrt()

    def effective_dof(self) -> float:
        """tr(H^-1 R^T R) = M - tr(K^-1), as a sum over eigenvalues that cannot cancel."""
        s = torch.linalg.svdvals(self._triangle).square()  # eigenvalues of K, at least 1
        return float(((s - 1) / s).clamp(min=0).sum())

    def state_dict(self) -> dict[str, Tensor]:
        """Rows, mu and the triangle."""
        return {"rows": self._rows, "mu": self.mu, "triangle": self._triangle}
