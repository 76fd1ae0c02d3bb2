"""Accumulators are monoids: order and grouping do not matter, and what went in comes out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.cases import Problem, problems, random_tensor, ridges, theorem
from tests.oracles import dense
from torchlpr.curvature import Accumulator, RowAccumulator, TriangleAccumulator, build
from torchlpr.errors import InputError

KINDS = [RowAccumulator, TriangleAccumulator]


def filled(kind: type[Accumulator], *blocks: Tensor) -> Accumulator:
    accumulator = kind(blocks[0].shape[1])
    for block in blocks:
        accumulator.update(block)
    return accumulator


def rigidity(accumulator: Accumulator, gradients: Tensor, mu: float) -> np.ndarray:
    return (1 / accumulator.factor(mu).quadratic_form(gradients).value).numpy()


@theorem
@given(problem=problems(min_rows=1), mu=ridges, seed=st.integers(0, 99))
@pytest.mark.parametrize("kind", KINDS)
def test_order_grouping_and_merging(
    problem: Problem, mu: float, seed: int, kind: type[Accumulator]
) -> None:
    rng = np.random.default_rng(seed)
    rows = problem.rows[torch.from_numpy(rng.permutation(len(problem.rows)))]
    cuts = sorted(rng.integers(0, len(rows) + 1, 2).tolist())
    a, b, c = rows[: cuts[0]], rows[cuts[0] : cuts[1]], rows[cuts[1] :]
    expected = dense.augmented_qr(problem.rows, problem.gradients, mu)

    left = filled(kind, a)
    left.merge(filled(kind, b))
    left.merge(filled(kind, c))
    right = filled(kind, b)
    right.merge(filled(kind, c))
    both = filled(kind, a)
    both.merge(right)
    for accumulator in (filled(kind, rows), filled(kind, c, a, b), left, both):
        assert accumulator.n_rows == len(rows)
        np.testing.assert_allclose(
            rigidity(accumulator, problem.gradients, mu), expected, rtol=1e-10
        )


@theorem
@given(problem=problems(), mu=ridges, k=st.integers(1, 5), late=st.booleans())
@pytest.mark.parametrize("kind", KINDS)
def test_update_then_downdate_is_the_identity(
    problem: Problem, mu: float, k: int, late: bool, kind: type[Accumulator]
) -> None:
    added = problem.more_rows(k)
    accumulator = filled(kind, problem.rows[:0], added) if late else filled(kind, problem.rows)
    accumulator.update(problem.rows if late else added)
    accumulator.downdate(added)
    assert accumulator.n_rows == len(problem.rows)
    expected = dense.augmented_qr(problem.rows, problem.gradients, mu)
    np.testing.assert_allclose(rigidity(accumulator, problem.gradients, mu), expected, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_one_accumulator_serves_every_mu(kind: type[Accumulator]) -> None:
    rows, gradients = random_tensor(0, 20, 7), random_tensor(1, 4, 7)
    accumulator = filled(kind, rows[:3], rows[3:4], rows[4:])
    vector = torch.logspace(-4, 2, 7, dtype=torch.float64)
    for mu in (1e-12, 1e-3, 10.0, vector):
        fresh = build(rows, mu).quadratic_form(gradients)
        torch.testing.assert_close(
            accumulator.factor(mu).quadratic_form(gradients), fresh, rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("kind", KINDS)
def test_state_goes_on_to_the_same_last_bit(kind: type[Accumulator]) -> None:
    rows = random_tensor(2, 40, 130)
    whole = filled(kind, rows[:9], rows[9:30])
    whole.downdate(rows[4:6])
    again = kind(130)
    again.load_state_dict(whole.state_dict())
    for accumulator in (whole, again):
        accumulator.update(rows[30:])
    assert whole.n_rows == again.n_rows == 38
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_factor_is_not_changed_by_a_state_that_is_loaded() -> None:
    one, other = random_tensor(1, 5, 9), random_tensor(2, 5, 9)
    accumulator = filled(RowAccumulator, one)
    factor = accumulator.factor(0.1)
    accumulator.load_state_dict({"rows": other})
    gradients = random_tensor(3, 4, 9)
    expected = build(one, 0.1, "row").quadratic_form(gradients)
    torch.testing.assert_close(factor.quadratic_form(gradients).value, expected.value)
    renewed = build(other, 0.1, "row").quadratic_form(gradients)
    torch.testing.assert_close(accumulator.factor(0.1).quadratic_form(gradients), renewed)


def test_a_factor_is_not_changed_by_later_updates() -> None:
    rows, gradients = random_tensor(3, 8, 12), random_tensor(4, 3, 12)
    accumulator = RowAccumulator(12, capacity=20)
    accumulator.update(rows[:5])
    factor = accumulator.factor(0.1)
    before = factor.quadratic_form(gradients).value
    accumulator.update(rows[5:])
    assert torch.equal(factor.quadratic_form(gradients).value, before)
    assert factor.state_dict()["rows"].untyped_storage().nbytes() == 5 * 12 * 8  # no spare room


@pytest.mark.parametrize("kind", KINDS)
def test_refusals(kind: type[Accumulator]) -> None:
    accumulator = filled(kind, random_tensor(5, 4, 6))
    with pytest.raises(InputError, match="5 parameters and the accumulator 6"):
        accumulator.update(random_tensor(6, 2, 5))
    with pytest.raises(InputError, match="row 1 is not finite"):
        accumulator.update(torch.tensor([[0.0] * 6, [float("nan")] * 6]))
    with pytest.raises(InputError, match="of 5 parameters cannot be merged into one of 6"):
        accumulator.merge(kind(5))
    with pytest.raises(InputError, match="cannot be merged into"):
        accumulator.merge(next(k for k in KINDS if k is not kind)(6))
    with pytest.raises(InputError, match="accumulator of 6 parameters"):
        accumulator.load_state_dict(kind(5).state_dict())
    with pytest.raises(InputError, match="accumulator of 6 parameters"):
        accumulator.load_state_dict({})


def test_taking_out_what_never_went_in() -> None:
    rows = filled(RowAccumulator, random_tensor(7, 4, 6))
    with pytest.raises(InputError, match="not among the 4 rows"):
        rows.downdate(random_tensor(8, 1, 6))
    triangle = filled(TriangleAccumulator, random_tensor(7, 9, 3))
    triangle.downdate(10 * random_tensor(8, 1, 3))
    with pytest.raises(InputError, match="never went in"):
        triangle.factor(0.1)
