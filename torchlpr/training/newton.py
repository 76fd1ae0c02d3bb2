r"""Trust-region Newton on the full Hessian, from where Levenberg-Marquardt slows down.

Near a minimum the valley of fitted data is curved: a step along it spoils the fit at second order,
and the trust region would shrink to the size of that error (the Maratos effect). After each step

.. math:: d \leftarrow d - M^{-1} R^\top \left( r(w + d) - r - R d \right)

brings the residuals back to what the linear model promised.

Source: Conn, Gould, Toint, Trust-Region Methods (SIAM, 2000), chapters 7 and 15.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor
from tqdm.auto import tqdm

from torchlpr.curvature import Factor, solve_vector
from torchlpr.training.problem import Linearisation, Problem
from torchlpr.training.relative_spectrum import relative_spectrum
from torchlpr.training.second_order_state import LMSettings, SecondOrderState
from torchlpr.training.steihaug import SteihaugPath, TrustRegionStep

__all__ = ["PRODUCTS", "newton"]

CORRECTIONS = 3  # with fewer it takes more steps
ACCURACY = 0.1  # of the conjugate gradients, far from the minimum
ROUGH = 1e-3  # accuracy for which second derivatives in single precision are good enough
PRODUCTS = 200  # of one step, at most
MEASURABLE = 1e-12  # smaller decreases, relative to the loss, drown in its rounding
FLAT = -1e-6  # relative curvature: a network of linear layers has directions of exactly zero
FIRST_RADIUS = 1e-3  # least first radius in units of the residual's norm
ACCEPT, POOR, GOOD, SHRINK, EXPAND = 1e-4, 0.25, 0.75, 0.5, 2.0
NEXT, LEAST = 0.5, 1 / 16  # after a refusal: the error that is aimed at, and the least factor
SETTLED = 0.05  # share of the promised decrease below which a correction was the last
FALLS = 0.9


def newton(
    problem: Problem,
    state: SecondOrderState,
    settings: LMSettings,
    progress: bool = True,
    on_step: Callable[[SecondOrderState], None] | None = None,
    prove: bool = True,
) -> None:
    """Descend until the gradient vanishes and no direction has negative curvature.

    Args:
        problem: the loss; left at the final weights.
        state: where to begin; changed in place.
        settings: when to stop.
        progress: whether to show a bar with loss, gradient, radius and products.
        on_step: called after every step, for checkpoints.
        prove: whether to look for negative curvature where the gradient vanishes.
    """
    with tqdm(total=settings.newton_steps, desc="newton", disable=not progress) as bar:
        bar.update(state.steps_of(1))
        while state.steps_of(1) < settings.newton_steps and not state.done:
            here = problem.linearise(state.weights)
            state.record(here.loss, here.gradient)
            relative = problem.relative(here.gradient, state.weights)
            bar.set_postfix_str(
                f"loss={here.loss:.4e}, |grad|/mu|w|={relative:.1e}, "
                f"radius={state.radius:.1e}, products={state.products}",
                refresh=False,
            )
            bar.update()
            flat = relative <= settings.tolerance
            if flat and not prove:
                state.done = True
            else:
                _step(problem, here, state, flat)
            if on_step is not None:
                on_step(state)
    problem.set(state.weights)


def _step(problem: Problem, here: Linearisation, state: SecondOrderState, flat: bool) -> None:
    """One step of the trust region, or the end."""
    factor = here.factor(problem.mu)
    solve = partial(solve_vector, factor)
    decrement = math.sqrt(max(float(here.gradient @ solve(here.gradient)), 0.0))
    scale = math.sqrt(2 * here.loss)
    state.radius = state.radius or max(decrement, FIRST_RADIUS * scale)
    if not flat:
        accuracy = min(ACCURACY, math.sqrt(decrement / scale))
        if accuracy > ROUGH:
            hessian = problem.rough_hessian(here, state.weights)
        else:
            _, hessian = problem.derivatives(state.weights)
        path = SteihaugPath(here.gradient, hessian, solve, accuracy, PRODUCTS)
        moved = _by_loss(problem, here, state, factor, path.within)
        state.products += path.products
        if moved:
            return
        # the loss cannot tell any more, but the gradient can
        step = path.within(state.radius).step
        del path  # its vectors
        trial, _ = _corrected(problem, here, factor, state.weights, step)[-1]
        gradient = problem.linearise(trial).gradient
        less = float(gradient @ solve(gradient)) < (FALLS * decrement) ** 2
        if less and float(gradient.norm()) < float(here.gradient.norm()):
            state.weights = trial
            return
    _, hessian = problem.derivatives(state.weights)
    spectrum = relative_spectrum(hessian, solve, state.weights)
    state.products += spectrum.products
    if spectrum.smallest >= FLAT:
        state.done, state.ends = True, (spectrum.smallest, spectrum.largest)
        return
    # a saddle: leave it along the direction of negative curvature
    slope = float(here.gradient @ spectrum.direction)
    state.radius = max(state.radius, FIRST_RADIUS * scale)

    def along(radius: float) -> TrustRegionStep:
        predicted = abs(slope) * radius - 0.5 * spectrum.smallest * radius**2
        away = -math.copysign(radius, slope) * spectrum.direction
        return TrustRegionStep(away, predicted, radius, "negative curvature")

    state.done = not _by_loss(problem, here, state, factor, along)


def _by_loss(
    problem: Problem,
    here: Linearisation,
    state: SecondOrderState,
    factor: Factor,
    within: Callable[[float], TrustRegionStep],
) -> bool:
    """Take the longest step by which the loss falls as promised, and adapt the radius.

    Returns:
        Whether there is one; else what is promised drowns in the rounding of the loss.
    """
    while True:
        step = within(state.radius)
        if not step.predicted > MEASURABLE * here.loss:  # nor where it is NaN
            return False
        trials = _corrected(
            problem, here, factor, state.weights, step.step, SETTLED * step.predicted
        )
        best, lowest = min(trials, key=lambda trial: trial[1])
        gain = (here.loss - lowest) / step.predicted
        if gain > GOOD and step.ended != "converged":
            state.radius *= EXPAND
        elif gain < POOR:
            state.radius = step.norm * min(max(NEXT / (1 - gain), LEAST), SHRINK)
        if gain > ACCEPT:
            state.weights = best
            return True


def _corrected(
    problem: Problem,
    here: Linearisation,
    factor: Factor,
    weights: Tensor,
    step: Tensor,
    worth: float = -math.inf,
) -> list[tuple[Tensor, float]]:
    """Weights and loss after a step, and after each correction of the residuals that pays."""
    promised = here.residuals + here.rows @ step
    trial, trials = weights + step, list[tuple[Tensor, float]]()
    while True:
        residuals = problem.residuals(trial)
        loss = problem.value(residuals, trial)
        trials.append((trial, loss if math.isfinite(loss) else math.inf))
        settled = len(trials) > 1 and trials[-2][1] - loss <= worth
        if settled or len(trials) > CORRECTIONS:
            return trials
        trial = trial - solve_vector(factor, (residuals - promised) @ here.rows)
