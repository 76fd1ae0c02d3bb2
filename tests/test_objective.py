"""The loss against its formula written out, its derivatives and the factor table."""

import itertools
import math

import numpy as np
import pytest
import torch

from torchlpr.errors import InputError
from torchlpr.objective import Objective

COUNTS = [3, 1, 4, 2]
SETTINGS = [
    Objective(mu=mu, energy_weight=c, per_atom=per_atom)
    for mu, c, per_atom in itertools.product([0.3, 7.0], [1.0, 2.5], [True, False])
]


@pytest.fixture
def problem() -> dict[str, torch.Tensor]:
    """A linear model: atomic energies X w of four structures with shuffled atoms."""
    rng = np.random.default_rng(0)
    structure = rng.permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))
    arrays = {
        "x": rng.normal(size=(sum(COUNTS), 3)),
        "w": rng.normal(size=3),
        "structure": structure,
        "counts": np.array(COUNTS),
        "energies": rng.normal(size=len(COUNTS)),
    }
    return {name: torch.as_tensor(array) for name, array in arrays.items()}


def loss(objective: Objective, p: dict[str, torch.Tensor], w: torch.Tensor) -> torch.Tensor:
    r = objective.residuals(p["x"] @ w, p["structure"], p["counts"], p["energies"])
    return objective.data_loss(r) + objective.penalty([w[:1], w[1:]])


def written_out(objective: Objective, p: dict[str, torch.Tensor], w: list[float]) -> float:
    """1/2 sum_A c (E_A/n_A - E~_A/n_A)^2 + 1/2 mu |w|^2 in plain Python."""
    total = 0.0
    for a, n in enumerate(COUNTS):
        predicted = 0.0
        for x, s in zip(p["x"].tolist(), p["structure"].tolist(), strict=True):
            if s == a:
                predicted += sum(xi * wi for xi, wi in zip(x, w, strict=True))
        divisor = n if objective.per_atom else 1
        difference = (float(p["energies"][a]) - predicted) / divisor
        total += 0.5 * objective.energy_weight * difference**2
    return total + 0.5 * objective.mu * sum(wi**2 for wi in w)


