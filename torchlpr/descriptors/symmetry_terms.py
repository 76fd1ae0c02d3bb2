r"""Terms of symmetry functions, one for each pair or triplet of atoms; differentiable torch.

Source: Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["angular_terms", "cosine_cutoff", "radial_terms"]


def cosine_cutoff(r: Tensor, cutoff: float) -> Tensor:
    r"""Smooth end of an environment, (cos(pi r / cutoff) + 1) / 2 below the cutoff, else 0.

    Args:
        r: distances in Å, any shape.
        cutoff: in Å.

    Returns:
        Weights in [0, 1] of the same shape, once continuously differentiable.
    """
    return torch.where(r < cutoff, 0.5 * (torch.cos(r * (math.pi / cutoff)) + 1), 0.0)


def radial_terms(r: Tensor, g2: Sequence[tuple[float, float]], cutoff: float) -> Tensor:
    r"""Terms of G2, :math:`e^{-\eta (r - R_s)^2} f_c(r)`.

    Args:
        r: distances in Å, shape (pairs,).
        g2: eta in 1/Å^2 and R_s in Å of each function.
        cutoff: in Å.

    Returns:
        Shape (pairs, functions).
    """
    eta, shift = r.new_tensor(g2).reshape(-1, 2).T
    gauss = torch.exp(-eta * (r[:, None] - shift).square())  # [pair, function]
    return gauss * cosine_cutoff(r, cutoff)[:, None]


def angular_terms(
    cosine: Tensor, squares: Tensor, cutoffs: Tensor, g: Sequence[tuple[float, float, float]]
) -> Tensor:
    r"""Terms of G4 or G5, :math:`2^{1-\zeta} (1 + \lambda \cos\theta)^\zeta e^{-\eta s} f`.

    Args:
        cosine: of the angle at the centre, shape (triplets,).
        squares: s, sum of the squared distances in Å^2: of all three pairs for G4, of those with
            the centre for G5, shape (triplets,).
        cutoffs: f, product of the cutoff functions of the same pairs, shape (triplets,).
        g: eta in 1/Å^2, zeta and lambda of each function.

    Returns:
        Shape (triplets, functions).
    """
    # rounding must not take a base below 0, where powers that are no whole numbers are undefined
    angle = _once(g, lambda p: p[1:], lambda p: (0.5 * (1 + p[1] * cosine)).clamp(min=0) ** p[0])
    radius = _once(g, lambda p: p[:1], lambda p: torch.exp(-p[0] * squares) * cutoffs)
    columns = [2 * a * r for a, r in zip(angle, radius, strict=True)]
    return torch.stack(columns, dim=1) if columns else cosine.new_zeros(len(cosine), 0)


def _once(
    g: Sequence[tuple[float, ...]],
    of: Callable[[tuple[float, ...]], tuple[float, ...]],
    compute: Callable[[tuple[float, ...]], Tensor],
) -> list[Tensor]:
    """A factor of each function, computed once for all functions that share its parameters."""
    found = {of(p): compute(of(p)) for p in dict.fromkeys(g)} if g else {}
    return [found[of(p)] for p in g]
