r"""Row space: exact quadratic forms from an M x M system, for fewer rows than parameters.

With K = I + R diag(1/mu) R^T,

    alpha = K^-1 R diag(1/mu) g,   r = g - R^T alpha,
    g^T H^-1 g = r^T diag(1/mu) r + |alpha|^2

This residual form is the minimum over alpha of a sum of squares: nothing cancels, and an error
in alpha enters squared (see :mod:`torchlpr.curvature.residual_form`). The difference form

    g^T H^-1 g = g^T diag(1/mu) g - (R diag(1/mu) g)^T alpha

needs one product with R instead of two and cancels near the row space. It is taken for those
gradients alone for which 2 eps (g^T diag(1/mu) g + tr(K) |alpha|^2), a bound of its rounding
error, is negligible. The rows are kept as they are, so that factors of several mu share them. K is
factorised when it is first needed: many atoms are evaluated by what is left of the rows alone.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm
from torchlpr.curvature.residual_form import (
    MAX_REFINEMENTS,
    REFINE_LIMIT,
    VALUE_ERROR,
    corrected,
)
from torchlpr.curvature.row_matrix import Gram, find_rows, gram_matrix
from torchlpr.curvature.spectrum import Spectrum
from torchlpr.curvature.triangles import drop_columns, stacked_triangle
from torchlpr.models.triangular import solve_gram_rows, solve_rows

__all__ = ["RowSpace"]

# Cholesky of K squares the condition number of R; beyond this K is factorised by QR of [R^T; I]
CHOLESKY_LIMIT = 1e10
# share of the result that rounding may make up in the difference form
DIFFERENCE_ERROR = 1e-10
BLOCK = 2**21  # numbers that may be copied for a sum, 16 MiB


class RowSpace:
    """Gauss-Newton Hessian kept as its rows and the factor of an M x M matrix.

    Args:
        rows: R, shape (M, P), float64; shared, not copied.
        mu: strength of the regulariser, shape () or (P,), all positive.
        triangle: upper factor T of K = T^T T, where it is already known, shape (M, M).
        gram: R R^T, which other factors may share, where mu is a number.
    """

    shape_name = "row space"

    def __init__(
        self, rows: Tensor, mu: Tensor, triangle: Tensor | None = None, gram: Gram | None = None
    ) -> None:
        self.n_rows, self.n_parameters = rows.shape
        self.mu = mu
        self._rows = rows
        # trace bound, never below; few rows at a time where they are long
        step = max(1, min(64, BLOCK // max(1, self.n_parameters)))
        self.condition = 1.0 + sum(float(self._norm(b).sum()) for b in rows.detach().split(step))
        self._gram = gram
        if triangle is not None:
            self.triangle = triangle
        elif rows.requires_grad:  # now, as later nobody may want the graph
            self.triangle = self._factorise()

    @property
    def rows(self) -> Tensor:
        """R, shape (M, P)."""
        return self._rows

    @cached_property
    def triangle(self) -> Tensor:
        """Upper T with T^T T = K, shape (M, M)."""
        with torch.inference_mode(False):  # who asks first must not decide what others may do
            return self._factorise()

    def _factorise(self) -> Tensor:
        gram, self._gram = self._gram, None  # it is needed only once
        identity = torch.eye(self.n_rows, dtype=torch.float64, device=self._rows.device)
        if self.condition < CHOLESKY_LIMIT:
            if self.mu.ndim:
                scaled = self._rows * self.mu.rsqrt()
                return torch.linalg.cholesky(gram_matrix(scaled) + identity, upper=True)
            products = (gram or Gram(self._rows)).matrix
            return torch.linalg.cholesky(products / self.mu + identity, upper=True)
        root = self.mu.rsqrt().expand(self.n_parameters).unsqueeze(1)
        return stacked_triangle(self._rows.mT, root, identity)

    def _solve_gram(self, right: Tensor) -> Tensor:
        """Rows x with K x = right, shape (k, M) to (k, M)."""
        return solve_gram_rows(self.triangle, right)

    def _weighted(self, vectors: Tensor) -> Tensor:
        """R diag(1/mu) v of each vector, shape (k, P) to (k, M)."""
        if self.mu.ndim:
            return (vectors / self.mu) @ self._rows.mT
        return (vectors @ self._rows.mT).div_(self.mu)  # no copy of the vectors

    def _norm(self, vectors: Tensor) -> Tensor:
        """v^T diag(1/mu) v of each vector, shape (k, P) to (k,)."""
        if self.mu.ndim:
            return (vectors.square() / self.mu).sum(1)
        return torch.linalg.vector_norm(vectors, dim=1).square() / self.mu

    def _project(
        self, gradients: Tensor, alpha: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Alpha, the residual r = g - R^T alpha, and the error R diag(1/mu) r - alpha if known."""
        if alpha is None:
            alpha = self._solve_gram(self._weighted(gradients))
        residual = torch.addmm(gradients, alpha, self._rows, alpha=-1)
        if self.condition <= REFINE_LIMIT or not len(gradients):
            return alpha, residual, None
        for refined in range(MAX_REFINEMENTS + 1):
            error = self._weighted(residual) - alpha
            value = self._norm(residual) + alpha.square().sum(1)
            worst = float((error.square().sum(1) / value).max())
            if worst <= VALUE_ERROR or refined == MAX_REFINEMENTS:
                break
            alpha = alpha + self._solve_gram(error)
            residual = torch.addmm(gradients, alpha, self._rows, alpha=-1)
        return alpha, residual, error

    def quadratic_form(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g, by the difference form where that is exact and else by the residual form.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each.
        """
        return self.forms_and_alpha(gradients)[0]

    def forms_and_alpha(self, gradients: Tensor) -> tuple[QuadraticForm, Tensor]:
        """The quadratic forms, and the alpha with H^-1 g = (g - R^T alpha) / mu.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each, and alpha, shape (K, M).
        """
        if gradients.requires_grad or self._rows.requires_grad:
            return self._residual_form(gradients)
        weighted, norm = self._weighted(gradients), self._norm(gradients)
        alpha = self._solve_gram(weighted)
        data = alpha.square().sum(1)
        value = norm - (weighted * alpha).sum(1)
        error = 2 * torch.finfo(torch.float64).eps * (norm + self.condition * data)
        # not "where greater": NaN and negative numbers must go the safe way too
        unsafe = (~(error <= DIFFERENCE_ERROR * (value - data))).nonzero().squeeze(1)
        share = value - data
        for part in unsafe.split(max(1, len(gradients) // 4)):  # so that memory stays bounded
            (value[part], share[part]), alpha[part] = self._residual_form(
                gradients[part], alpha[part]
            )
        return QuadraticForm(value, share), alpha

    def values(self, gradients: Tensor) -> Tensor:
        """g^T H^-1 g without the regulariser's share, for which half of the M x M work is enough.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Shape (K,).
        """
        norm = self._norm(gradients)
        half = solve_rows(self.triangle, self._weighted(gradients), upper=True)
        data = half.square().sum(1)
        value = norm - data
        # |T^-T w|^2 is at least |alpha|^2, and so is what it bounds
        error = 2 * torch.finfo(torch.float64).eps * (norm + self.condition * data)
        unsafe = (~(error <= DIFFERENCE_ERROR * value)).nonzero().squeeze(1)
        for part in unsafe.split(max(1, len(gradients) // 4)):
            alpha = solve_rows(self.triangle.mT, half[part], upper=False)
            value[part] = self._residual_form(gradients[part], alpha)[0].value
        return value

    def _residual_form(
        self, gradients: Tensor, alpha: Tensor | None = None
    ) -> tuple[QuadraticForm, Tensor]:
        alpha, residual, error = self._project(gradients, alpha)
        share = self._norm(residual)
        value = share + alpha.square().sum(1)
        if error is not None:
            step = self._solve_gram(error)
            value, share = corrected(value, share, alpha, error, step)
            alpha = alpha + step
        return QuadraticForm(value, share), alpha

    def solve(self, vectors: Tensor) -> Tensor:
        """H^-1 v.

        Args:
            vectors: shape (K, P), float64.

        Returns:
            Shape (K, P).
        """
        _, residual, error = self._project(vectors)
        if error is not None:
            residual = torch.addmm(residual, self._solve_gram(error), self._rows, alpha=-1)
        return residual / self.mu

    def effective_dof(self) -> float:
        """tr(H^-1 R^T R) = M - tr(K^-1), as a sum over eigenvalues that cannot cancel."""
        s = torch.linalg.svdvals(self.triangle).square()  # eigenvalues of K, at least 1
        return float(((s - 1) / s).clamp(min=0).sum())

    def update(self, rows: Tensor) -> RowSpace:
        """The factor with rows B added, its triangle bordered.

        The Schur complement of K is I + alpha alpha^T + r diag(1/mu) r^T with alpha and r of B
        as above: again a sum of squares, so that the bordered triangle is as accurate as a
        fresh one.

        Args:
            rows: B, shape (k, P), float64.

        Returns:
            A new factor of M + k rows.
        """
        if len(rows) >= self.n_rows:
            return RowSpace(torch.cat([self._rows, rows]), self.mu)
        alpha, residual, _ = self._project(rows)
        identity = torch.eye(len(rows), dtype=torch.float64, device=rows.device)
        last = torch.cat([alpha.mT, identity])
        root = self.mu.rsqrt().expand(self.n_parameters).unsqueeze(1)
        corner = stacked_triangle(residual.mT, root, last)
        top = torch.cat([self.triangle, self.triangle @ alpha.mT], dim=1)
        bottom = torch.cat([corner.new_zeros(len(rows), self.n_rows), corner], dim=1)
        return RowSpace(torch.cat([self._rows, rows]), self.mu, torch.cat([top, bottom]))

    def downdate(self, rows: Tensor) -> RowSpace:
        """The factor with rows taken out; orthogonal throughout, so no digit is lost.

        Args:
            rows: rows that went in, shape (k, P), float64, equal to 1e-9 of their length.

        Returns:
            A new factor of M - k rows.

        Raises:
            InputError: if a row is not among those of the factor.
        """
        keep = find_rows(self._rows, rows)
        return RowSpace(self._rows[keep], self.mu, drop_columns(self.triangle, keep))

    def spectrum(self) -> Spectrum:
        """The decomposition that serves any number of mu (a vector mu is scaled as a whole)."""
        return Spectrum.from_rows(self._rows, self.mu if self.mu.ndim else None)

    def at(self, mu: float) -> RowSpace:
        """The factor of the same rows at another mu (times the vector mu, where it is one)."""
        return RowSpace(self._rows, self.mu * mu if self.mu.ndim else torch.full_like(self.mu, mu))

    def state_dict(self) -> dict[str, Tensor]:
        """Rows, mu and the triangle."""
        return {"rows": self._rows, "mu": self.mu, "triangle": self.triangle}
