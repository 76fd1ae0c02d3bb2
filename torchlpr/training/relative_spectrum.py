r"""Extreme eigenvalues of the full Hessian H relative to the Gauss-Newton M, by Lanczos.

.. math:: H v = \theta M v

M is positive definite, so H has exactly as many negative eigenvalues as theta does (Sylvester), and
theta = 1 wherever the residuals' second derivatives play no part: the spectrum is a cluster at 1
with outliers, which Lanczos finds in a few products, however small mu is.

Source: Parlett, The Symmetric Eigenvalue Problem (SIAM, 1998), chapters 13 and 15.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RelativeSpectrum", "relative_spectrum"]

BREAKDOWN = 1e-10  # a Krylov space this close to invariant is complete
# a random start holds so little of a few outliers among very many directions at theta = 1 that
# its first residuals look converged
LEAST = 8


@dataclass(frozen=True)
class RelativeSpectrum:
    """The ends of the spectrum.

    Attributes:
        smallest: estimate of the smallest theta, from above.
        largest: estimate of the largest theta, from below.
        error: some eigenvalue lies within this distance of ``smallest``.
        direction: eigenvector v of ``smallest`` with v.M v = 1, shape (P,).
        products: Hessian-vector products used.
    """

    smallest: float
    largest: float
    error: float
    direction: Tensor
    products: int


def relative_spectrum(
    hessian: Callable[[Tensor], Tensor],
    solve: Callable[[Tensor], Tensor],
    like: Tensor,
    tolerance: float = 0.01,
    limit: int = 100,
) -> RelativeSpectrum:
    """Find the extreme eigenvalues with full reorthogonalisation.

    Args:
        hessian: v to H v.
        solve: v to M^-1 v.
        like: a vector of the shape (P,) and device of v.
        tolerance: error of the smallest eigenvalue, relative to it, at which to stop.
        limit: products at most; also bounds the memory, 2 vectors each.

    Returns:
        The estimates with their error.
    """
    vectors, duals = list[Tensor](), list[Tensor]()  # q_j, and u_j = M q_j
    diagonal, off = list[float](), list[float]()
    dual = torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(0))
    dual = dual.to(like.device)
    vector = solve(dual)
    beta = float(dual @ vector) ** 0.5
    while True:
        vectors.append(vector / beta)
        duals.append(dual / beta)
        image = hessian(vectors[-1])
        diagonal.append(float(vectors[-1] @ image))
        basis, dual_basis = torch.stack(vectors), torch.stack(duals)
        dual = image
        for _ in range(2):  # twice is enough
            dual = dual - (basis @ dual) @ dual_basis
        vector = solve(dual)
        beta = max(float(dual @ vector), 0.0) ** 0.5
        matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if off:
            band = torch.tensor(off, dtype=torch.float64)
            matrix = matrix + torch.diag(band, 1) + torch.diag(band, -1)
        theta, ritz = torch.linalg.eigh(matrix)
        error = beta * abs(float(ritz[-1, 0]))
        settled = len(vectors) >= LEAST and error <= tolerance * abs(float(theta[0]))
        done = settled or beta <= BREAKDOWN
        if done or len(vectors) >= min(limit, len(like)):
            break
        off.append(beta)
    direction = ritz[:, 0].to(basis) @ basis
    return RelativeSpectrum(float(theta[0]), float(theta[-1]), error, direction, len(vectors))
