r"""Parameter space: a P x P triangle, for more rows than parameters.

T is the triangle of the stacked QR factorisation

    [R; diag(sqrt(mu))] = Q T,    H = T^T T,    g^T H^-1 g = |T^-T g|^2

The rows are never squared (as a Cholesky factor of H would), so that small mu keeps its digits.
Blocks of rows are folded in one after the other; memory is that of a few P x P matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm, qr_triangle
from torchlpr.errors import InputError

__all__ = ["ParameterSpace"]


class ParameterSpace:
    """Gauss-Newton Hessian kept as its P x P triangle.

    Args:
        triangle: upper triangle T with H = T^T T, shape (P, P), float64.
        mu: strength of the regulariser, shape () or (P,), zeros allowed where rows determine
            the weight.
        n_rows: number M of rows that went in.
    """

    shape_name = "parameter space"

    def __init__(self, triangle: Tensor, mu: Tensor, n_rows: int) -> None:
        self.n_rows, self.n_parameters = n_rows, triangle.shape[1]
        self.mu = mu
        self._triangle = triangle

    @classmethod
    def from_rows(cls, rows: Tensor, mu: Tensor) -> ParameterSpace:
        """Fold rows and regulariser into the triangle.

        Args:
            rows: R, shape (M, P), float64.
            mu: shape () or (P,).

        Returns:
            The factor.

        Raises:
            InputError: if H is singular: a weight with mu = 0 that no row determines.
        """
        n = rows.shape[1]
        triangle = rows[:0]
        for block in rows.split(max(4 * n, 1024)):
            triangle = qr_triangle(triangle, block)
        # the small sqrt(mu) rows go last: Householder QR then keeps their relative accuracy
        root = torch.diag(mu.sqrt().expand(n))
        triangle = qr_triangle(triangle, root)
        pivots = triangle.detach().diagonal().abs()
        smallest = float(pivots.min() / pivots.max())
        if not smallest > n * torch.finfo(torch.float64).eps:
            raise InputError(
                f"H ({n} x {n}) is singular: pivot {int(pivots.argmin())} is {smallest:.1e} of "
                "the largest; give that weight a larger mu"
            )
        return cls(triangle, mu, rows.shape[0])

    def quadratic_form(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g and the regulariser's share.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each.
        """
        half = torch.linalg.solve_triangular(self._triangle, gradients, upper=True, left=False)
        v = torch.linalg.solve_triangular(self._triangle.mT, half, upper=False, left=False)
        return QuadraticForm(half.square().sum(1), (self.mu * v.square()).sum(1))

    def solve(self, vectors: Tensor) -> Tensor:
        """H^-1 v.

        Args:
            vectors: shape (K, P), float64.

        Returns:
            Shape (K, P).
        """
        half = torch.linalg.solve_triangular(self._triangle, vectors, upper=True, left=False)
        return torch.linalg.solve_triangular(self._triangle.mT, half, upper=False, left=False)

    def effective_dof(self) -> float:
        """tr(H^-1 R^T R) = P - tr(H^-1 diag(mu))."""
        root = torch.diag(self.mu.sqrt().expand(self.n_parameters))
        half = torch.linalg.solve_triangular(self._triangle, root, upper=True, left=False)
        return float(self.n_parameters - half.square().sum())

    def state_dict(self) -> dict[str, Tensor]:
        """Triangle, mu and the number of rows."""
        rows = torch.tensor(self.n_rows)
        return {"triangle": self._triangle, "mu": self.mu, "n_rows": rows}
