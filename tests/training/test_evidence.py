"""Evidence against the Gaussian density of the labels, degrees of freedom against traces."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn
from torch.distributions import MultivariateNormal

from tests.cases import MODELS, ONE, TWO, Problem, make_batch, problems, theorem
from tests.force_cases import make_force_batch
from tests.oracles import laplace_torch
from tests.oracles.gaussian_process import polynomial_kernel
from tests.training import dense
from tests.training.test_forces import stacked
from torchlpr import AtomBatch, InputError, LinearModel, Objective
from torchlpr.training import fit
from torchlpr.training.closed_form import RidgePath
from torchlpr.training.evidence import MuCriteria, log_evidence, mu_criteria, noise

HEADS = ["linear", "linear two species", "kernel", "kernel two species"]
MUS = (1e2, 0.3, 1e-2, 1e-4)


def largest_density(covariance: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Maximum over sigma of ln N(targets | 0, sigma^2 covariance), by golden section; and sigma."""
    zero, t = torch.zeros(len(targets)).double(), torch.from_numpy(targets)

    def density(log_sigma: float) -> float:
        scaled = torch.from_numpy(covariance) * np.exp(2 * log_sigma)
        return float(MultivariateNormal(zero, scaled).log_prob(t))

    ratio, low, high = (5**0.5 - 1) / 2, -15.0, 10.0
    for _ in range(70):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if density(left) > density(right) else (left, high)
    return density(low), float(np.exp(low))


@pytest.mark.parametrize("options", [{}, {"energy_weight": 2.5, "per_atom": False}], ids=str)
@pytest.mark.parametrize("structures", [3, 20])
@pytest.mark.parametrize("name", HEADS)
def test_the_density_of_the_labels(name: str, structures: int, options: dict[str, float]) -> None:
    model, batch = MODELS[name][1](), make_batch(structures, MODELS[name][0])
    objective = Objective(mu=1.0, **options)
    found = mu_criteria(model, batch, objective, MUS)
    r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
    for k, mu in enumerate(MUS):
        density, sigma = largest_density(np.eye(len(t)) + r @ r.T / mu, t)
        assert float(found.log_evidence[k]) == pytest.approx(density, rel=1e-9)
        # the place of a maximum has half the digits of its value
        assert float(found.noise[k]) == pytest.approx(sigma, rel=1e-4)
        h = r.T @ r + mu * np.eye(r.shape[1])
        trace = np.trace(np.linalg.solve(h, r.T @ r))
        assert float(found.effective_dof[k]) == pytest.approx(trace, rel=1e-10)


@pytest.mark.parametrize("structures", [2, 9])
def test_forces_are_labels_too(structures: int) -> None:
    model, batch = LinearModel(4, TWO), make_force_batch(structures, TWO)
    objective = Objective(mu=1.0, energy_weight=1.7, force_weight=0.2)
    found = mu_criteria(model, batch, objective, MUS)
    r, t = stacked(model, batch, objective)
    assert len(t) > r.shape[1]
    for k, mu in enumerate(MUS):
        density, _ = largest_density(np.eye(len(t)) + r @ r.T / mu, t)
        assert float(found.log_evidence[k]) == pytest.approx(density, rel=1e-9)


def test_a_kernel_model_is_a_gaussian_process() -> None:
    """Prior covariance K_NM K_MM^-1 K_MN / mu of structure means, in kernels alone."""
    model, batch = MODELS["kernel"][1](), make_batch(12, seed=4)
    found = mu_criteria(model, batch, Objective(mu=0.1))
    points, kernel = model.inducing_batch().features.numpy(), polynomial_kernel(2)
    atoms = kernel(batch.features.numpy(), points)
    k_nm = np.stack([atoms[batch.structure == a].mean(0) for a in range(12)])
    prior = k_nm @ np.linalg.solve(kernel(points, points), k_nm.T)
    density, _ = largest_density(np.eye(12) + prior / 0.1, dense.targets(batch, Objective(mu=1.0)))
    assert float(found.log_evidence[0]) == pytest.approx(density, rel=1e-9)


@pytest.mark.parametrize("structures", [6, 40])
@pytest.mark.parametrize("name", ["mlp", "mlp two species", "mlp bias tanh"])
def test_a_network_by_laplace(name: str, structures: int) -> None:
    """Loss and Gauss-Newton Hessian of the network itself at its minimum, maximised over sigma."""
    model, batch = MODELS[name][1](), make_batch(structures, MODELS[name][0], seed=2)
    objective = Objective(mu=0.05, energy_weight=1.7)
    result = fit(model, batch, objective, "lm", progress=False)
    assert result.stationarity.is_minimum
    found = mu_criteria(model, batch, objective)
    r, loss = (
        dense.rows(model, batch, objective),
        float(dense.loss(model, batch, objective).detach()),
    )
    p = r.shape[1]
    h = r.T @ r + 0.05 * np.eye(p)

    def laplace(log_sigma: np.ndarray) -> np.ndarray:
        """Likelihood and prior at the minimum, and the Gaussian volume around it."""
        normalised = -0.5 * structures * (np.log(2 * np.pi) + 2 * log_sigma)
        prior = 0.5 * p * (np.log(0.05 / (2 * np.pi)) - 2 * log_sigma)
        volume = 0.5 * (p * np.log(2 * np.pi) - np.linalg.slogdet(h)[1] + 2 * p * log_sigma)
        return -loss / np.exp(2 * log_sigma) + normalised + prior + volume

    peak = laplace(np.linspace(-8, 3, 200_001)).max()
    assert float(found.log_evidence[0]) == pytest.approx(peak, abs=1e-6)
    trace = np.trace(np.linalg.solve(h, r.T @ r))
    assert float(found.effective_dof[0]) == pytest.approx(trace, rel=1e-9)


