r"""Quadratic forms g^T H^-1 g inside TorchScript, by the formulas of torchlpr.curvature."""

import torch
from torch import Tensor, nn

from torchlpr.curvature.row_space import (
    MAX_REFINEMENTS,
    REFINE_LIMIT,
    RELATIVE_ERROR,
)

__all__ = ["NoForms", "RowForms", "TriangleForms"]


class RowForms(nn.Module):
    r"""Residual form in row space, refined where K = I + R diag(1/mu) R^T is ill-conditioned.

    .. math::
        \alpha = K^{-1} R \, \mathrm{diag}(1/\mu) g, \quad r = g - R^\top \alpha, \quad
        g^\top H^{-1} g = r^\top \mathrm{diag}(1/\mu) r + |\alpha|^2

    Args:
        rows: R, shape (M, P), float64.
        mu: shape () or (P,).
        triangle: T with K = T^T T, shape (M, M).
    """

    rows: Tensor
    mu: Tensor
    triangle: Tensor

    def __init__(self, rows: Tensor, mu: Tensor, triangle: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("mu", mu)
        self.register_buffer("triangle", triangle)
        condition = 1.0 + float((rows.square() / mu).sum())  # trace bound, never below
        self.refinements = MAX_REFINEMENTS if condition > REFINE_LIMIT else 0
        self.accuracy = RELATIVE_ERROR

    def forward(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """g^T H^-1 g and the regulariser's part in it, shape (K, P) to (K,) each."""
        alpha = self._solve(self._weighted(gradients))
        residual = torch.addmm(gradients, alpha, self.rows, alpha=-1)
        for _ in range(self.refinements):
            error = self._weighted(residual) - alpha
            value = self._norm(residual) + alpha.square().sum(1)
            if bool((error.square().sum(1) <= self.accuracy * value).all()):
                break
            alpha = alpha + self._solve(error)
            residual = torch.addmm(gradients, alpha, self.rows, alpha=-1)
        regulariser = self._norm(residual)
        return regulariser + alpha.square().sum(1), regulariser

    def _solve(self, right: Tensor) -> Tensor:
        """Rows x with K x = right."""
        half = torch.linalg.solve_triangular(self.triangle, right, upper=True, left=False)
        return torch.linalg.solve_triangular(self.triangle.mT, half, upper=False, left=False)

    def _weighted(self, vectors: Tensor) -> Tensor:
        if self.mu.dim() > 0:
            return (vectors / self.mu) @ self.rows.mT
        return (vectors @ self.rows.mT) / self.mu  # no copy of the vectors

    def _norm(self, vectors: Tensor) -> Tensor:
        if self.mu.dim() > 0:
            return (vectors.square() / self.mu).sum(1)
        return torch.linalg.vector_norm(vectors, dim=1).square() / self.mu


class TriangleForms(nn.Module):
    r"""Parameter space: :math:`g^\top H^{-1} g = |T^{-\top} g|^2` with H = T^T T.

    Args:
        triangle: T, shape (P, P), float64.
        mu: shape () or (P,).
    """

    triangle: Tensor
    mu: Tensor

    def __init__(self, triangle: Tensor, mu: Tensor) -> None:
        super().__init__()
        self.register_buffer("triangle", triangle)
        self.register_buffer("mu", mu.expand(len(triangle)).clone())

    def forward(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """g^T H^-1 g and the regulariser's part in it, shape (K, P) to (K,) each."""
        half = torch.linalg.solve_triangular(self.triangle, gradients, upper=True, left=False)
        v = torch.linalg.solve_triangular(self.triangle.mT, half, upper=False, left=False)
        return half.square().sum(1), v.square() @ self.mu


class NoForms(nn.Module):
    """The place of a factor in a model that was exported without rigidity."""

    def forward(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Refuse."""
        raise RuntimeError("this model was exported without rigidity")
