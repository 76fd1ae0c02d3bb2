"""Newton's method with the full Hessian of the loss, with and without a constraint, dense."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian

from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["Problem", "constrained_minimum", "minimum"]

MAX_PARAMETERS = 2000  # a dense Hessian of these takes 32 MB and seconds
ITERATIONS = 40
ROUNDING = 1e-13  # step relative to the weights that changes nothing
# of the augmented Lagrangian: stages of the shift, rounds of each, and stiffness in 1/eV^2
STAGES, ROUNDS, STIFFNESS = 4, 3, 10.0
SHORTEST, NEAR = 2.0**-20, 1e-8  # of a line search; step relative to the weights that is the last

Scalar = Callable[[Tensor], Tensor]


class Problem:
    """The objective and atomic energies as functions of the flat weights.

    Args:
        model: float64 module, maps (features, types) to atomic energies.
        batch: training structures with energies, float64.
        objective: the loss.
    """

    def __init__(self, model: nn.Module, batch: AtomBatch, objective: Objective) -> None:
        self.model, self.batch, self.objective = model, batch, objective
        self.shapes = {name: p.shape for name, p in model.named_parameters()}

    def at(self, weights: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The model with these weights: (features, types) to atomic energies in eV."""
        parts = weights.split([shape.numel() for shape in self.shapes.values()])
        named = {n: p.view(s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}
        return lambda features, types: functional_call(self.model, named, (features, types))

    def loss(self, weights: Tensor) -> Tensor:
        """The objective in eV^2, scalar."""
        residuals = self.objective.batch_residuals(self.at(weights), self.batch)
        return self.objective.data_loss(residuals) + self.objective.penalty([weights])

    def energy_of(self, atom: AtomBatch) -> Scalar:
        """The energy of one atom as a function of the weights."""
        return lambda weights: self.at(weights)(atom.features, atom.types)[0]

    def hessian(self, weights: Tensor) -> Tensor:
        """Full Hessian of the loss.

        Args:
            weights: shape (P,).

        Returns:
            Shape (P, P).

        Raises:
            InputError: if there are too many parameters for a dense one.
        """
        if len(weights) > MAX_PARAMETERS:
            raise InputError(
                f"the full Hessian of {len(weights)} parameters is too large (at most "
                f"{MAX_PARAMETERS}); use the Gauss-Newton rigidity"
            )
        out: Tensor = hessian(self.loss)(weights)
        return out


def minimum(problem: Problem, weights: Tensor) -> Tensor:
    """Newton's method from near a minimum, to rounding.

    Args:
        problem: the loss.
        weights: where it starts, shape (P,).

    Returns:
        The minimum, shape (P,).

    Raises:
        InputError: if it does not converge from there.
    """
    for _ in range(ITERATIONS):
        step = torch.linalg.solve(problem.hessian(weights), grad(problem.loss)(weights))
        weights = weights - step
        if float(step.norm()) <= ROUNDING * float(weights.norm()):
            return weights
    raise InputError("Newton's method does not converge from these weights; fit the model first")


def constrained_minimum(
    problem: Problem, weights: Tensor, energy: Scalar, shift: float
) -> tuple[Tensor, float]:
    """Minimum of the loss with one quantity held away from its value at the free minimum.

    Newton's method on the Karush-Kuhn-Tucker equations; where that does not lead to a minimum,
    the augmented Lagrangian takes the weights there in stages first.

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
    origin = energy(weights)
    multiplier = torch.zeros_like(origin)
    found = _newton(problem, weights, multiplier, energy, origin + shift)
    if found is None:
        for stage in range(1, STAGES + 1):
            target = origin + shift * stage / STAGES
            weights, multiplier = _augmented(problem, weights, multiplier, energy, target)
        found = _newton(problem, weights, multiplier, energy, origin + shift)
    if found is None:
        raise InputError(
            f"no constrained minimum was found at a shift of {shift:.3g} eV; ask for another one"
        )
    return found[0], float(found[1])


def _newton(
    problem: Problem, weights: Tensor, multiplier: Tensor, energy: Scalar, target: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Newton's method on the Karush-Kuhn-Tucker equations; None unless it ends in a minimum."""
    for _ in range(ITERATIONS):
        g, fixed = grad(energy)(weights), multiplier
        h = hessian(lambda w, m=fixed: problem.loss(w) + m * energy(w))(weights)
        slope = grad(problem.loss)(weights) + multiplier * g
        kkt = torch.cat([torch.cat([h, g.unsqueeze(1)], 1), torch.cat([g, g.new_zeros(1)])[None]])
        step = torch.linalg.solve(kkt, -torch.cat([slope, (energy(weights) - target)[None]]))
        weights, multiplier = weights + step[:-1], multiplier + step[-1]
        if not bool(torch.isfinite(weights).all()):
            return None
        if float(step[:-1].norm()) <= ROUNDING * float(weights.norm()):
            # one negative eigenvalue, that of the constraint: a minimum and no saddle
            negative = int((torch.linalg.eigvalsh(kkt) < 0).sum())
            return (weights, multiplier) if negative == 1 else None
    return None


def _augmented(
    problem: Problem, weights: Tensor, multiplier: Tensor, energy: Scalar, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Some rounds of the method of multipliers."""
    for _ in range(ROUNDS):
        fixed = multiplier

        def value(w: Tensor, fixed: Tensor = fixed) -> Tensor:
            miss = energy(w) - target
            return problem.loss(w) + fixed * miss + 0.5 * STIFFNESS * miss.square()

        weights = _descend(value, weights)
        multiplier = multiplier + STIFFNESS * (energy(weights) - target)
    return weights, multiplier


def _descend(value: Scalar, weights: Tensor) -> Tensor:
    """Newton's method that walks away from saddles (|eigenvalues|) and never uphill."""
    for _ in range(ITERATIONS):
        slope, (curvature, axes) = grad(value)(weights), torch.linalg.eigh(hessian(value)(weights))
        size = curvature.abs().clamp(min=ROUNDING * float(curvature.abs().max()))
        step = -axes @ (axes.mT @ slope / size)
        here, length = float(value(weights)), 1.0
        while float(value(weights + length * step)) > here + 1e-4 * length * float(slope @ step):
            length /= 2
            if length < SHORTEST:
                return weights
        weights = weights + length * step
        if float(step.norm()) <= NEAR * float(weights.norm()):
            break
    return weights
