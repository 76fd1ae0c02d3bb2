"""The full Hessian of a network too large for a dense one: conjugate gradients on its products.

The Gauss-Newton Hessian, factorised in its rows, is the preconditioner. At a minimum the full one
is positive definite, and its few eigenvalues far from the preconditioner's set the number of
products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.func import grad, jvp

from torchlpr.curvature import solve_vector
from torchlpr.errors import InputError
from torchlpr.training.problem import Problem
from torchlpr.training.steihaug import SteihaugPath

__all__ = ["constrained_minimum", "solve_full"]

ACCURACY, PRODUCTS = 1e-9, 2000
ITERATIONS = 20
NEAR = 1e-7  # a step of Newton's method this short, relative to the weights, is the last

Scalar = Callable[[Tensor], Tensor]


def solve_full(
    hessian: Callable[[Tensor], Tensor], solve: Callable[[Tensor], Tensor], vector: Tensor
) -> Tensor:
    """H^-1 v.

    Args:
        hessian: products with H.
        solve: v to M^-1 v, the preconditioner.
        vector: v, shape (P,).

    Returns:
        Shape (P,).

    Raises:
        InputError: if H is not positive definite, or so badly conditioned that it takes too long.
    """
    if not bool(vector.any()):
        return torch.zeros_like(vector)
    path = SteihaugPath(-vector, hessian, solve, ACCURACY, PRODUCTS, keep=False)
    found = path.within(math.inf)
    if found.ended != "converged":
        why = "is not positive definite" if found.ended == "negative curvature" else "is too stiff"
        raise InputError(
            f"the full Hessian {why} ({found.ended} after {path.products} products), so the "
            "weights are at no minimum; train further"
        )
    return found.step


def constrained_minimum(
    problem: Problem, weights: Tensor, energy: Scalar, shift: float
) -> tuple[Tensor, float]:
    r"""Minimum of the loss with one quantity held away from its value at the free minimum.

    Newton's method on the Karush-Kuhn-Tucker equations. With the Hessian H of the Lagrangian,
    the constraint's gradient g, the slope s and the miss m, a step is

    .. math:: \Delta w = -H^{-1} (s + g \, \Delta\lambda), \qquad
              \Delta\lambda = (m - g^\top H^{-1} s) / (g^\top H^{-1} g)

    Args:
        problem: the loss.
        weights: its minimum, shape (P,).
        energy: the constrained quantity.
        shift: how far to take it from its value there, eV.

    Returns:
        Weights, shape (P,), and the Lagrange multiplier.

    Raises:
        InputError: if no constrained minimum is found.
    """
    target = float(energy(weights)) + shift
    multiplier = 0.0
    for _ in range(ITERATIONS):
        here = problem.linearise(weights)
        solve = partial(solve_vector, here.factor(problem.mu))
        _, hessian = problem.derivatives(weights)
        g = grad(energy)(weights)
        lagrangian = partial(_lagrangian, hessian, energy, weights, multiplier)
        slope = here.gradient + multiplier * g
        try:
            down, along = solve_full(lagrangian, solve, slope), solve_full(lagrangian, solve, g)
        except InputError as error:
            raise InputError(
                f"no constrained minimum was found at a shift of {shift:.3g} eV ({error}); ask for "
                "a smaller one"
            ) from None
        change = float(energy(weights) - target - g @ down) / float(g @ along)
        step = -down - change * along
        weights, multiplier = weights + step, multiplier + change
        if float(step.norm()) <= NEAR * float(weights.norm()):
            return weights, multiplier
    raise InputError(
        f"no constrained minimum was found at a shift of {shift:.3g} eV; ask for a smaller one"
    )


def _lagrangian(
    hessian: Callable[[Tensor], Tensor],
    energy: Scalar,
    weights: Tensor,
    multiplier: float,
    vector: Tensor,
) -> Tensor:
    """(H + multiplier d2E/dw2) v."""
    bend: Tensor = jvp(grad(energy), (weights,), (vector,))[1]
    return hessian(vector) + multiplier * bend
