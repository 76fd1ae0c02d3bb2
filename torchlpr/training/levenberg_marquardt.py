r"""Levenberg-Marquardt: damped Gauss-Newton steps on the full regularised loss.

.. math:: \left(R^\top R + (\mu + \lambda) I\right) \, d = -\nabla L, \qquad w \leftarrow w + d

through the very factors that rigidity uses: an M x M system for fewer rows than weights, a P x P
one for more, as with forces. The damping follows the ratio of actual to predicted decrease.

Source: Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05, DTU (1999).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tqdm.auto import tqdm

from torchlpr.curvature import solve_vector
from torchlpr.training.problem import Problem
from torchlpr.training.second_order_state import LMSettings, SecondOrderState

__all__ = ["levenberg_marquardt"]

MAX_DAMPING = 1e12  # a step this short changes no digit of the weights
# Newton takes over where so many steps together lower the loss by no more than this share
WINDOW, SLOW = 10, 3e-2


def levenberg_marquardt(
    problem: Problem,
    state: SecondOrderState,
    settings: LMSettings,
    progress: bool = True,
    on_step: Callable[[SecondOrderState], None] | None = None,
) -> None:
    """Descend fast from anywhere, until the steps are used up, bring little, or the end is reached.

    Args:
        problem: the loss, which never rises; left at the final weights.
        state: where to begin; changed in place.
        settings: when to stop.
        progress: whether to show a bar with loss, gradient and damping.
        on_step: called after every step, for checkpoints.
    """
    with tqdm(total=settings.steps, desc="levenberg-marquardt", disable=not progress) as bar:
        bar.update(len(state.history))
        here = problem.linearise(state.weights)
        while not state.handed_over and not state.done:
            state.record(here.loss, here.gradient)
            relative = problem.relative(here.gradient, state.weights)
            bar.set_postfix_str(
                f"loss={here.loss:.4e}, |grad|/mu|w|={relative:.1e}, damping={state.damping:.0e}",
                refresh=False,
            )
            bar.update()
            if relative <= settings.tolerance or state.damping > MAX_DAMPING:
                state.done = settings.newton_steps == 0
                state.handed_over = not state.done
                break
            damped = problem.mu * (1 + state.damping)
            step = -solve_vector(here.factor(damped), here.gradient)
            # decrease of the quadratic model: -(g.d + d.H d/2) with (H + lambda) d = -g
            predicted = 0.5 * float(step @ (problem.mu * state.damping * step - here.gradient))
            trial = state.weights + step
            gain = (here.loss - problem.loss(trial)) / predicted if predicted > 0 else -math.inf
            if gain > 0:
                state.weights = trial
                here = problem.linearise(trial)
                state.damping *= max(1 / 10, 1 - (2 * gain - 1) ** 3)
                state.growth = 2.0
            else:
                state.damping *= state.growth
                state.growth *= 2
            ended = len(state.history) >= settings.steps
            state.done = ended and settings.newton_steps == 0
            state.handed_over = settings.newton_steps > 0 and (ended or _slow(state, here.loss))
            if on_step is not None:
                on_step(state)
    problem.set(state.weights)


def _slow(state: SecondOrderState, loss: float) -> bool:
    """Whether the last steps brought next to nothing."""
    if len(state.history) < WINDOW:
        return False
    before = state.history[-WINDOW][2]
    return before - loss <= SLOW * before
