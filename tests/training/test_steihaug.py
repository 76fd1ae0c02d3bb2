"""The trust-region subproblem against its exact solution by eigenvalues."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlpr.training.relative_spectrum import relative_spectrum
from torchlpr.training.steihaug import SteihaugPath


def problem(seed: int, n: int, shift: float) -> tuple[torch.Tensor, ...]:
    """g, H (indefinite where shift is large) and a positive definite M."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n, n))
    m = a @ a.T + np.eye(n)
    h = m - shift * (b @ b.T) / n
    return tuple(map(torch.from_numpy, (rng.normal(size=n), h, m)))


def path(g, h, m, tolerance=1e-12, limit=500):
    return SteihaugPath(g, lambda v: h @ v, lambda v: torch.linalg.solve(m, v), tolerance, limit)


def model(g, h, d) -> float:
    return float(g @ d + 0.5 * d @ h @ d)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_without_a_boundary_it_is_the_newton_step(n: int) -> None:
    g, h, m = problem(n, n, 0.0)
    h = h + torch.diag(torch.arange(n).double())
    way = path(g, h, m)
    step = way.within(1e9)
    np.testing.assert_allclose(step.step, -torch.linalg.solve(h, g), rtol=1e-8, atol=1e-10)
    assert step.ended == "converged"
    assert way.products <= n + 3
    assert step.predicted == pytest.approx(-model(g, h, step.step), rel=1e-12)


def test_one_product_is_enough_where_h_is_m() -> None:
    g, _, m = problem(3, 20, 0.0)
    way = path(g, m, m)
    step = way.within(1e9)
    assert way.products == 1
    np.testing.assert_allclose(step.step, -torch.linalg.solve(m, g), rtol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 15),
    shift=st.floats(0, 20),
    radius=st.floats(1e-3, 10),
)
def test_the_step_stays_inside_and_is_at_least_the_cauchy_step(seed, n, shift, radius) -> None:
    g, h, m = problem(seed, n, shift)
    way = path(g, h, m)
    step = way.within(radius)
    size = float(step.step @ m @ step.step) ** 0.5
    assert size == pytest.approx(step.norm, rel=1e-6)
    assert step.predicted == pytest.approx(-model(g, h, step.step), rel=1e-6)
    assert size <= radius * (1 + 1e-6)
    if step.ended in {"boundary", "negative curvature"}:
        assert size == pytest.approx(radius, rel=1e-6)
    down = -torch.linalg.solve(m, g)
    most = radius / float(down @ m @ down) ** 0.5
    curvature = float(down @ h @ down)
    length = most if curvature <= 0 else min(most, -float(g @ down) / curvature)
    cauchy = -model(g, h, length * down)
    assert step.predicted >= cauchy * (1 - 1e-9)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 15),
    shift=st.floats(0, 20),
    radii=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6),
)
def test_radii_in_any_order_share_one_path(seed, n, shift, radii) -> None:
    """Each gives the very step of a path of its own, and no product is made twice."""
    g, h, m = problem(seed, n, shift)
    way, most = path(g, h, m), 0
    for radius in radii:
        found, alone = way.within(radius), path(g, h, m)
        expected = alone.within(radius)
        torch.testing.assert_close(found.step, expected.step, rtol=0, atol=0)
        assert (found.predicted, found.norm) == (expected.predicted, expected.norm)
        most = max(most, alone.products)
        assert way.products == most


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 30), shift=st.floats(0, 2))
def test_one_radius_needs_no_memory_of_the_path(seed: int, n: int, shift: float) -> None:
    g, h, m = problem(seed, n, shift)
    solve = partial(torch.linalg.solve, m)
    lean = SteihaugPath(g, lambda v: h @ v, solve, 1e-12, 500, keep=False)
    found, expected = lean.within(1e9), path(g, h, m).within(1e9)
    assert len(lean._legs) == 1
    torch.testing.assert_close(found.step, expected.step, rtol=0, atol=0)
    assert found.ended == expected.ended
    assert found.predicted == pytest.approx(expected.predicted, rel=1e-12)


@pytest.mark.parametrize("limit", [1, 3])
def test_the_limit_is_kept(limit: int) -> None:
    g, h, m = problem(0, 30, 0.0)
    way = path(g, h + torch.diag(torch.arange(30).double()), m, limit=limit)
    step = way.within(1e9)
    assert (way.products, step.ended) == (limit, "limit")
    assert step.predicted > 0


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 25), shift=st.floats(0, 20))
def test_extreme_relative_eigenvalues(seed: int, n: int, shift: float) -> None:
    _, h, m = problem(seed, n, shift)
    chol = np.linalg.cholesky(m.numpy())
    theta = np.linalg.eigvalsh(np.linalg.solve(chol, np.linalg.solve(chol, h.numpy()).T))
    found = relative_spectrum(
        lambda v: h @ v, lambda v: torch.linalg.solve(m, v), m[0], tolerance=1e-9
    )
    scale = np.abs(theta).max()
    assert found.smallest == pytest.approx(theta[0], abs=1e-6 * scale)
    assert np.abs(theta - found.smallest).min() <= found.error + 1e-9 * scale
    v = found.direction
    assert float(v @ m @ v) == pytest.approx(1, rel=1e-8)
    assert float(v @ h @ v) == pytest.approx(found.smallest, abs=1e-7 * scale)
    assert (found.smallest < 0) == (np.linalg.eigvalsh(h.numpy())[0] < 0) or abs(theta[0]) < 1e-6


@pytest.mark.parametrize("n", [100, 10_000, 100_000])
def test_one_descent_among_very_many_directions(n: int) -> None:
    """A random start holds so little of it that its image all but equals itself."""

    def hessian(v: torch.Tensor) -> torch.Tensor:
        image = v.clone()
        image[0] *= -0.05
        return image

    found = relative_spectrum(hessian, torch.clone, torch.zeros(n).double())
    assert found.smallest == pytest.approx(-0.05, rel=1e-6)
    assert abs(float(found.direction[0])) == pytest.approx(1.0, rel=1e-6)
