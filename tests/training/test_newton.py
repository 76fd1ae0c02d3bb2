"""Newton reaches minima that Levenberg-Marquardt alone does not, and knows them from saddles."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.cases import ONE, TWO, make_batch, mlp
from tests.training import dense
from tests.training.test_problem import full_hessian
from torchlpr import AtomBatch, BehlerParrinelloMLP, Objective
from torchlpr.training import LMSettings, fit
from torchlpr.training.newton import newton
from torchlpr.training.problem import Problem
from torchlpr.training.second_order_state import SecondOrderState


def strained(structures: int, types, seed: int) -> AtomBatch:
    """Energies that a small network cannot fit: residuals, and with them curvature, stay."""
    batch = make_batch(structures, types, seed=seed)
    return AtomBatch(3 * batch.features, batch.types, batch.structure, 3 * batch.labels())


@pytest.mark.parametrize("mu", [1e-1, 1e-2, 1e-4])
@pytest.mark.parametrize(("structures", "types"), [(25, TWO), (12, ONE)])
def test_a_minimum_of_the_full_loss(structures: int, types, mu: float) -> None:
    batch, objective = strained(structures, types, 5), Objective(mu=mu)
    model = mlp(types, bias=True, activation="tanh")()
    result = fit(model, batch, objective, "lm", progress=False)
    weights = dense.flat(model)
    gradient = dense.gradient(model, batch, objective)
    assert np.linalg.norm(gradient) <= 1e-7 * mu * np.linalg.norm(weights)
    eigenvalues = np.linalg.eigvalsh(full_hessian(model, batch, objective))
    assert eigenvalues[0] > -1e-9 * eigenvalues[-1]
    assert result.stationarity.is_minimum
    losses = [row[2] for row in result.steps]
    assert all(b <= a * (1 + 1e-11) for a, b in pairwise(losses))


def test_it_ends_quadratically_at_rounding() -> None:
    batch, objective = strained(25, TWO, 5), Objective(mu=1e-2)
    model = mlp(TWO, bias=True, activation="tanh")()
    settings = LMSettings(tolerance=1e-15)
    result = fit(model, batch, objective, "lm", lm_settings=settings, progress=False)
    norms = [row[3] for row in result.steps if row[1] == 1]
    assert norms[-1] < 1e-12 * 1e-2 * np.linalg.norm(dense.flat(model))
    assert len(norms) < 60  # the end is recognised, not waited for


def twins() -> BehlerParrinelloMLP:
    """Two hidden units with equal weights: no gradient ever parts them."""
    model = BehlerParrinelloMLP(4, ONE, hidden=(2,), activation="tanh", bias=True, seed=1)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2 and p.shape[0] == 1:
                p[:] = p[:, :1]
            elif p.shape[0] == 2:
                p[:] = p[:1]
    return model


def test_a_saddle_is_left() -> None:
    batch, objective = strained(12, ONE, 3), Objective(mu=1e-2)
    stuck, free = twins(), twins()
    before = fit(
        stuck, batch, objective, "lm", lm_settings=LMSettings(200, 1e-8, 0), progress=False
    )
    hidden = dict(stuck.named_parameters())["networks.0.0.weight"]
    assert torch.equal(hidden[0], hidden[1])
    assert before.stationarity.relative_gradient < 1e-5
    assert before.stationarity.smallest_curvature < -1e-3
    assert not before.stationarity.is_minimum  # a vanishing gradient is not enough
    after = fit(free, batch, objective, "lm", progress=False)
    assert after.stationarity.is_minimum
    assert after.loss < 0.99 * before.loss


def test_steps_are_bounded() -> None:
    batch, objective = strained(25, TWO, 5), Objective(mu=1e-4)
    model = mlp(TWO, bias=True, activation="tanh")()
    problem = Problem(model, batch, objective)
    state = SecondOrderState(problem.weights, handed_over=True)
    newton(problem, state, LMSettings(newton_steps=3), progress=False)
    assert [row[0] for row in state.history] == [0, 1, 2]
    np.testing.assert_array_equal(dense.flat(model), state.weights)


class Powers(torch.nn.Module):
    """Energies whose second derivative is infinite where they vanish."""

    def __init__(self, features: int) -> None:
        super().__init__()
        start = torch.linspace(0.1, 1.0, features, dtype=torch.float64)
        self.weight = torch.nn.Parameter(start)

    def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return (features @ self.weight).abs() ** 1.5


def test_a_hessian_that_is_not_finite_ends_in_words_too() -> None:
    batch = make_batch(6, ONE)
    features = batch.features.clone()
    features[0] = 0.0
    odd = AtomBatch(features, batch.types, batch.structure, batch.labels())
    with pytest.raises(FloatingPointError, match="the loss is nan; look at energies and features"):
        fit(Powers(features.shape[1]), odd, Objective(mu=1e-3), "lm", progress=False)


def test_a_loss_that_is_not_finite_is_said_at_once() -> None:
    batch = make_batch(6, ONE)
    huge = AtomBatch(batch.features, batch.types, batch.structure, 1e200 * batch.labels())
    with pytest.raises(FloatingPointError, match="the loss is inf; look at energies and features"):
        fit(mlp(ONE)(), huge, Objective(mu=1e-3), "lm", progress=False)
