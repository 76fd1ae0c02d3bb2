r"""The trust-region subproblem by preconditioned conjugate gradients.

.. math:: \min_d \; g^\top d + \tfrac12 d^\top H d \quad\text{with}\quad d^\top M d \le \Delta^2

M is the Gauss-Newton Hessian and preconditioner: where the residuals' second derivatives vanish, H
is M and one product is enough. Directions of negative curvature are followed to the boundary.

Source: Steihaug, SIAM J. Numer. Anal. 20, 626 (1983); Conn, Gould, Toint, Trust-Region Methods
(SIAM, 2000), algorithm 7.5.1 and section 7.5.1 for the norms by recursion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["TrustRegionStep", "steihaug"]

Ending = Literal["converged", "boundary", "negative curvature", "limit"]


@dataclass(frozen=True)
class TrustRegionStep:
    """What the subproblem gave.

    Attributes:
        step: d, shape (P,).
        predicted: decrease of the quadratic model, -(g.d + d.H d/2).
        products: Hessian-vector products used.
        ended: "converged", at the "boundary", on "negative curvature", or at the "limit" of
            products.
    """

    step: Tensor
    predicted: float
    products: int
    ended: Ending


def steihaug(
    gradient: Tensor,
    hessian: Callable[[Tensor], Tensor],
    solve: Callable[[Tensor], Tensor],
    radius: float,
    tolerance: float,
    limit: int,
) -> TrustRegionStep:
    """Minimise the quadratic model inside the ball, approximately.

    Args:
        gradient: g, shape (P,), not zero.
        hessian: v to H v, symmetric, of any signature.
        solve: v to M^-1 v, positive definite.
        radius: of the ball in the norm of M.
        tolerance: of the preconditioned residual, relative to its start.
        limit: products at most.

    Returns:
        The step and the decrease it promises.
    """
    step, product = torch.zeros_like(gradient), torch.zeros_like(gradient)
    residual, solved = gradient.clone(), solve(gradient)
    direction = -solved
    size = start = float(residual @ solved)
    # d.M d, d.M p and p.M p by recursion: products with M itself are never needed
    step_step, step_dir, dir_dir = 0.0, 0.0, size
    ended: Ending = "limit"
    used = 0
    while used < limit and ended == "limit":
        used += 1
        image = hessian(direction)
        curvature = float(direction @ image)
        length = size / curvature if curvature > 0 else math.inf
        further = step_step + 2 * length * step_dir + length**2 * dir_dir
        if curvature <= 0 or further >= radius**2:
            length = _to_boundary(step_step, step_dir, dir_dir, radius)
            ended = "negative curvature" if curvature <= 0 else "boundary"
        step, product = step + length * direction, product + length * image
        residual = residual + length * image
        solved = solve(residual)
        previous, size = size, float(residual @ solved)
        if ended == "limit" and size <= tolerance**2 * start:
            ended = "converged"
        ratio = size / previous
        step_step = further
        step_dir = ratio * (step_dir + length * dir_dir)
        dir_dir = size + ratio**2 * dir_dir
        direction = -solved + ratio * direction
    return TrustRegionStep(step, -float(gradient @ step + 0.5 * (step @ product)), used, ended)


def _to_boundary(step_step: float, step_dir: float, dir_dir: float, radius: float) -> float:
    """The positive t with |d + t p|_M = radius."""
    room = max(radius**2 - step_step, 0.0)
    return (-step_dir + math.sqrt(step_dir**2 + dir_dir * room)) / dir_dir
