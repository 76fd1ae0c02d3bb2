"""Levenberg-Marquardt against dense damped normal equations, ridge, and known convergence."""

import numpy as np
import pytest
import torch

from tests.cases import MODELS, ONE, TWO, make_batch, mlp
from tests.training import dense
from torchlpr import AtomBatch, InputError, LinearModel, Objective
from torchlpr.training import LMSettings, fit
from torchlpr.training.levenberg_marquardt import levenberg_marquardt
from torchlpr.training.problem import Problem
from torchlpr.training.second_order_state import SecondOrderState

OBJECTIVE = Objective(mu=0.02, energy_weight=1.7)


def only(steps: int, tolerance: float = 1e-8) -> LMSettings:
    """Levenberg-Marquardt without Newton."""
    return LMSettings(steps, tolerance, newton_steps=0)


@pytest.mark.parametrize("damping", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("structures", [3, 60])
@pytest.mark.parametrize("name", ["mlp", "mlp bias silu two species", "linear two species"])
def test_a_step_solves_the_damped_normal_equations(
    name: str, structures: int, damping: float
) -> None:
    types, build = MODELS[name]
    batch, model = make_batch(structures, types), build()
    before = dense.flat(model).copy()
    r, g = dense.rows(model, batch, OBJECTIVE), dense.gradient(model, batch, OBJECTIVE)
    loss = float(dense.loss(model, batch, OBJECTIVE).detach())
    h = r.T @ r + OBJECTIVE.mu * (1 + damping) * np.eye(len(before))
    step = -np.linalg.solve(h, g)
    state = SecondOrderState(torch.from_numpy(before), damping)
    problem = Problem(model, batch, OBJECTIVE)
    levenberg_marquardt(problem, state, only(steps=1), progress=False)
    expected = (0, 0, loss, np.linalg.norm(g), damping, 0, 0)
    assert state.history == [pytest.approx(expected, rel=1e-11)]
    moved = state.weights.numpy() - before
    new = float(dense.loss(model, batch, OBJECTIVE).detach())
    if state.damping > damping * 1.9:  # refused: the loss would have risen
        np.testing.assert_array_equal(moved, 0)
    else:
        scale = np.abs(step).max()
        np.testing.assert_allclose(moved, step, rtol=0, atol=1e-10 * scale)
        assert new < loss
        # Nielsen's rule, from the ratio of the decreases
        model_decrease = -(g @ step) - 0.5 * step @ (r.T @ r + OBJECTIVE.mu * np.eye(len(g))) @ step
        gain = (loss - new) / model_decrease
        expected = damping * max(0.1, 1 - (2 * gain - 1) ** 3)
        assert state.damping == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(dense.flat(model), state.weights)


@pytest.mark.parametrize("mu", [1e-1, 1e-6])
def test_the_loss_never_rises_and_a_minimum_is_reached(mu: float) -> None:
    batch, objective = make_batch(25, TWO, seed=5), Objective(mu=mu)
    large = AtomBatch(batch.features * 3, batch.types, batch.structure, batch.labels() * 3)
    model = mlp(TWO, bias=True, activation="tanh")()
    most = only(3000, 1e-6) if mu == 1e-1 else only(300)
    result = fit(model, large, objective, "lm", lm_settings=most, progress=False)
    losses = np.array([row[2] for row in result.steps])
    assert (np.diff(losses) <= 0).all()
    assert (np.diff(losses) == 0).any()  # some steps were refused, or this would show nothing
    assert result.loss == pytest.approx(float(dense.loss(model, large, objective).detach()))
    assert result.loss <= losses[-1] * (1 + 1e-12)
    if mu == 1e-1:
        norm = np.linalg.norm(dense.gradient(model, large, objective))
        assert norm <= 1e-6 * mu * np.linalg.norm(dense.flat(model))
        assert result.stationarity.is_minimum


def test_convergence_is_quadratic_where_the_residual_vanishes() -> None:
    """A teacher's energies, more rows than weights, next to no regulariser: errors square."""
    batch = make_batch(90, ONE, seed=1)
    teacher = mlp(ONE, hidden=(2,), bias=True, activation="tanh")()
    with torch.no_grad():
        for p in teacher.parameters():
            p.mul_(2)  # well into the bends of tanh
    local = teacher(batch.features, batch.types).detach()
    totals = torch.zeros(90).double().index_add(0, batch.structure, local)
    batch = AtomBatch(batch.features, batch.types, batch.structure, totals)
    goal = dense.flat(teacher)
    start = goal + 0.1 * np.random.default_rng(0).normal(size=goal.size)
    path = [start]
    levenberg_marquardt(
        Problem(teacher, batch, Objective(mu=1e-14)),
        SecondOrderState(torch.from_numpy(start)),
        only(steps=4),
        progress=False,
        on_step=lambda state: path.append(state.weights.numpy().copy()),
    )
    errors = [float(np.linalg.norm(w - goal)) for w in path]
    assert errors[0] > 0.1
    assert errors[-1] < 1e-11
    first, second, third = (
        np.log(errors[k + 2] / errors[k + 1]) / np.log(errors[k + 1] / errors[k]) for k in range(3)
    )
    assert min(first, second, third) > 1.8


@pytest.mark.parametrize("mu", [10.0, 1e-3, 1e-9])
@pytest.mark.parametrize("structures", [3, 40])
def test_a_linear_model_reaches_the_ridge(structures: int, mu: float) -> None:
    """From zero weights, of which no relative gradient can be taken."""
    batch, objective, model = make_batch(structures, TWO), Objective(mu=mu), LinearModel(4, TWO)
    assert not dense.flat(model).any()
    result = fit(model, batch, objective, "lm", progress=False)
    r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
    expected = dense.ridge(r, t, mu)
    np.testing.assert_allclose(
        dense.flat(model), expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )
    assert len(result.steps) < 40


def test_nothing_to_fit_stays_at_zero() -> None:
    """Energies that are zero: the zero weights are the minimum, and nothing divides by them."""
    batch, model = make_batch(3), LinearModel(4, ONE)
    blank = AtomBatch(batch.features, batch.types, batch.structure, torch.zeros(3).double())
    result = fit(model, blank, Objective(mu=1.0), "lm", progress=False)
    assert not dense.flat(model).any()
    assert result.stationarity.relative_gradient == 0.0


def test_a_float32_model_keeps_its_precision() -> None:
    types, build = MODELS["mlp"]
    model = build().to(torch.float32)
    batch = make_batch(9, types)
    result = fit(model, batch, OBJECTIVE, "lm", progress=False)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    double = build().to(torch.float32).to(torch.float64)  # from the same rounded weights
    fit(double, batch.to(dtype=torch.float32), OBJECTIVE, "lm", progress=False)
    np.testing.assert_allclose(dense.flat(model), dense.flat(double).astype(np.float32), rtol=0)
    assert result.stationarity.is_minimum


def test_adam_then_lm_ends_lower_than_adam() -> None:
    types, build = MODELS["mlp"]
    batch, model, twin = make_batch(9, types), build(), build()
    both = fit(model, batch, OBJECTIVE, "adam+lm", epochs=5, progress=False)
    first = fit(twin, batch, OBJECTIVE, "adam", epochs=5, progress=False)
    np.testing.assert_array_equal(both.epochs, first.epochs)
    assert both.steps[0][2] == pytest.approx(first.loss, rel=1e-12)
    assert both.loss < first.loss
    assert both.stationarity.is_minimum
    assert not first.stationarity.is_minimum


@pytest.mark.parametrize(("steps", "tolerance"), [(0, 1e-6), (5, 0.0), (5, -1.0)])
def test_settings_that_make_no_sense(steps: int, tolerance: float) -> None:
    with pytest.raises(InputError, match="steps and tolerance must be positive"):
        LMSettings(steps, tolerance)