def design(objective: Objective, p: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Rows R and right-hand side y of the least-squares problem, by loops."""
    x, structure = p["x"].numpy(), p["structure"].numpy()
    rows = np.stack([x[structure == a].sum(0) for a in range(len(COUNTS))])
    scale = np.full(len(COUNTS), math.sqrt(objective.energy_weight))
    if objective.per_atom:
        scale /= COUNTS
    return rows * scale[:, None], p["energies"].numpy() * scale


@pytest.mark.parametrize("objective", SETTINGS, ids=str)
def test_loss_is_the_half_convention(objective: Objective, problem) -> None:
    value = float(loss(objective, problem, problem["w"]))
    expected = written_out(objective, problem, problem["w"].tolist())
    assert value == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("objective", SETTINGS, ids=str)
def test_gradient_by_finite_differences(objective: Objective, problem) -> None:
    w = problem["w"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(objective, problem, w), w)
    step = 1e-4  # the loss is quadratic: central differences have rounding error only
    for k in range(3):
        shifted = [problem["w"].tolist() for _ in range(2)]
        shifted[0][k] += step
        shifted[1][k] -= step
        up, down = (written_out(objective, problem, s) for s in shifted)
        assert float(gradient[k]) == pytest.approx((up - down) / (2 * step), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("objective", SETTINGS, ids=str)
def test_hessian_is_rows_squared_plus_mu(objective: Objective, problem) -> None:
    """SCIENCE A.1: H = R^T R + mu I, without factors of 2 or N."""
    hessian = torch.autograd.functional.hessian(
        lambda w: loss(objective, problem, w), problem["w"]
    ).numpy()
    rows, _ = design(objective, problem)
    np.testing.assert_allclose(hessian, rows.T @ rows + objective.mu * np.eye(3), rtol=1e-13)


@pytest.mark.parametrize("objective", SETTINGS, ids=str)
def test_minimum_is_ridge(objective: Objective, problem) -> None:
    rows, y = design(objective, problem)
    ridge = np.linalg.solve(rows.T @ rows + objective.mu * np.eye(3), rows.T @ y)
    w = torch.tensor(ridge, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(objective, problem, w), w)
    assert float(gradient.abs().max()) < 1e-13


def test_row_scale() -> None:
    counts = torch.tensor([1, 2, 8])
    scale = Objective(mu=1.0, energy_weight=4.0).row_scale(counts)
    assert scale.tolist() == [2.0, 1.0, 0.25]
    assert scale.dtype == torch.float64
    assert (
        Objective(mu=1.0, energy_weight=4.0, per_atom=False).row_scale(counts).tolist() == [2] * 3
    )


def test_structures_weigh_the_same_whatever_their_size() -> None:
    """Per atom: two copies of a structure side by side are one row like the single one."""
    objective = Objective(mu=1.0)
    local, energy = torch.tensor([0.25, 0.5]).double(), torch.tensor([1.0]).double()
    zeros = torch.zeros(2, dtype=torch.int64)
    once = objective.residuals(local, zeros, torch.tensor([2]), energy)
    twice = objective.residuals(local.repeat(2), zeros.repeat(2), torch.tensor([4]), 2 * energy)
    assert float(once) == float(twice) == (0.75 - 1.0) / 2


def test_residuals_keep_the_precision_of_the_model(problem) -> None:
    p = {k: v.float() if v.is_floating_point() else v for k, v in problem.items()}
    r = Objective(mu=1.0).residuals(p["x"] @ p["w"], p["structure"], p["counts"], p["energies"])
    assert r.dtype == torch.float32


def minimise(w: torch.Tensor, optimizer: torch.optim.Optimizer, r: np.ndarray, y: np.ndarray):
    """Full-batch MSELoss(mean) with a falling learning rate, until the steps vanish."""
    rows, target = torch.as_tensor(r), torch.as_tensor(y)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.995)
    for _ in range(6000):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(rows @ w, target).backward()
        optimizer.step()
        schedule.step()
    return w.detach().numpy()


def test_adam_weight_decay_is_ridge_with_half_n_lambda(problem) -> None:
    """Table A.3 and check C24: MSELoss(mean) with weight_decay=lam is mu = N lam / 2."""
    lam, n = 0.05, len(COUNTS)
    objective = Objective(mu=n * lam / 2)
    rows, y = design(objective, problem)
    ridge = np.linalg.solve(rows.T @ rows + objective.mu * np.eye(3), rows.T @ y)

    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    found = minimise(w, torch.optim.Adam([w], lr=0.05, weight_decay=lam), rows, y)
    np.testing.assert_allclose(found, ridge, rtol=0, atol=1e-8)
    (gradient,) = torch.autograd.grad(loss(objective, problem, w), w)
    assert float(gradient.abs().max()) < 1e-8

    # the factors a reader might expect instead are far away, and so is AdamW
    for mu in (lam, lam / 2, n * lam):
        other = np.linalg.solve(rows.T @ rows + mu * np.eye(3), rows.T @ y)
        assert abs(found - other).max() > 1e-2
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    decoupled = minimise(w, torch.optim.AdamW([w], lr=0.05, weight_decay=lam), rows, y)
    assert abs(decoupled - ridge).max() > 1e-2


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_bad_values(value: float) -> None:
    with pytest.raises(InputError, match=f"mu must be a positive number, not {value}"):
        Objective(mu=value)
    with pytest.raises(InputError, match=f"energy_weight must be a positive number, not {value}"):
        Objective(mu=1.0, energy_weight=value)
    if value:
        with pytest.raises(InputError, match=f"force_weight must be .* alone, not {value}"):
            Objective(mu=1.0, force_weight=value)


def test_settings_round_trip() -> None:
    objective = Objective(mu=0.25, energy_weight=2.0, per_atom=False, force_weight=0.1)
    settings = {"mu": 0.25, "energy_weight": 2.0, "per_atom": False, "force_weight": 0.1}
    assert objective.as_dict() == settings
    assert Objective(**objective.as_dict()) == objective