def test_a_network_by_laplace_torch() -> None:
    model, batch = MODELS["mlp softplus"][1](), make_batch(12, ONE, seed=2, atoms=3)
    objective = Objective(mu=0.05)
    fit(model, batch, objective, "lm", progress=False)
    found = mu_criteria(model, batch, objective)
    features, targets = batch.features.reshape(12, 3, 4), batch.labels() / 3
    sigma = float(found.noise[0])
    atomic = model.networks[0]
    expected = laplace_torch.log_evidence(atomic, features, targets, 0.05, sigma)
    assert float(found.log_evidence[0]) == pytest.approx(expected, rel=1e-6)
    for other in (0.9 * sigma, 1.1 * sigma):
        assert laplace_torch.log_evidence(atomic, features, targets, 0.05, other) < expected


def noisy_path() -> tuple[RidgePath, int]:
    """Labels of a linear law under noise: the evidence has its peak inside."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(30, 8))
    targets = rows @ rng.normal(size=8) + 0.5 * rng.normal(size=30)
    return RidgePath(torch.from_numpy(rows), torch.from_numpy(targets)), 30


@pytest.mark.parametrize("mu", [1e-4, 0.1, 3.0, 100.0])
def test_slope_and_peak(mu: float) -> None:
    """d ln p/d ln mu = (gamma - mu |w|^2/sigma^2)/2, which changes sign once here: at the peak."""
    path, m = noisy_path()

    def slope(mu: float) -> float:
        size = float(path.weights(mu).square().sum())
        return (path.effective_dof(mu) - mu * size / noise(path, m, mu) ** 2) / 2

    step = 1e-4
    ends = [log_evidence(path, m, mu * np.exp(sign * step)) for sign in (-1, 1)]
    assert slope(mu) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5, abs=1e-7)
    grid = np.logspace(-5, 4, 2001)
    best = grid[np.argmax([log_evidence(path, m, x) for x in grid])]
    assert slope(best * 0.97) > 0 > slope(best * 1.03)
    # the noise of the peak is the unbiased one, |r|^2 / (M - gamma)
    weights = path.weights(best)
    squares = 2 * path.loss(best) - best * float(weights.square().sum())
    unbiased = (squares / (m - path.effective_dof(best))) ** 0.5
    assert noise(path, m, best) == pytest.approx(unbiased, rel=1e-3)


@theorem
@given(problems(min_rows=1))
def test_degrees_of_freedom_are_bounded_and_fall(problem: Problem) -> None:
    targets = torch.ones(len(problem.rows), dtype=torch.float64)
    path = RidgePath(problem.rows, targets)
    mus = np.logspace(-8, 8, 17)
    dof = [path.effective_dof(mu) for mu in mus]
    assert all(0 <= value <= min(problem.rows.shape) for value in dof)
    assert all(weak > strong for weak, strong in pairwise(dof))
    # twice the loss rises from what no weights reach to |t|^2
    twice = [2 * path.loss(mu) for mu in mus]
    assert all(0 <= a <= b <= len(targets) * (1 + 1e-12) for a, b in pairwise(twice))


@pytest.mark.parametrize("name", ["kernel two species", "mlp"])
def test_parts_are_joined(name: str) -> None:
    model, batch = MODELS[name][1](), make_batch(7, MODELS[name][0])
    whole = mu_criteria(model, batch, Objective(mu=1.0), MUS)
    parts = MuCriteria.cat([mu_criteria(model, batch, Objective(mu=mu)) for mu in MUS])
    assert parts.mus == whole.mus == MUS
    for field in ("effective_dof", "log_evidence", "noise", "rmse_leave_one_out"):
        np.testing.assert_allclose(getattr(parts, field), getattr(whole, field), rtol=1e-12)
    np.testing.assert_allclose(parts.left_out.squares, whole.left_out.squares, rtol=1e-12)


def test_the_model_is_left_alone() -> None:
    model, batch = MODELS["mlp bias tanh"][1]().train(), make_batch(4)
    before = dense.flat(model).copy()
    mu_criteria(model.requires_grad_(False), batch, Objective(mu=1.0))
    np.testing.assert_array_equal(dense.flat(model), before)
    assert model.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("structures", "mus", "words"),
    [(3, [], "no mu to judge"), (3, [-1.0], "mu must be"), (0, [1.0], "training set is empty")],
)
def test_refusals(structures: int, mus: list[float], words: str) -> None:
    model: nn.Module = LinearModel(4, TWO)
    batch: AtomBatch = make_batch(3, TWO).select(list(range(structures)))
    with pytest.raises(InputError, match=words):
        mu_criteria(model, batch, Objective(mu=1.0), mus)


def test_labels_of_zero_say_nothing() -> None:
    batch = make_batch(3, TWO)
    batch.labels().zero_()
    found = mu_criteria(LinearModel(4, TWO), batch, Objective(mu=1.0), MUS)
    assert torch.isinf(found.log_evidence).all()
    np.testing.assert_array_equal(found.rmse_leave_one_out, np.zeros(4))
