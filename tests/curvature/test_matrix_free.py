"""Certified intervals contain the 80-digit value, in every shape, wherever the iteration stops."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import DEVICES, Problem, problems, random_tensor, ridges, seeds, theorem
from tests.curvature.test_accuracy import SIZES, SPECTRA, make_gradients, make_rows
from tests.oracles import dense, extended_precision
from torchlpr.curvature import (
    MatrixFree,
    MatrixFreeSettings,
    build,
    choose_shape,
    load_factor,
)
from torchlpr.errors import InputError
from torchlpr.rigidity import prediction_rigidity

DIRECTIONS = [0, 2, None]
RATIOS = [1e-2, 1e-4, 1e-6, 1e-8, 1e-11, 1e-14]


def contains(lower: torch.Tensor, upper: torch.Tensor, value: np.ndarray) -> bool:
    return bool((lower.numpy() <= value).all() and (value <= upper.numpy()).all())


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("size", SIZES)
def test_intervals_contain_the_definition(size: str, spectrum: str, ratio: float) -> None:
    m, p = SIZES[size]
    rng = np.random.default_rng([m, p, SPECTRA.index(spectrum)])
    rows = make_rows(spectrum, m, p, rng)
    gradients = make_gradients(rows, rng)
    mu = ratio * np.linalg.norm(rows, 2) ** 2
    value, share = extended_precision.forms(rows, gradients, mu)
    for directions in DIRECTIONS:
        for tolerance in (0.5, 1e-2, 1e-6, 1e-12):
            settings = MatrixFreeSettings(tolerance, directions=directions)
            factor = build(torch.from_numpy(rows), mu, "matrix-free", settings)
            bounds = factor.bounds(torch.from_numpy(gradients))
            assert bounds.converged.all()
            assert contains(bounds.lower, bounds.upper, value)
            assert contains(bounds.regulariser_lower, bounds.regulariser_upper, share)
            width = (bounds.upper - bounds.lower) / bounds.lower
            assert (width <= tolerance * 1.01 + 3 * factor.rounding).all()


@pytest.mark.parametrize("ratio", [1e-4, 1e-8, 1e-14])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_intervals_hold_where_orthogonality_is_lost(spectrum: str, ratio: float) -> None:
    """Too little memory to keep a basis: more products, the same promise."""
    rng = np.random.default_rng([20, SPECTRA.index(spectrum)])
    rows = make_rows(spectrum, 20, 30, rng)
    gradients = make_gradients(rows, rng)
    mu = ratio * np.linalg.norm(rows, 2) ** 2
    value, share = extended_precision.forms(rows, gradients, mu)
    limit = 2 * 15 * 8 * (10 * 30 + 6 * 20)
    for most in (5, 25, 3000):
        settings = MatrixFreeSettings(1e-9, most, 0, limit)
        factor = build(torch.from_numpy(rows), mu, "matrix-free", settings)
        assert factor._batch()[1] is None
        bounds = factor.bounds(torch.from_numpy(gradients))
        assert contains(bounds.lower, bounds.upper, value)
        assert contains(bounds.regulariser_lower, bounds.regulariser_upper, share)
    assert bounds.converged.all()


@pytest.mark.parametrize("directions", DIRECTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_one_mu_for_each_weight(size: str, directions: int | None) -> None:
    m, p = SIZES[size]
    rng = np.random.default_rng([m, p, 17])
    rows = rng.normal(size=(m, p))
    gradients = make_gradients(rows, rng)
    mu = np.logspace(-8, 2, p)
    value, share = extended_precision.forms(rows, gradients, mu)
    settings = MatrixFreeSettings(1e-9, directions=directions)
    factor = build(torch.from_numpy(rows), torch.from_numpy(mu), "matrix-free", settings)
    bounds = factor.bounds(torch.from_numpy(gradients))
    assert contains(bounds.lower, bounds.upper, value)
    assert contains(bounds.regulariser_lower, bounds.regulariser_upper, share)
    forms = factor.quadratic_form(torch.from_numpy(gradients))
    np.testing.assert_allclose(forms.value, value, rtol=1e-8)


@theorem
@given(problem=problems(), mu=ridges, directions=st.integers(0, 3), seed=seeds)
def test_intervals_are_nested_and_hold_at_every_step(
    problem: Problem, mu: float, directions: int, seed: int
) -> None:
    scale = 10 ** np.random.default_rng(seed).uniform(-1, 1, problem.rows.shape[1])
    weights = torch.from_numpy(mu * scale)
    value = 1 / dense.augmented_qr(problem.rows, problem.gradients, weights.numpy())
    slack = 1e-12
    lower, upper = np.zeros(4), np.full(4, np.inf)
    for most in range(1, 6):
        settings = MatrixFreeSettings(1e-10, most, directions)
        bounds = build(problem.rows, weights, "matrix-free", settings).bounds(problem.gradients)
        assert contains(bounds.lower * (1 - slack), bounds.upper * (1 + slack), value)
        assert (bounds.lower.numpy() >= lower * (1 - slack)).all()
        assert (bounds.upper.numpy() <= upper * (1 + slack)).all()
        assert (bounds.products <= most).all()
        lower, upper = bounds.lower.numpy(), bounds.upper.numpy()


def test_c27_ten_products_bracket() -> None:
    """A wide spectrum, so that ten products leave a visible interval."""
    rows = torch.from_numpy(make_rows("generic", 60, 80, np.random.default_rng(3)))
    rows *= torch.logspace(0, -3, 60, dtype=torch.float64).unsqueeze(1)
    gradients, mu = random_tensor(1, 5, 80) @ (rows.mT @ rows), 1e-5
    exact = 1 / dense.augmented_qr(rows, gradients, mu)
    settings = MatrixFreeSettings(1e-12, 10, directions=0)
    factor = build(rows, mu, "matrix-free", settings)
    bounds = factor.bounds(gradients)
    assert contains(bounds.lower, bounds.upper, exact)
    assert not bounds.converged.any()
    assert ((bounds.upper - bounds.lower) > 1e-3 * bounds.lower).all()
    with pytest.raises(InputError, match=r"5 of 5 quadratic forms.* raise max_products"):
        factor.quadratic_form(gradients)
    with pytest.raises(InputError, match="relative interval of"):
        factor.solve(gradients)


def test_each_gradient_stops_on_its_own() -> None:
    rows = random_tensor(0, 30, 40) * torch.logspace(0, -3, 40, dtype=torch.float64)
    outside = torch.linalg.qr(rows.mT, mode="complete").Q[:, 30:].mT[:1]
    easy, hard = outside, random_tensor(1, 1, 40)
    settings = MatrixFreeSettings(1e-8, directions=0)
    both = build(rows, 1e-6, "matrix-free", settings).bounds(torch.cat([easy, hard, easy]))
    assert both.products[0] == both.products[2] < 3
    assert both.products[1] > 10
    expected = 1 / dense.augmented_qr(rows, torch.cat([easy, hard, easy]), 1e-6)
    assert contains(both.lower, both.upper, expected)


def test_directions_spare_products() -> None:
    rows = random_tensor(0, 50, 90) * torch.logspace(0, -4, 90, dtype=torch.float64)
    gradients = random_tensor(1, 6, 90)
    needed = [
        build(rows, 1e-5, "matrix-free", MatrixFreeSettings(directions=r)).bounds(gradients)
        for r in (0, 20, 50)
    ]
    products = [int(bounds.products.max()) for bounds in needed]
    assert products[0] > 1.5 * products[1] > products[2] == 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("directions", DIRECTIONS)
@pytest.mark.parametrize("rows", [6, 15, 0])
def test_solve_and_degrees_of_freedom(rows: int, directions: int | None, device: str) -> None:
    r, g = random_tensor(2, rows, 9), random_tensor(3, 5, 9)
    mu = 0.1 + random_tensor(4, 9).abs()
    settings = MatrixFreeSettings(1e-11, directions=directions)
    factor = build(r.to(device), mu.to(device), "matrix-free", settings)
    h = dense.hessian(r, mu)
    solved = factor.solve(g.to(device)).cpu()
    np.testing.assert_allclose(solved, np.linalg.solve(h, g.numpy().T).T, rtol=1e-7, atol=1e-9)
    dof = np.trace(np.linalg.solve(h, (r.mT @ r).numpy()))
    np.testing.assert_allclose(factor.effective_dof(), dof, rtol=1e-10, atol=1e-13)
    forms = factor.quadratic_form(g.to(device))
    np.testing.assert_allclose(
        (forms.regulariser / forms.value).cpu(), dense.mu_fraction(r, g, mu.numpy()), rtol=1e-5
    )


def test_little_memory_means_small_batches_and_no_kept_basis() -> None:
    rows, gradients = random_tensor(0, 40, 60), random_tensor(1, 30, 60)
    one = 8 * (10 * 60 + 6 * 40)
    results = []
    for limit in (None, 2 * 7 * one, 2 * one):
        settings = MatrixFreeSettings(1e-9, memory_limit=limit, directions=0)
        factor = build(rows, 1e-4, "matrix-free", settings)
        assert factor._batch()[1] == ("u" if limit is None else None)
        results.append(factor.quadratic_form(gradients).value)
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=0)
    torch.testing.assert_close(results[2], results[0], rtol=1e-8, atol=0)
    with pytest.raises(InputError, match="raise memory_limit or choose fewer parameters"):
        build(rows, 1e-4, "matrix-free", MatrixFreeSettings(memory_limit=one))


def test_state_survives_a_round_trip() -> None:
    r, g = random_tensor(5, 4, 6), random_tensor(6, 3, 6)
    factor = build(r, 0.2, "matrix-free", MatrixFreeSettings(1e-5, 77, 2))
    again = load_factor(factor.state_dict())
    assert isinstance(again, MatrixFree)
    assert again.settings == factor.settings
    for new, old in zip(again.bounds(g), factor.bounds(g), strict=True):
        assert torch.equal(new, old)


def test_auto_iterates_where_no_exact_shape_fits() -> None:
    shape, reason = choose_shape(20_000, 30_000, memory_limit=10**9)
    assert shape == "matrix-free"
    assert re.match(r"20000 rows, 30000 parameters need [\d.]+ GB in row space and", reason)
    assert "1 GB are allowed: intervals instead" in reason
    assert choose_shape(20_000, 30_000, memory_limit=10**11)[0] == "row"
    with pytest.raises(InputError, match="raise memory_limit"):
        choose_shape(20_000, 30_000, zero_mu=True, memory_limit=10**9)


def test_what_cannot_be_had_is_said() -> None:
    rows, gradients = random_tensor(0, 3, 4), random_tensor(1, 2, 4)
    zero = torch.tensor([0.1, 0.0, 0.1, 0.1])
    with pytest.raises(InputError, match="matrix-free needs every mu positive"):
        build(rows, zero, "matrix-free")
    with pytest.raises(InputError, match="not differentiable"):
        build(rows.requires_grad_(), 0.1, "matrix-free")
    gradients[1] = 0
    with pytest.raises(InputError, match="gradient 1 is zero"):
        prediction_rigidity(rows.detach(), gradients, 0.1, "matrix-free")
    for bad in ({"tolerance": 0.0}, {"max_products": 0}, {"directions": -1}, {"memory_limit": 0}):
        with pytest.raises(InputError, match=next(iter(bad))):
            MatrixFreeSettings(**bad)
