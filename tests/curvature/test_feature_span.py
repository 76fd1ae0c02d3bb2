"""Evaluation in the span of the training features: the same numbers, or a bounded error."""

import numpy as np
import pytest
import torch

from torchlpr.curvature import RowSpace, atomic_gradients, energy_rows, feature_span_of_rows
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP, LinearModel
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch

FEATURES, SPAN = 24, 10


def make_problem(
    types: tuple[int, ...], bias: bool = True, noise: float = 0.0
) -> tuple[BehlerParrinelloMLP, AtomBatch, AtomBatch]:
    """Training features in a subspace with one strong direction, test atoms in and out of it."""
    generator = torch.Generator().manual_seed(len(types))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def batch(features: torch.Tensor, atoms: int) -> AtomBatch:
        z = torch.tensor(types)[torch.arange(len(features)) % len(types)]
        return AtomBatch(features, z, torch.arange(len(features)) // atoms)

    spread = normal(SPAN, FEATURES)
    spread[0] *= 30
    train = (normal(90, SPAN) + torch.eye(SPAN)[0] * 20) @ spread
    train += noise * normal(90, FEATURES)
    inside = (normal(100, SPAN) + torch.eye(SPAN)[0] * 20) @ spread
    inside[40:60] += 1e-4 * normal(20, FEATURES)
    inside[60:80] = normal(20, FEATURES)
    inside[80:] = train[:20]
    model = BehlerParrinelloMLP(FEATURES, types, (5, 3), "tanh", bias, seed=0)
    for p in model.parameters():  # small enough that the activations are not saturated
        p.data *= 0.02
    return model, batch(train, 6), batch(inside, 1)


def dense(model: BehlerParrinelloMLP, train: AtomBatch, test: AtomBatch, mu: float) -> torch.Tensor:
    """By least squares: g^T H^-1 g = min over a of |g - R^T a|^2 / mu + |a|^2."""
    rows = energy_rows(model, train, Objective(mu=1.0)).numpy()
    gradients = atomic_gradients(model, test.features, test.types).numpy()
    matrix = np.vstack([rows.T / np.sqrt(mu), np.eye(len(rows))])
    right = np.vstack([gradients.T / np.sqrt(mu), np.zeros((len(rows), len(gradients)))])
    left = right - matrix @ np.linalg.lstsq(matrix, right, rcond=None)[0]
    return torch.from_numpy(1 / np.square(left).sum(0))


def largest(model: BehlerParrinelloMLP, train: AtomBatch) -> float:
    return float(torch.linalg.matrix_norm(energy_rows(model, train, Objective(mu=1.0)), 2)) ** 2


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ratio", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("types", [(14,), (6, 14)])
def test_against_least_squares(types: tuple[int, ...], ratio: float, bias: bool) -> None:
    model, train, test = make_problem(types, bias)
    mu = ratio * largest(model, train)
    rows = energy_rows(model, train, Objective(mu=1.0))
    span = feature_span_of_rows(model, RowSpace(rows, torch.tensor(mu, dtype=torch.float64)), 1e-10)
    assert span is not None
    assert span.factor.n_parameters < 0.75 * rows.shape[1]
    value, regulariser = span.quadratic_form(test.features, test.types)
    torch.testing.assert_close(1 / value, dense(model, train, test, mu), rtol=1e-9, atol=0)
    gradients = atomic_gradients(model, test.features, test.types)
    plain = RowSpace(rows, torch.tensor(mu, dtype=torch.float64)).quadratic_form(gradients)
    torch.testing.assert_close(regulariser, plain.regulariser, rtol=1e-9, atol=0)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-2, 0.3])
def test_a_larger_tolerance_truncates_within_its_bound(tolerance: float) -> None:
    model, train, test = make_problem((14,), noise=1e-3)
    mu = 1e-4 * largest(model, train)
    factor = Rigidity(model, train, Objective(mu=mu), "row").factor
    span = feature_span_of_rows(model, factor, tolerance)
    assert span is not None
    assert 1e-9 < span.error <= tolerance
    value = span.quadratic_form(test.features, test.types).value
    ratio = 1 / value / dense(model, train, test, mu)
    assert float((ratio - 1).abs().max()) > 1e-12  # something was truncated
    assert bool(((ratio <= 1 + span.error) & (ratio >= 1 / (1 + span.error))).all())


@pytest.mark.parametrize("tolerance", [0.0, 1e-10])
def test_all_columns_where_nothing_is_gained(tolerance: float) -> None:
    model, train, test = make_problem((14,), noise=1.0)
    mu = 1e-5 * largest(model, train)
    factor = Rigidity(model, train, Objective(mu=mu), "row").factor
    span = feature_span_of_rows(model, factor, tolerance)
    assert span is not None
    assert span.factor.n_parameters == factor.n_parameters
    value = span.quadratic_form(test.features, test.types).value
    torch.testing.assert_close(1 / value, dense(model, train, test, mu), rtol=1e-9, atol=0)
    linear = LinearModel(FEATURES, [14])
    assert feature_span_of_rows(linear, factor, 1e-10) is None


