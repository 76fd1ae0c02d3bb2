r"""Quadratic forms g^T H^-1 g inside TorchScript, by the formulas of torchlpr.curvature."""

import torch
from torch import Tensor, nn

from torchlpr.curvature.residual_form import MAX_REFINEMENTS, REFINE_LIMIT, VALUE_ERROR
from torchlpr.curvature.row_space import DIFFERENCE_ERROR
from torchlpr.models.triangular import solve_gram_rows, solve_rows

__all__ = ["NoForms", "RowForms", "TriangleForms", "TruncatedForms"]


class RowForms(nn.Module):
    r"""Row space: the difference form where its rounding is negligible, else the residual form.

    .. math::
        g^\top H^{-1} g &= (|g|^2 - (R g)^\top \alpha) / \mu, \qquad
            \alpha = (\mu I + R R^\top)^{-1} R g \\
        &= |g - R^\top \alpha|^2 / \mu + |\alpha|^2

    The second is refined where K = I + R R^T/mu is ill-conditioned.

    Args:
        rows: R, shape (M, P), float64.
        mu: shape ().
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
        self.condition = 1.0 + float((rows.square() / mu).sum())  # trace bound, never below
        self.refinements = MAX_REFINEMENTS if self.condition > REFINE_LIMIT else 0
        self.value_accuracy = VALUE_ERROR
        self.eps, self.negligible = torch.finfo(torch.float64).eps, DIFFERENCE_ERROR

    def forward(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """g^T H^-1 g and the regulariser's part in it, shape (K, P) to (K,) each."""
        weighted, norm = self._weighted(gradients), self._norm(gradients)
        alpha = self._solve(weighted)
        data = alpha.square().sum(1)
        value = norm - (weighted * alpha).sum(1)
        regulariser = value - data
        error = 2 * self.eps * (norm + self.condition * data)
        # not "where greater": NaN and negative numbers must go the safe way too
        unsafe = (~(error <= self.negligible * regulariser)).nonzero().squeeze(1)
        if len(unsafe) > 0:
            exact = self._residual(gradients[unsafe], alpha[unsafe])
            value[unsafe], regulariser[unsafe] = exact
        return value, regulariser

    def _residual(self, gradients: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The residual form, refined and corrected for what is left of the error of alpha."""
        residual = torch.addmm(gradients, alpha, self.rows, alpha=-1)
        share = self._norm(residual)
        value = share + alpha.square().sum(1)
        if self.refinements == 0:
            return value, share
        error = self._weighted(residual) - alpha
        for _ in range(self.refinements):
            if float((error.square().sum(1) / value).max()) <= self.value_accuracy:
                break
            alpha = alpha + self._solve(error)
            residual = torch.addmm(gradients, alpha, self.rows, alpha=-1)
            share = self._norm(residual)
            value = share + alpha.square().sum(1)
            error = self._weighted(residual) - alpha
        step = self._solve(error)
        gained = (error * step).sum(1)
        return value - gained, share - gained - ((2 * alpha + step) * step).sum(1)

    def _solve(self, right: Tensor) -> Tensor:
        """Rows x with K x = right."""
        return solve_gram_rows(self.triangle, right)

    def _weighted(self, vectors: Tensor) -> Tensor:
        return (vectors @ self.rows.mT) / self.mu  # no copy of the vectors

    def _norm(self, vectors: Tensor) -> Tensor:
        return torch.linalg.vector_norm(vectors, dim=1).square() / self.mu


class TruncatedForms(nn.Module):
    r"""Row space without its weak directions, those with s_i^2 <= tolerance mu.

    .. math::
        q = \sum_{i \le k} \frac{(u_i^\top g)^2}{s_i^2 + \mu} + \frac{|g_\perp|^2}{\mu},
        \qquad q \ge g^\top H^{-1} g \ge \frac{q}{1 + \mathrm{tolerance}}

    with the strongest singular values s_i and right singular vectors u_i of R, and what of g is
    orthogonal to these. So 1/q is never above the rigidity, and below it by at most the
    tolerance, whatever the atom.

    Args:
        rows: R, shape (M, P), float64.
        mu: shape ().
        tolerance: largest relative error, positive.
    """

    directions: Tensor
    strengths: Tensor
    mu: Tensor

    def __init__(self, rows: Tensor, mu: Tensor, tolerance: float) -> None:
        super().__init__()
        _, s, u = torch.linalg.svd(rows, full_matrices=False)
        kept = s.square() > tolerance * mu
        self.register_buffer("directions", u[kept].clone())
        self.register_buffer("strengths", s[kept].square())
        self.register_buffer("mu", mu)
        self.eps, self.negligible = torch.finfo(torch.float64).eps, DIFFERENCE_ERROR

    def forward(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The bound of g^T H^-1 g and the regulariser's part, shape (K, P) to (K,) each."""
        b = gradients @ self.directions.mT
        norm = torch.linalg.vector_norm(gradients, dim=1).square()
        rest = norm - b.square().sum(1)
        h = self.strengths + self.mu
        data = (b.square() / h).sum(1)
        # where the difference has cancelled the remainder is computed
        error = 2 * self.eps * norm / self.mu
        unsafe = (~(error <= self.negligible * (data + rest / self.mu))).nonzero().squeeze(1)
        if len(unsafe) > 0:
            left = torch.addmm(gradients[unsafe], b[unsafe], self.directions, alpha=-1)
            rest[unsafe] = torch.linalg.vector_norm(left, dim=1).square()
        regulariser = rest / self.mu + self.mu * (b / h).square().sum(1)
        return data + rest / self.mu, regulariser


class TriangleForms(nn.Module):
    r"""Parameter space: :math:`g^\top H^{-1} g = |T^{-\top} g|^2` with H = T^T T.

    Args:
        triangle: T, shape (P, P), float64.
        mu: shape ().
    """

    triangle: Tensor
    mu: Tensor

    def __init__(self, triangle: Tensor, mu: Tensor) -> None:
        super().__init__()
        self.register_buffer("triangle", triangle)
        self.register_buffer("mu", mu)

    def forward(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """g^T H^-1 g and the regulariser's part in it, shape (K, P) to (K,) each."""
        half = solve_rows(self.triangle, gradients, upper=True)
        v = solve_rows(self.triangle.mT, half, upper=False)
        return half.square().sum(1), self.mu * v.square().sum(1)


class NoForms(nn.Module):
    """The place of a factor in a model that was exported without rigidity."""

    def forward(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Refuse."""
        raise RuntimeError("this model was exported without rigidity")
