r"""Row space without its strongest directions, where the difference form keeps its digits.

Gradients of atoms have most of their length in common, along the largest singular vectors of the
rows: there the difference form of :mod:`torchlpr.curvature.row_space` cancels. With orthonormal V
along these, b = V^T g, A = V^T (R^T R + mu) V, R' = R - R V V^T and C = V^T R^T R',

    g^T H^-1 g = b^T A^-1 b + g'^T H'^-1 g',   g' = g - V b - C^T A^-1 b,

H' = R'^T R' + mu I, but for C^T A^-1 C in H', which is of second order in the error of V and
checked to be negligible.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm
from torchlpr.curvature.row_space import RowSpace

__all__ = ["DeflatedRows"]

DIRECTIONS = 16
OVERSAMPLING = 16
ITERATIONS = 30
WEAKEST = 1e-6  # eigenvalue of R R^T that is still taken out, beside the largest
NEGLIGIBLE = 1e-12


class DeflatedRows:
    """Quadratic forms of gradients by what remains of the rows, and a few directions.

    Args:
        factor: in row space, with one mu; it stays as it is.
    """

    def __init__(self, factor: RowSpace) -> None:
        rows, mu = factor.rows, factor.mu
        basis = _strongest(factor)
        while True:
            image = rows @ basis  # R V
            left = torch.addmm(rows, image, basis.mT, alpha=-1)  # R'
            block = image.mT @ image + mu * torch.eye(image.shape[1]).to(image)
            coupling = image.mT @ left  # C
            self._triangle = torch.linalg.cholesky(block)
            half = torch.linalg.solve_triangular(self._triangle, coupling, upper=False)
            if float(half.square().sum()) <= NEGLIGIBLE * float(mu):
                break
            basis = basis[:, : basis.shape[1] // 2]  # the first converge first
        self._basis = basis
        solved = torch.linalg.solve_triangular(self._triangle.mT, half, upper=True)
        self._removed = basis.mT + solved  # V^T + A^-1 C
        self.mu, self.n_parameters = mu, factor.n_parameters
        self.factor = RowSpace(left, mu)

    def quadratic_form_(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g; the gradients are overwritten.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each.
        """
        b = gradients @ self._basis
        half = torch.linalg.solve_triangular(self._triangle, b.mT, upper=False)
        top = torch.linalg.solve_triangular(self._triangle.mT, half, upper=True)
        value, regulariser = self.factor.quadratic_form(
            gradients.addmm_(b, self._removed, alpha=-1)
        )
        return QuadraticForm(
            value + half.square().sum(0), regulariser + self.mu * top.square().sum(0)
        )


def _strongest(factor: RowSpace) -> Tensor:
    """Orthonormal right singular vectors of the rows, strongest first, by subspace iteration."""
    triangle = factor.triangle
    count = min(factor.n_rows, DIRECTIONS + OVERSAMPLING)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(factor.n_rows, count, generator=generator, dtype=torch.float64)
    x = x.to(triangle.device)
    for _ in range(ITERATIONS):
        x = torch.linalg.qr(triangle.mT @ (triangle @ x)).Q
    values, vectors = torch.linalg.eigh((triangle @ x).mT @ (triangle @ x))
    kept = int((values >= WEAKEST * values[-1]).sum())
    left = x @ vectors.flip(1)[:, : min(kept, DIRECTIONS)]
    return torch.linalg.qr(factor.rows.mT @ left).Q