@pytest.mark.parametrize("tolerance", [0.0, 1e-10])
@pytest.mark.parametrize("types", [(14,), (6, 14)])
def test_rigidity_takes_it_for_many_atoms(types: tuple[int, ...], tolerance: float) -> None:
    model, train, test = make_problem(types)
    objective = Objective(mu=1e-5 * largest(model, train))
    rigidity = Rigidity(model, train, objective, "row", tolerance=tolerance)
    few = test.select(torch.arange(20))
    alone = rigidity.local(few)
    assert "_span" not in vars(rigidity)
    expected = dense(model, train, test, objective.mu)
    torch.testing.assert_close(rigidity.local(test), expected, rtol=1e-9, atol=0)
    assert vars(rigidity)["_span"] is not None
    torch.testing.assert_close(rigidity.local(few), alone, rtol=1e-9, atol=0)
    both = rigidity.atoms(test)  # LPR alone is found by less work
    torch.testing.assert_close(both.rigidity, expected, rtol=1e-9, atol=0)
    changed = rigidity.add(few)  # has other rows, and so another span
    everything = AtomBatch.cat([train, few])
    expected = dense(model, everything, test, objective.mu)
    torch.testing.assert_close(changed.local(test), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("tolerance", [0.0, 1e-10])
def test_what_is_prepared_is_not_done_again(tolerance: float) -> None:
    model, train, test = make_problem((14,))
    objective = Objective(mu=1e-5 * largest(model, train))
    rigidity = Rigidity(model, train, objective, "row", tolerance=tolerance)
    few = test.select(torch.arange(20))
    assert "triangle" not in vars(rigidity.factor)  # it is factorised when it is needed
    rigidity.prepare(test)
    span = vars(rigidity)["_span"]
    assert "triangle" in vars(span.factor.factor)
    assert "triangle" not in vars(rigidity.factor)
    torch.testing.assert_close(
        rigidity.local(test), dense(model, train, test, objective.mu), rtol=1e-9, atol=0
    )
    assert vars(rigidity)["_span"] is span
    rigidity.prepare(few)
    assert "triangle" in vars(rigidity.factor)


def test_what_is_prepared_in_float32_and_once_for_atoms_that_are_alike() -> None:
    model, train, test = make_problem((14,))
    objective = Objective(mu=1e-2 * largest(model, train))
    few = test.select(torch.arange(20))
    rough = Rigidity(model, train, objective, "row", float32_error=1e-2)
    rough.prepare(few)
    assert vars(rough)["_in_float32"] is not None
    assert "triangle" not in vars(rough.factor)
    exact = Rigidity(model, train, objective, "row")
    repeated = AtomBatch.cat([test.select(torch.arange(5))] * len(test))
    exact.prepare(repeated)
    assert "_span" not in vars(exact)
    expected = dense(model, train, repeated, objective.mu)
    torch.testing.assert_close(exact.local(repeated), expected, rtol=1e-9, atol=0)
    assert "_span" not in vars(exact)


def test_a_factor_first_used_in_inference_mode_serves_autograd_later() -> None:
    model, train, test = make_problem((14,))
    factor = RowSpace(energy_rows(model, train, Objective(mu=1.0)), torch.tensor(1.0).double())
    gradients = atomic_gradients(model, test.features[:3], test.types[:3])
    with torch.inference_mode():
        value = factor.quadratic_form(gradients).value.sum()
    variable = gradients.clone().requires_grad_(True)
    found = factor.quadratic_form(variable).value.sum()
    found.backward()
    torch.testing.assert_close(found.item(), value.item())
    torch.testing.assert_close(variable.grad, 2 * factor.solve(gradients))


def test_a_subset_of_weights_or_little_memory_does_without() -> None:
    model, train, test = make_problem((14,))
    objective = Objective(mu=1e-5 * largest(model, train))
    part = Rigidity(model, train, objective, "row", parameters="last-layer")
    part.local(test)
    assert part._span is None
    tight = Rigidity(model, train, objective, "row", memory_limit=100_000_000)
    tight.local(test)
    assert tight._span is None


@pytest.mark.parametrize("tolerance", [-1.0, 1.0, float("nan")])
def test_tolerance_is_a_relative_error(tolerance: float) -> None:
    model, train, _ = make_problem((14,))
    with pytest.raises(InputError, match="tolerance"):
        Rigidity(model, train, Objective(mu=1.0), tolerance=tolerance)
