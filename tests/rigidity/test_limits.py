"""T1 bounds, T6 limits (C17), and the trap of the pseudo-inverse (C35)."""

import numpy as np
import pytest
import torch
from hypothesis import given

from tests.cases import Problem, problems, random_tensor, ridges, theorem
from torchlpr import prediction_rigidity
from torchlpr.curvature import build

SHAPES = ["row", "parameter"]


@theorem
@given(problem=problems(), mu=ridges)
def test_t1_bounds(problem: Problem, mu: float) -> None:
    """mu/|g|^2 <= LPR <= (|R g^|^2 + mu)/|g|^2."""
    g = problem.gradients
    squared = g.square().sum(1)
    lpr = prediction_rigidity(problem.rows, g, mu)
    along = (g @ problem.rows.mT).square().sum(1) / squared
    assert (lpr >= mu / squared * (1 - 1e-12)).all()
    assert (lpr <= (along + mu) / squared * (1 + 1e-12)).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mu", [1e-12, 1e-3, 1e3])
def test_t1_no_information(mu: float, shape: str) -> None:
    """The lower bound is attained without rows, and by gradients orthogonal to all of them."""
    g = random_tensor(0, 3, 6)
    floor = mu / g.square().sum(1)
    torch.testing.assert_close(
        prediction_rigidity(torch.zeros(0, 6), g, mu, shape), floor, rtol=1e-14, atol=0
    )
    rows, blind = random_tensor(1, 4, 6), g.clone()
    rows[:, 3:], blind[:, :3] = 0, 0
    forms = build(rows, mu, shape).quadratic_form(blind)
    expected = blind.square().sum(1) / mu
    torch.testing.assert_close(forms.value, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(
        forms.regulariser / forms.value, torch.ones(3).double(), rtol=1e-14, atol=0
    )


@theorem
@given(problem=problems(min_rows=1))
def test_t6_strong_regularisation(problem: Problem) -> None:
    """LPR |g|^2 = mu + a - (b - a^2)/mu + O(1/mu^2), a = |R g^|^2, b = |R^T R g^|^2."""
    scale = float(problem.rows.square().sum())
    g, mu = problem.gradients, 1e4 * scale
    unit = g / g.norm(dim=1, keepdim=True)
    a = (unit @ problem.rows.mT).square().sum(1)
    b = (unit @ problem.rows.mT @ problem.rows).square().sum(1)
    data_part = prediction_rigidity(problem.rows, g, mu) * g.square().sum(1) - mu
    first, second = (data_part - a).abs(), (data_part - a + (b - a.square()) / mu).abs()
    assert (first <= 1.1 * scale**2 / mu).all()
    assert (second <= 1.1 * scale**3 / mu**2).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_t6_weak_regularisation(shape: str) -> None:
    """C17: identifiable gradients keep 1/|(R^T)^+ g|^2, the others fall as mu/|g_perp|^2."""
    rows = random_tensor(1, 5, 12)
    coefficients = random_tensor(2, 3, 5)
    outside = random_tensor(3, 3, 12)
    kept = prediction_rigidity(rows, coefficients @ rows, 1e-11, shape)
    torch.testing.assert_close(kept, 1 / coefficients.square().sum(1), rtol=1e-9, atol=0)
    basis = np.linalg.svd(rows.numpy())[2][5:]  # of the null space
    perpendicular = np.sum((outside.numpy() @ basis.T) ** 2, axis=1)
    lost = prediction_rigidity(rows, outside, 1e-11, shape)
    np.testing.assert_allclose(lost, 1e-11 / perpendicular, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_c35_directions_without_data_are_not_dropped(shape: str) -> None:
    """5 rows, 12 weights, mu = 1e-19: a pseudo-inverse of H gives O(1) here."""
    rows, g = random_tensor(1, 5, 12), random_tensor(3, 4, 12)
    basis = np.linalg.svd(rows.numpy())[2][5:]
    perpendicular = np.sum((g.numpy() @ basis.T) ** 2, axis=1)
    lpr = prediction_rigidity(rows, g, 1e-19, shape)
    np.testing.assert_allclose(lpr, 1e-19 / perpendicular, rtol=1e-6)
    h = rows.mT @ rows + 1e-19 * torch.eye(12)
    trap = 1 / torch.einsum("kp,pq,kq->k", g, torch.linalg.pinv(h), g)
    assert (trap > 1e-3).all()  # what must not come out
