"""One mu for each weight, zeros included where rows determine the weight."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import Problem, problems, random_tensor, seeds, theorem
from tests.oracles import dense
from torchlpr import InputError, prediction_rigidity
from torchlpr.curvature import build

SHAPES = ["row", "parameter", "auto"]


@theorem
@given(problem=problems(), seed=seeds, shape=st.sampled_from(SHAPES))
def test_against_dense(problem: Problem, seed: int, shape: str) -> None:
    mu = 10 ** np.random.default_rng(seed).uniform(-3, 2, problem.rows.shape[1])
    lpr = prediction_rigidity(problem.rows, problem.gradients, torch.from_numpy(mu), shape)
    expected = dense.augmented_qr(problem.rows, problem.gradients, mu)
    np.testing.assert_allclose(lpr, expected, rtol=1e-10)


@theorem
@given(problem=problems(), mu=st.floats(1e-4, 100), shape=st.sampled_from(SHAPES))
def test_equal_entries_are_a_number(problem: Problem, mu: float, shape: str) -> None:
    vector = torch.full((problem.rows.shape[1],), mu, dtype=torch.float64)
    torch.testing.assert_close(
        prediction_rigidity(problem.rows, problem.gradients, vector, shape),
        prediction_rigidity(problem.rows, problem.gradients, mu, shape),
        rtol=1e-13,
        atol=0,
    )


@pytest.mark.parametrize("free", [[0], [2, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("shape", ["parameter", "auto"])
@pytest.mark.parametrize("rows", [5, 20])
def test_weights_without_regulariser(rows: int, shape: str, free: list[int]) -> None:
    mu = torch.full((5,), 0.1, dtype=torch.float64)
    mu[free] = 0
    if len(free) == 5:
        mu[4] = 1e-9
    r, g = random_tensor(1, rows, 5), random_tensor(2, 3, 5)
    lpr = prediction_rigidity(r, g, mu, shape)
    np.testing.assert_allclose(lpr, dense.prediction_rigidity(r, g, mu.numpy()), rtol=1e-9)


def test_c30_unregularised_intercept() -> None:
    """1/LPR = 1/N + centred form: LPR <= N, attained at the mean row."""
    x, mu, n = random_tensor(1, 12, 4), 0.05, 12
    rows = torch.cat([x, torch.ones(n, 1)], dim=1)
    asked = torch.cat([random_tensor(2, 3, 4), x.mean(0, keepdim=True)])
    gradients = torch.cat([asked, torch.ones(4, 1)], dim=1)
    lpr = prediction_rigidity(
        rows, gradients, torch.tensor([mu] * 4 + [0.0], dtype=torch.float64)
    ).numpy()
    centred, away = (x - x.mean(0)).numpy(), (asked - x.mean(0)).numpy()
    h = centred.T @ centred + mu * np.eye(4)
    expected = 1 / (1 / n + np.sum(away * np.linalg.solve(h, away.T).T, axis=1))
    np.testing.assert_allclose(lpr, expected, rtol=1e-9)
    np.testing.assert_allclose(lpr[-1], n, rtol=1e-12)


def test_zeros_that_no_row_determines_are_refused() -> None:
    rows, gradients = random_tensor(1, 6, 4), random_tensor(2, 2, 4)
    rows[:, 2] = 0
    mu = torch.tensor([0.1, 0.1, 0.0, 0.1], dtype=torch.float64)
    with pytest.raises(InputError, match=r"H \(4 x 4\) is singular: pivot 2"):
        prediction_rigidity(rows, gradients, mu)
    with pytest.raises(InputError, match="row space needs every mu positive"):
        build(rows, mu, "row")
