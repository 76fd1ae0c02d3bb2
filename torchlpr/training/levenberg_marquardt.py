r"""Levenberg-Marquardt: damped Gauss-Newton steps on the full regularised loss.

.. math:: \left(R^\top R + (\mu + \lambda) I\right) \, d = -\nabla L, \qquad w \leftarrow w + d

through the very factors that rigidity uses: an M x M system for fewer rows than weights. The
damping follows the ratio of actual to predicted decrease.

Source: Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05, DTU (1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from tqdm.auto import tqdm

from torchlpr.curvature import build, energy_rows
from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["LMSettings", "LMState", "levenberg_marquardt"]

MAX_DAMPING = 1e12  # a step this short changes no digit of the weights


@dataclass(frozen=True)
class LMSettings:
    """When to stop.

    Attributes:
        steps: accepted and refused steps at most.
        tolerance: gradient norm relative to mu |w| that counts as a minimum.
    """

    steps: int = 200
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.tolerance > 0:
            raise InputError(
                f"steps and tolerance must be positive, not {self.steps} and {self.tolerance}"
            )


@dataclass
class LMState:
    """Everything a step depends on, so that a stopped run goes on bit by bit.

    Attributes:
        weights: the weights, shape (P,), float64.
        damping: lambda in units of mu.
        growth: factor of the damping at the next refusal.
        history: one row a step: step, loss, |grad|, damping.
        done: whether there is nothing left to do.
    """

    weights: Tensor
    damping: float = 1.0
    growth: float = 2.0
    history: list[tuple[float, ...]] = field(default_factory=list)
    done: bool = False


def levenberg_marquardt(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    settings: LMSettings | None = None,
    state: LMState | None = None,
    progress: bool = True,
    on_step: Callable[[LMState], None] | None = None,
) -> LMState:
    """Descend to a minimum of the objective, in place.

    Args:
        model: maps (features, types) to atomic energies, float64.
        batch: training structures with energies, float64.
        objective: the loss.
        settings: when to stop.
        state: where an earlier run stopped.
        progress: whether to show a bar with loss, gradient and damping.
        on_step: called after every step, for checkpoints.

    Returns:
        The final state; the loss never rises.
    """
    settings = settings or LMSettings()
    if state is None:
        state = LMState(parameters_to_vector(model.parameters()).detach().clone())
    problem = _Problem(model, batch, objective)
    with tqdm(total=settings.steps, desc="levenberg-marquardt", disable=not progress) as bar:
        bar.update(len(state.history))
        loss, gradient, rows = problem.linearise(state.weights)
        while len(state.history) < settings.steps and not state.done:
            size, norm = objective.mu * float(state.weights.norm()), float(gradient.norm())
            state.history.append((len(state.history), loss, norm, state.damping))
            relative = norm / size if size > 0 else math.inf  # a linear head starts from zero
            bar.set_postfix(
                {"loss": f"{loss:.4e}", "|grad|/mu|w|": f"{relative:.1e}"}, refresh=False
            )
            bar.update()
            if norm <= settings.tolerance * size or state.damping > MAX_DAMPING:
                state.done = True
                break
            damped = objective.mu * (1 + state.damping)
            step = -build(rows, damped).solve(gradient.unsqueeze(0)).squeeze(0)
            # decrease of the quadratic model: -(g.d + d.H d/2) with (H + lambda) d = -g
            predicted = 0.5 * float(step @ (objective.mu * state.damping * step - gradient))
            trial = state.weights + step
            gain = (loss - problem.loss(trial)) / predicted if predicted > 0 else -math.inf
            if gain > 0:
                state.weights = trial
                loss, gradient, rows = problem.linearise(trial)
                state.damping *= max(1 / 10, 1 - (2 * gain - 1) ** 3)
                state.growth = 2.0
            else:
                state.damping *= state.growth
                state.growth *= 2
            if on_step is not None:
                on_step(state)
    problem.set(state.weights)
    return state


class _Problem:
    """The loss and its linearisation as functions of the flat weights."""

    def __init__(self, model: nn.Module, batch: AtomBatch, objective: Objective) -> None:
        self.model, self.batch, self.objective = model, batch, objective
        self.counts, self.labels = batch.counts, batch.labels()

    def set(self, weights: Tensor) -> None:
        vector_to_parameters(weights, self.model.parameters())

    @torch.no_grad()
    def residuals(self, weights: Tensor) -> Tensor:
        self.set(weights)
        local = self.model(self.batch.features, self.batch.types)
        return self.objective.residuals(local, self.batch.structure, self.counts, self.labels)

    def loss(self, weights: Tensor) -> float:
        residuals = self.residuals(weights)
        return float(self.objective.data_loss(residuals) + self.objective.penalty([weights]))

    def linearise(self, weights: Tensor) -> tuple[float, Tensor, Tensor]:
        """Loss, gradient (P,) and rows (M, P)."""
        residuals = self.residuals(weights)
        rows = energy_rows(self.model, self.batch, self.objective)
        gradient = residuals @ rows + self.objective.mu * weights
        loss = self.objective.data_loss(residuals) + self.objective.penalty([weights])
        return float(loss), gradient, rows
