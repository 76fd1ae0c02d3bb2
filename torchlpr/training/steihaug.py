r"""The trust-region subproblem by preconditioned conjugate gradients.

.. math:: \min_d \; g^\top d + \tfrac12 d^\top H d \quad\text{with}\quad d^\top M d \le \Delta^2

M is the Gauss-Newton Hessian and preconditioner: where the residuals' second derivatives vanish, H
is M and one product is enough. Directions of negative curvature are followed to the boundary. The
iterates move away from zero in the norm of M, so a smaller radius ends on the same path earlier
and needs no product that a larger one has not needed.

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

__all__ = ["SteihaugPath", "TrustRegionStep"]

Ending = Literal["converged", "boundary", "negative curvature", "limit"]


@dataclass(frozen=True)
class TrustRegionStep:
    """What the subproblem gave.

    Attributes:
        step: d, shape (P,).
        predicted: decrease of the quadratic model, -(g.d + d.H d/2).
        norm: of the step, that of M.
        ended: "converged", at the "boundary", on "negative curvature", or at the "limit" of
            products.
    """

    step: Tensor
    predicted: float
    norm: float
    ended: Ending


@dataclass(frozen=True)
class _Leg:
    """From one iterate d towards the next along p."""

    direction: Tensor
    curvature: float  # p.H p
    size: float  # r.M^-1 r of the residual r there, which is -r.p too
    step_step: float  # d.M d, d.M p and p.M p by recursion: products with M are never needed
    step_dir: float
    dir_dir: float

    @property
    def length(self) -> float:
        """To the minimum along p."""
        return self.size / self.curvature if self.curvature > 0 else math.inf

    def square(self, length: float) -> float:
        """|d + t p|_M^2."""
        return self.step_step + 2 * length * self.step_dir + length**2 * self.dir_dir

    def decrease(self, length: float) -> float:
        """Of the model from d to d + t p."""
        return length * (self.size - 0.5 * length * self.curvature)

    def to_boundary(self, radius: float) -> float:
        """The positive t with |d + t p|_M = radius."""
        room = max(radius**2 - self.step_step, 0.0)
        root = math.sqrt(self.step_dir**2 + self.dir_dir * room)
        return (root - self.step_dir) / self.dir_dir


class SteihaugPath:
    """The way from zero to the minimum of the quadratic model, walked as far as is asked.

    Args:
        gradient: g, shape (P,), not zero.
        hessian: v to H v, symmetric, of any signature.
        solve: v to M^-1 v, positive definite.
        tolerance: of the preconditioned residual, relative to its start.
        limit: products at most.
        keep: whether smaller radii will be asked for as well; each product then leaves a vector
            in memory.
    """

    def __init__(
        self,
        gradient: Tensor,
        hessian: Callable[[Tensor], Tensor],
        solve: Callable[[Tensor], Tensor],
        tolerance: float,
        limit: int,
        keep: bool = True,
    ) -> None:
        self._hessian, self._solve = hessian, solve
        self._tolerance, self._limit, self._keep = tolerance, limit, keep
        self._legs, self._residual = list[_Leg](), gradient
        self._start, self._gained = torch.zeros_like(gradient), 0.0  # of the first leg that is kept
        self._ended: Ending | None = None
        self.products = 0  # with the Hessian so far
        solved = solve(gradient)
        self._first = float(gradient @ solved)
        self._begin(-solved, self._first, 0.0, 0.0, self._first)

    def within(self, radius: float) -> TrustRegionStep:
        """Minimise the quadratic model inside the ball, approximately.

        Args:
            radius: of the ball in the norm of M.

        Returns:
            The step and the decrease it promises.
        """
        step, decrease, number = self._start, self._gained, 0
        while True:
            leg = self._legs[number]
            length = leg.length
            outside = leg.curvature <= 0 or leg.square(length) >= radius**2
            if outside:
                length = leg.to_boundary(radius)
            step = step + length * leg.direction
            decrease += leg.decrease(length)
            if outside:
                ended: Ending = "negative curvature" if leg.curvature <= 0 else "boundary"
                return TrustRegionStep(step, decrease, radius, ended)
            number += 1
            if number == len(self._legs):
                if self._ended is None:
                    self._extend()
                if self._ended is not None:
                    norm = math.sqrt(leg.square(length))
                    return TrustRegionStep(step, decrease, norm, self._ended)
                number = len(self._legs) - 1

    def _extend(self) -> None:
        """Walk the last leg to its end, and look on from there."""
        leg = self._legs[-1]
        self._residual = self._residual + leg.length * self._image
        solved = self._solve(self._residual)
        size = float(self._residual @ solved)
        if size <= self._tolerance**2 * self._first:
            self._ended = "converged"
        elif self.products >= self._limit:
            self._ended = "limit"
        else:
            ratio = size / leg.size
            between = ratio * (leg.step_dir + leg.length * leg.dir_dir)
            self._begin(
                ratio * leg.direction - solved,
                size,
                leg.square(leg.length),
                between,
                size + ratio**2 * leg.dir_dir,
            )

    def _begin(self, direction: Tensor, size: float, *norms: float) -> None:
        self._image = self._hessian(direction)
        self.products += 1
        if self._legs and not self._keep:
            last = self._legs.pop()
            self._start = self._start + last.length * last.direction
            self._gained += last.decrease(last.length)
        self._legs.append(_Leg(direction, float(direction @ self._image), size, *norms))
