r"""What every candidate would tell about every target, kept current as candidates are taken.

With b the rows that a candidate adds to R and g the gradient of a target, after adding it

    1/LPR' = 1/LPR - u^T (I + A)^-1 u,    u = b H^-1 g,    A = b H^-1 b^T

so that u and A of all candidates are all that scoring needs, and taking one candidate is a
rank-k downdate of both. Their relative error is of the order of eps |H|/mu, as that of any
solution with H is; ranking needs no more. Where a downdate takes away nearly all of A, both are
computed anew. The LPR that the picks really give is computed by

    1/LPR' = (g - T^T a)^T H^-1 (g - T^T a) + a^T a,    a = (I + T H^-1 T^T)^-1 T H^-1 g

with T the rows taken so far: a sum of squares in which nothing cancels, and a minimum over a,
so that an error in a is of second order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature import Factor
from torchlpr.curvature.gradients import chunk_size
from torchlpr.errors import InputError
from torchlpr.models.triangular import solve_rows

__all__ = ["Outlook"]

LEFT = 1e-3  # of A: where less is left, digits are lost


class Outlook:
    """Effect of candidates on targets, as long as the weights and gradients stay.

    Args:
        factor: H of the present training set.
        rows: what each candidate would add to R, shape (candidates, P), or
            (candidates, k, P) where a candidate has up to k rows (an energy and forces, say);
            rows of zeros fill up the candidates that have fewer.
        targets: gradients of the predictions that matter, shape (K, P).

    Attributes:
        inverse: 1/LPR of the targets now, shape (K,).
        cross: u of every candidate row and target, shape (candidates, k, K).
        gram: A of every candidate, shape (candidates, k, k).

    Raises:
        InputError: if the shapes disagree, a number is not finite, or a target is zero.
    """

    def __init__(self, factor: Factor, rows: Tensor, targets: Tensor) -> None:
        self.factor = factor
        self.rows = (rows.unsqueeze(1) if rows.ndim == 2 else rows).to(torch.float64)
        self.targets = targets.to(torch.float64)
        _check(self.rows, self.targets, factor.n_parameters)
        self._taken = self.targets[:0]
        self._solved = self._taken  # T H^-1
        self.inverse = factor.quadratic_form(self.targets).value
        if not bool((self.inverse > 0).all()):
            raise InputError(
                f"the gradient of target {int((self.inverse <= 0).nonzero()[0])} is zero: no "
                "weight moves that prediction, so no data can; leave it out"
            )
        self.cross = self.rows @ factor.solve(self.targets).mT
        self.gram = self._grams(self.rows)
        self._power = self._powers()  # of A when it was computed and not downdated

    def reductions(self) -> Tensor:
        """Decrease of 1/LPR of every target by every candidate, shape (candidates, K)."""
        triangle = self._triangles(self.gram)
        half = torch.linalg.solve_triangular(triangle, self.cross, upper=False)
        return half.square().sum(1)

    def inverse_after(self) -> Tensor:
        """1/LPR of every target after each candidate alone, shape (candidates, K)."""
        # Cauchy-Schwarz: u^T (I + A)^-1 u <= tr(A) / (1 + tr(A)) / LPR, which rounding may miss
        floor = self.inverse / (1 + self._powers().clamp(min=0).unsqueeze(1))
        return torch.maximum(self.inverse - self.reductions(), floor)

    def log_determinants(self) -> Tensor:
        """Logarithm of det(H')/det(H) = det(I + A) of every candidate, shape (candidates,)."""
        return 2 * self._triangles(self.gram).diagonal(dim1=1, dim2=2).log().sum(1)

    def take(self, candidate: int) -> None:
        """Add a candidate's rows to H.

        Args:
            candidate: its index; it stays among the candidates.
        """
        new = self.rows[candidate]
        triangle = self._triangles(self.gram[candidate])
        column = (
            self.rows @ self.factor.solve(self._project(new)[0]).mT
        )  # [c, row, row of the pick]
        column = solve_rows(triangle.mT, column, upper=True)
        effect = torch.linalg.solve_triangular(triangle, self.cross[candidate], upper=False)
        self.cross -= column @ effect
        self.gram -= column @ column.mT
        self._taken = torch.cat([self._taken, new])
        self._solved = torch.cat([self._solved, self.factor.solve(new)])
        residual, alpha = self._project(self.targets)
        self.inverse = self.factor.quadratic_form(residual).value + alpha.square().sum(1)
        self._renew((self._powers() < LEFT * self._power).nonzero().squeeze(1), residual, alpha)

    def _renew(self, lost: Tensor, targets: Tensor, alpha: Tensor) -> None:
        """Compute A and u of some candidates anew, as LPR is: from residuals and coefficients."""
        k = self.rows.shape[1]
        if not len(lost):
            return
        for part in lost.split(max(1, chunk_size(self.factor.n_parameters) // k)):
            rows, own = self._project(self.rows[part].flatten(0, 1))
            own = own.view(len(part), k, -1)
            self.gram[part] = self._grams(rows.view(len(part), k, -1)) + own @ own.mT
            cross = rows @ self.factor.solve(targets).mT
            self.cross[part] = cross.view(len(part), k, -1) + own @ alpha.mT
        self._power[lost] = self._powers()[lost]

    def _powers(self) -> Tensor:
        """Trace of A of every candidate, shape (candidates,)."""
        return self.gram.diagonal(dim1=1, dim2=2).sum(1)

    def _triangles(self, grams: Tensor) -> Tensor:
        """Cholesky factors of I + A."""
        triangles, failed = torch.linalg.cholesky_ex(grams + self._identity())
        if bool(failed.any()):
            raise InputError(
                "mu is so small beside the candidates' rows that rounding hides what they would "
                "add; raise mu"
            )
        return triangles

    def _grams(self, rows: Tensor) -> Tensor:
        """The b H^-1 b^T of rows, a part after the other: memory beside them stays bounded."""
        k, grams = rows.shape[1], []
        for part in rows.split(max(1, chunk_size(self.factor.n_parameters) // k)):
            if k == 1:
                grams.append(self.factor.quadratic_form(part.squeeze(1)).value.view(-1, 1, 1))
            else:
                grams.append(part @ self.factor.solve(part.flatten(0, 1)).view_as(part).mT)
        return torch.cat(grams)

    def _project(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The residual x - T^T a, shape (n, P), and a, shape (n, taken rows)."""
        gram = self._taken @ self._solved.mT
        gram = 0.5 * (gram + gram.mT) + torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        triangle = torch.linalg.cholesky(gram)
        alpha = torch.cholesky_solve(self._solved @ vectors.mT, triangle).mT
        # one step of refinement: a is ill-conditioned where picks are nearly alike
        error = (vectors - alpha @ self._taken) @ self._solved.mT - alpha
        alpha = alpha + torch.cholesky_solve(error.mT, triangle).mT
        return vectors - alpha @ self._taken, alpha

    def _identity(self) -> Tensor:
        k = self.gram.shape[1]
        return torch.eye(k, dtype=self.gram.dtype, device=self.gram.device)


def _check(rows: Tensor, targets: Tensor, n_parameters: int) -> None:
    """Refuse rows and targets that do not fit the factor."""
    for name, values, ndim in (("candidates", rows, 3), ("targets", targets, 2)):
        if values.ndim != ndim or values.shape[-1] != n_parameters or not len(values):
            raise InputError(
                f"the {name} have shape {tuple(values.shape)}; give at least one, with "
                f"derivatives by the {n_parameters} weights of the model"
            )
        finite = torch.isfinite(values).flatten(1).all(1)
        if not bool(finite.all()):
            raise InputError(
                f"number {int((~finite).nonzero()[0])} of the {name} is not finite; look at its "
                "geometry and at the weights of the model"
            )
