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
from torchlpr.curvature.spectrum import Spectrum
from torchlpr.curvature.triangles import (
    fold_diagonal,
    fold_rows,
    remove_rows,
    smallest_singular_value,
)
from torchlpr.errors import InputError
from torchlpr.models.triangular import solve_gram_rows, solve_rows

__all__ = ["ParameterSpace"]

# relative error of 1/rigidity that taking rows out may cause, by the estimate of downdate
DOWNDATE_ERROR = 1e-9


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
        triangle = rows[:0]
        # taller blocks would save a third of the flops and take twice the memory
        for block in rows.split(max(rows.shape[1], 1024)):
            triangle = qr_triangle(triangle, block)
        return cls.from_triangle(triangle, mu, rows.shape[0])

    @classmethod
    def from_triangle(cls, triangle: Tensor, mu: Tensor, n_rows: int) -> ParameterSpace:
        """Fold the regulariser into the triangle of the rows.

        Args:
            triangle: S with S^T S = R^T R, shape (min(M, P), P), float64.
            mu: shape () or (P,).
            n_rows: number M of rows that went in.

        Returns:
            The factor.

        Raises:
            InputError: if H is singular: a weight with mu = 0 that no row determines.
        """
        n = triangle.shape[1]
        # the small sqrt(mu) rows go last: Householder QR then keeps their relative accuracy
        triangle = fold_diagonal(triangle, mu.sqrt().expand(n))
        pivots = triangle.detach().diagonal().abs()
        smallest = float(pivots.min() / pivots.max())
        if not smallest > n * torch.finfo(torch.float64).eps:
            raise InputError(
                f"H ({n} x {n}) is singular: pivot {int(pivots.argmin())} is {smallest:.1e} of "
                "the largest; give that weight a larger mu"
            )
        return cls(triangle, mu, n_rows)

    def quadratic_form(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g and the regulariser's share.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each.
        """
        half = solve_rows(self._triangle, gradients, upper=True)
        v = solve_rows(self._triangle.mT, half, upper=False)
        return QuadraticForm(half.square().sum(1), v.square() @ self.mu.expand(v.shape[1]))

    def solve(self, vectors: Tensor) -> Tensor:
        """H^-1 v.

        Args:
            vectors: shape (K, P), float64.

        Returns:
            Shape (K, P).
        """
        return solve_gram_rows(self._triangle, vectors)

    def effective_dof(self) -> float:
        """tr(H^-1 R^T R) = P - tr(H^-1 diag(mu))."""
        root = torch.diag(self.mu.sqrt().expand(self.n_parameters))
        half = solve_rows(self._triangle, root, upper=True)
        return float(self.n_parameters - half.square().sum())

    def update(self, rows: Tensor) -> ParameterSpace:
        """The factor with rows added, by rotations of its triangle.

        Args:
            rows: shape (k, P), float64.

        Returns:
            A new factor of M + k rows.
        """
        return ParameterSpace(fold_rows(self._triangle, rows), self.mu, self.n_rows + len(rows))

    def downdate(self, rows: Tensor, count: int | None = None) -> ParameterSpace:
        r"""The factor with rows taken out, by rotations of its triangle.

        Where the rows held most of H in some direction, what remains there is the difference of
        two nearly equal numbers. With delta the smallest share that remains the relative error
        of g^T H^-1 g is about eps cond(T') / sqrt(delta); beyond 1e-9 the removal is refused.

        Args:
            rows: rows that went in, or their triangle, shape (k, P), float64.
            count: how many rows they are, where they come as a triangle.

        Returns:
            A new factor of M - k rows.

        Raises:
            InputError: if the rows never went in, or digits would be lost.
        """
        count = len(rows) if count is None else count
        if count > self.n_rows:
            raise InputError(f"{count} rows cannot be removed from {self.n_rows}")
        triangle, delta = remove_rows(self._triangle, rows)
        error = float("inf")
        if delta > 0:
            condition = float(self._triangle.detach().norm()) / smallest_singular_value(
                triangle.detach()
            )
            error = torch.finfo(torch.float64).eps * condition / delta**0.5
        if not error <= DOWNDATE_ERROR:
            raise InputError(
                f"removing these {count} rows would leave {delta:.1e} of H in some direction, "
                f"known to {error:.1e} only (or they never went in); build the rigidity anew from "
                "the structures that remain, or in row space, where removal is exact"
            )
        return ParameterSpace(triangle, self.mu, self.n_rows - count)

    def spectrum(self) -> Spectrum:
        """The decomposition that serves other mu, down to where the present mu hides the rows.

        Returns:
            The spectrum; a vector mu is scaled as a whole.

        Raises:
            InputError: if some weight is not regularised.
        """
        if not self.mu.ndim:
            return Spectrum.from_triangle(self._triangle, float(self.mu))
        if bool((self.mu == 0).any()):
            raise InputError("a weight has mu = 0: build the rigidity anew at every mu")
        return Spectrum.from_triangle(self._triangle * self.mu.rsqrt(), 1.0, self.mu)

    def at(self, mu: float) -> ParameterSpace:
        """Refused: the triangle holds the present mu, and no rows are kept.

        Args:
            mu: the strength asked for.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"mu = {mu:.3g} is too far below the mu in this factor, whose rows are not kept; "
            "build the rigidity anew at that mu"
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Triangle, mu and the number of rows."""
        rows = torch.tensor(self.n_rows)
        return {"triangle": self._triangle, "mu": self.mu, "n_rows": rows}
