r"""Certified intervals for g^T (I + S^T S)^-1 g from products with S and S^T alone.

Golub-Kahan bidiagonalisation of S from g gives, after k steps, S V = U B with B upper bidiagonal
(diagonal alpha_1..alpha_k, above it beta_1..beta_k-1), and the Lanczos matrix of S^T S is B^T B.
With x >= 0 the function 1/(1 + x) has derivatives of alternating sign, therefore

- Gauss quadrature, |g|^2 e1^T (I + B^T B)^-1 e1, is a lower bound, which never falls;
- Gauss-Radau quadrature with the prescribed node 0 (the lower end of the spectrum) is an upper
  bound, which never rises. In terms of B it merely sets the next alpha to zero.

The pivots of I + B^T B and both bounds are sums and products of positive numbers, so nothing
cancels, and the width of the interval is known to full relative accuracy. The product S^T S is
never taken: small Ritz values keep an error of eps |S| instead of eps |S|^2.

Source: Golub and Meurant, Matrices, Moments and Quadrature with Applications, Princeton (2010),
chapters 4 to 7; Golub and Kahan, SIAM J. Numer. Anal. 2, 205 (1965).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Map", "Quadrature", "quadrature"]


class Map(Protocol):
    """A linear map S of shape (M, P)."""

    def forward(self, vectors: Tensor) -> Tensor:
        """S v of every vector, shape (K, P) to (K, M)."""

    def adjoint(self, vectors: Tensor) -> Tensor:
        """S^T u of every vector, shape (K, M) to (K, P)."""


class Quadrature(NamedTuple):
    """What the bidiagonalisation knows of every start vector g.

    Attributes:
        lower: lower bound of g^T (I + S^T S)^-1 g, shape (K,).
        width: the upper bound less the lower, shape (K,).
        solution: approximation y of (I + S^T S)^-1 g, shape (K, P); the error e has
            e^T (I + S^T S) e <= width.
        steps: products with S^T S taken, shape (K,), int64.
    """

    lower: Tensor
    width: Tensor
    solution: Tensor
    steps: Tensor


class _State(NamedTuple):
    """The recurrences of all start vectors that are still under way."""

    v: Tensor  # [k, p]
    u: Tensor  # [k, m]
    p: Tensor  # search direction [k, p]
    y: Tensor  # [k, p]
    alpha: Tensor  # [k]
    e: Tensor  # pivot of I + B^T B less alpha^2, at least 1 [k]
    z: Tensor  # [k]
    lower: Tensor  # [k]

    def width(self) -> Tensor:
        """Gauss-Radau bound of the step before, less the Gauss bound of this one."""
        return (self.z * self.alpha).square() / (self.e * (self.e + self.alpha.square()))

    def select(self, keep: Tensor) -> _State:
        return _State(*(field[keep] for field in self))


def quadrature(
    matrix: Map, start: Tensor, tolerance: float, limit: int, basis: str | None = None
) -> Quadrature:
    """Bounds of g^T (I + S^T S)^-1 g for many g at once; each stops on its own.

    Args:
        matrix: S.
        start: start vectors g, shape (K, P), float64.
        tolerance: a vector is done when the width of its interval falls below this share of
            the lower bound.
        limit: most products with S^T S for one vector.
        basis: "u" or "v" keeps all left or right vectors and orthogonalises against them,
            which spares the steps that rounding would cost; None keeps none.

    Returns:
        The bounds, whatever width they have reached.
    """
    now = _first_step(matrix, start)
    result = Quadrature(
        torch.zeros_like(now.lower),
        torch.zeros_like(now.lower),
        torch.zeros_like(start),
        torch.zeros(len(start), dtype=torch.int64, device=start.device),
    )
    active = torch.arange(len(start), device=start.device)
    lefts, rights = [now.u], [now.v]
    for step in range(limit + 1):
        width = now.width()
        done = (width <= tolerance * now.lower) | (step == limit)
        if bool(done.any()):
            finished = active[done]
            result.lower[finished], result.width[finished] = now.lower[done], width[done]
            result.solution[finished], result.steps[finished] = now.y[done], step
            if bool(done.all()):
                break
            active, now = active[~done], now.select(~done)
            lefts = [x[~done] for x in lefts] if basis == "u" else lefts
            rights = [x[~done] for x in rights] if basis == "v" else rights
        now = _next_step(matrix, now, lefts if basis == "u" else [], rights if basis == "v" else [])
    return result


def _first_step(matrix: Map, start: Tensor) -> _State:
    v, z = _normalised(start)
    u, alpha = _normalised(matrix.forward(v))
    d = 1 + alpha.square()
    y = (z / d).unsqueeze(1) * v
    return _State(v, u, v, y, alpha, torch.ones_like(d), z, z.square() / d)


def _next_step(matrix: Map, now: _State, lefts: list[Tensor], rights: list[Tensor]) -> _State:
    """One product with S^T and one with S; the new vectors are added to the kept ones."""
    t = matrix.adjoint(now.u) - now.alpha.unsqueeze(1) * now.v
    v, beta = _normalised(_orthogonal(t, rights))
    w = matrix.forward(v) - beta.unsqueeze(1) * now.u
    u, alpha = _normalised(_orthogonal(w, lefts))
    if lefts:
        lefts.append(u)
    if rights:
        rights.append(v)
    before = now.e + now.alpha.square()
    factor = now.alpha * beta / before
    e = 1 + beta.square() * now.e / before  # a pivot in which nothing is subtracted
    z = -factor * now.z
    d = e + alpha.square()
    p = v - factor.unsqueeze(1) * now.p
    return _State(
        v, u, p, now.y + (z / d).unsqueeze(1) * p, alpha, e, z, now.lower + z.square() / d
    )


def _normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors and norms; a zero vector stays zero and ends its recurrence."""
    norm = torch.linalg.vector_norm(x, dim=1)
    return x / torch.where(norm > 0, norm, 1.0).unsqueeze(1), norm


def _orthogonal(x: Tensor, kept: list[Tensor]) -> Tensor:
    """Remove the kept directions, twice (which is enough)."""
    if not kept:
        return x
    q = torch.stack(kept, dim=1)  # [k, step, m]
    for _ in range(2):
        x = x - (q.mT @ (q @ x.unsqueeze(2))).squeeze(2)
    return x
