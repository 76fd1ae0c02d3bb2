r"""Row space with its columns shared among ranks, for rows that are too long for one process.

Each rank holds the columns R_b of all M rows for a block b of the weights, and

    K = I + sum_b R_b diag(1/mu_b) R_b^T,    alpha = K^-1 sum_b R_b diag(1/mu_b) g_b,
    g^T H^-1 g = sum_b r_b^T diag(1/mu_b) r_b + |alpha|^2,   r_b = g_b - R_b^T alpha

is the residual form of :mod:`torchlpr.curvature.row_space` with two sums over the ranks: a sum of
squares of partial sums of squares, in which nothing cancels. Where K is too ill-conditioned for
Cholesky its factor is merged from those of the blocks by QR.

Every rank brings its own gradients and gets its own numbers; columns change hands on the way.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm, qr_triangle
from torchlpr.curvature.residual_form import (
    MAX_REFINEMENTS,
    REFINE_LIMIT,
    VALUE_ERROR,
    corrected,
)
from torchlpr.curvature.row_space import CHOLESKY_LIMIT, RowSpace
from torchlpr.curvature.triangles import stacked_triangle
from torchlpr.models.triangular import solve_gram_rows
from torchlpr.ranks import Ranks, even_shares

__all__ = ["ColumnSpace", "exchanged_columns"]


def exchanged_columns(matrix: Tensor, ranks: Ranks) -> Tensor:
    """Rows of all ranks in this rank's columns, for rows of this rank in all columns.

    Args:
        matrix: shape (k, P), k of each rank's own.
        ranks: the processes.

    Returns:
        Shape (sum of k, columns of this rank), in the order of the ranks.
    """
    columns = even_shares(matrix.shape[1], ranks.size)
    return torch.cat(ranks.exchange([matrix[:, block] for block in columns]))


class ColumnSpace:
    """Gauss-Newton Hessian kept as rows of which this rank has some columns.

    Args:
        rows: R_b, shape (M, columns of this rank), float64.
        mu: strength of the regulariser, shape () or (P,), all positive.
        n_parameters: number P of all columns.
        ranks: the processes; all call every method, in the same order.
        triangle: upper factor T of K = T^T T, where it is already known, shape (M, M).
    """

    shape_name = "row space in columns"

    def __init__(
        self,
        rows: Tensor,
        mu: Tensor,
        n_parameters: int,
        ranks: Ranks,
        triangle: Tensor | None = None,
    ) -> None:
        self.n_rows, self.n_parameters = len(rows), n_parameters
        self.mu, self.ranks, self._rows = mu, ranks, rows
        columns = even_shares(n_parameters, ranks.size)[ranks.rank]
        self._mu = mu[columns] if mu.ndim else mu.expand(rows.shape[1])
        squares = (block.square().mul_(1 / self._mu).sum() for block in rows.split(64))
        trace = torch.tensor([sum(map(float, squares))], dtype=torch.float64, device=rows.device)
        self.condition = 1.0 + float(ranks.sum(trace))
        self._triangle = self._factorise() if triangle is None else triangle

    @classmethod
    def of(cls, factor: RowSpace, ranks: Ranks) -> ColumnSpace:
        """Share a factor that every rank has.

        Args:
            factor: in row space, the same on all ranks.
            ranks: the processes.

        Returns:
            The shared factor, which keeps a copy of its own columns.
        """
        state = factor.state_dict()
        columns = even_shares(factor.n_parameters, ranks.size)[ranks.rank]
        mine = state["rows"][:, columns].clone()
        return cls(mine, state["mu"], factor.n_parameters, ranks, state["triangle"])

    def quadratic_form(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g by the residual form.

        Args:
            gradients: this rank's, shape (K, P), float64; K may differ, and be zero.

        Returns:
            Values and regulariser shares, shape (K,) each.
        """
        own, block = self._exchanged(gradients)
        alpha, residual, error = self._project(block)
        share = self.ranks.sum(self._norm(residual))
        value = share + alpha.square().sum(1)
        if error is not None:
            value, share = corrected(value, share, alpha, error, self._solve_gram(error))
        return QuadraticForm(value[own], share[own])

    def solve(self, vectors: Tensor) -> Tensor:
        """H^-1 v.

        Args:
            vectors: this rank's, shape (K, P), float64.

        Returns:
            Shape (K, P).
        """
        counts = self.ranks.counts(len(vectors))
        _, block = self._exchanged(vectors)
        _, residual, error = self._project(block)
        if error is not None:
            residual = torch.addmm(residual, self._solve_gram(error), self._rows, alpha=-1)
        solved = residual / self._mu
        back = self.ranks.exchange([part.mT.contiguous() for part in solved.split(counts)])
        return torch.cat(back).mT

    def effective_dof(self) -> float:
        """tr(H^-1 R^T R) = M - tr(K^-1), as a sum over eigenvalues that cannot cancel."""
        s = torch.linalg.svdvals(self._triangle).square()
        return float(((s - 1) / s).clamp(min=0).sum())

    def state_dict(self) -> dict[str, Tensor]:
        """The state of a :class:`RowSpace`: whole on the first rank, the others lack the rows."""
        rows = self.ranks.gather(self._rows, dim=1, first_only=True)
        shared = torch.tensor(self.ranks.size)
        return {"rows": rows, "mu": self.mu, "triangle": self._triangle, "shared": shared}

    def _exchanged(self, vectors: Tensor) -> tuple[slice, Tensor]:
        """Where this rank's vectors lie among those of all ranks, and all of them in a block."""
        counts = self.ranks.counts(len(vectors))
        start = sum(counts[: self.ranks.rank])
        return slice(start, start + len(vectors)), exchanged_columns(vectors, self.ranks)

    def _factorise(self) -> Tensor:
        identity = torch.eye(self.n_rows, dtype=torch.float64, device=self._rows.device)
        if self.condition < CHOLESKY_LIMIT:
            gram = sum(_products(self._rows, self._mu), torch.zeros_like(identity))
            return torch.linalg.cholesky(self.ranks.sum(gram) + identity, upper=True)
        root = self._mu.rsqrt().unsqueeze(1)
        mine = stacked_triangle(self._rows.mT, root, self._rows.new_empty(0, self.n_rows))
        return qr_triangle(self.ranks.combine(mine, qr_triangle), identity)

    def _solve_gram(self, right: Tensor) -> Tensor:
        """Rows x with K x = right, shape (k, M) to (k, M)."""
        return solve_gram_rows(self._triangle, right)

    def _weighted(self, block: Tensor) -> Tensor:
        """R diag(1/mu) v of each vector, shape (k, columns) to (k, M)."""
        return self.ranks.sum((block / self._mu) @ self._rows.mT)

    def _norm(self, block: Tensor) -> Tensor:
        """This rank's part of v^T diag(1/mu) v, shape (k, columns) to (k,)."""
        return (block.square() / self._mu).sum(1)

    def _project(self, block: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Alpha (k, M), this rank's part of r = g - R^T alpha, and R diag(1/mu) r - alpha."""
        alpha = self._solve_gram(self._weighted(block))
        residual = torch.addmm(block, alpha, self._rows, alpha=-1)
        if self.condition <= REFINE_LIMIT:
            return alpha, residual, None
        for refined in range(MAX_REFINEMENTS + 1):
            error = self._weighted(residual) - alpha
            value = self.ranks.sum(self._norm(residual)) + alpha.square().sum(1)
            small = (error.square().sum(1) <= VALUE_ERROR * value).all()
            if bool(small) or refined == MAX_REFINEMENTS:
                break
            alpha = alpha + self._solve_gram(error)
            residual = torch.addmm(block, alpha, self._rows, alpha=-1)
        return alpha, residual, error


def _products(rows: Tensor, mu: Tensor) -> Iterator[Tensor]:
    """R_b diag(1/mu_b) R_b^T in parts of the columns, so that no second copy of R_b is made."""
    step = max(1, rows.shape[0])
    for start in range(0, rows.shape[1], step):
        scaled = rows[:, start : start + step] * mu[start : start + step].rsqrt()
        yield scaled @ scaled.mT
