"""Rows into and out of a factor: the digits of a fresh one, or a refusal."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.cases import DEVICES, Problem, problems, random_tensor, ridges, theorem
from tests.curvature.test_accuracy import RATIOS, SIZES, SPECTRA, make_gradients, make_rows
from tests.oracles import extended_precision
from torchlpr.curvature import Factor, UpdatableFactor, build
from torchlpr.curvature.triangles import PANEL, drop_columns, fold_diagonal, fold_rows, remove_rows
from torchlpr.errors import InputError

SHAPES = ["row", "parameter"]
TOLERANCE = 1e-8


def updatable(rows: Tensor, mu: float | Tensor, shape: str) -> UpdatableFactor:
    factor = build(rows, mu, shape)
    assert isinstance(factor, UpdatableFactor)
    return factor


def assert_close(factor: Factor, gradients: Tensor, exact: np.ndarray) -> None:
    np.testing.assert_allclose(1 / factor.quadratic_form(gradients).value, exact, rtol=TOLERANCE)


@pytest.mark.parametrize("ratio", [r for r in RATIOS if r not in {1e-4, 1e-8, 1e-12}])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("size", SIZES)
def test_against_extended_precision(size: str, spectrum: str, ratio: float) -> None:
    """A third added at once, all added one by one, and strangers added and taken out."""
    m, p = SIZES[size]
    rng = np.random.default_rng([m, p, SPECTRA.index(spectrum)])
    rows = torch.from_numpy(make_rows(spectrum, m, p, rng))
    gradients = torch.from_numpy(make_gradients(rows.numpy(), rng))
    strangers = torch.from_numpy(rng.normal(size=(3, p))) * rows.norm() / (m * p) ** 0.5
    mu = ratio * float(torch.linalg.matrix_norm(rows, 2)) ** 2
    exact = extended_precision.prediction_rigidity(rows, gradients, mu)
    cut = m - max(1, m // 3)
    for shape in SHAPES:
        assert_close(updatable(rows[:cut], mu, shape).update(rows[cut:]), gradients, exact)
        factor = updatable(rows[:0], mu, shape)
        for row in rows:
            factor = factor.update(row.unsqueeze(0))
        assert factor.n_rows == m
        assert_close(factor, gradients, exact)
        more = updatable(torch.cat([strangers, rows]), mu, shape)
        if shape == "row":
            assert_close(more.downdate(strangers), gradients, exact)
            continue
        with contextlib.suppress(InputError):  # refused, or right
            assert_close(more.downdate(strangers), gradients, exact)


@pytest.mark.parametrize("ratio", [1e-2, 1e-6, 1e-10])
def test_parameter_space_removes_what_others_determine_too(ratio: float) -> None:
    """Not refused where the remaining rows keep their hold on every direction."""
    rows, gradients = random_tensor(1, 40, 8), random_tensor(2, 5, 8)
    mu = ratio * float(torch.linalg.matrix_norm(rows, 2)) ** 2
    fewer = updatable(rows, mu, "parameter").downdate(rows[30:])
    assert fewer.n_rows == 30
    assert_close(fewer, gradients, extended_precision.prediction_rigidity(rows[:30], gradients, mu))


@theorem
@given(problem=problems(), mu=ridges, k=st.integers(1, 5), shape=st.sampled_from(SHAPES))
def test_update_then_downdate_is_the_identity(
    problem: Problem, mu: float, k: int, shape: str
) -> None:
    factor, added = updatable(problem.rows, mu, shape), problem.more_rows(k)
    again = factor.update(added).downdate(added)
    assert again.n_rows == factor.n_rows
    torch.testing.assert_close(
        again.quadratic_form(problem.gradients), factor.quadratic_form(problem.gradients),
        rtol=1e-8, atol=0,
    )  # fmt: skip


@theorem
@given(problem=problems(min_rows=3), mu=ridges, seed=st.integers(0, 99))
@pytest.mark.parametrize("shape", SHAPES)
def test_order_and_grouping_do_not_matter(
    problem: Problem, mu: float, seed: int, shape: str
) -> None:
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(len(problem.rows)))
    cut = int(rng.integers(1, len(order)))
    parts = updatable(problem.rows[order[:cut]], mu, shape).update(problem.rows[order[cut:]])
    whole = build(problem.rows, mu, shape)
    torch.testing.assert_close(
        parts.quadratic_form(problem.gradients), whole.quadratic_form(problem.gradients),
        rtol=1e-10, atol=0,
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_hundreds_of_changes_lose_nothing(shape: str) -> None:
    rows, gradients, mu = random_tensor(3, 60, 30), random_tensor(4, 4, 30), 1e-7
    factor = updatable(rows[:40], mu, shape)
    for turn in range(200):
        row = rows[40 + turn % 20].unsqueeze(0)
        factor = factor.update(row)
        factor = factor.downdate(row)
    fresh = build(rows[:40], mu, shape).quadratic_form(gradients)
    forms = factor.quadratic_form(gradients)
    torch.testing.assert_close(forms.value, fresh.value, rtol=1e-9, atol=0)
    # a share of 1e-7 is a small part of a value that is known to rounding
    assert ((forms.regulariser - fresh.regulariser).abs() <= 1e-12 * fresh.value).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_mu_for_each_weight_and_wide_updates(shape: str, device: str) -> None:
    rows, gradients = random_tensor(5, 30, 12).to(device), random_tensor(6, 4, 12).to(device)
    mu = torch.logspace(-6, 1, 12, dtype=torch.float64, device=device)
    factor = updatable(rows[:4], mu, shape).update(rows[4:]).update(rows[:0])
    fresh = build(rows, mu, shape).quadratic_form(gradients)
    torch.testing.assert_close(factor.quadratic_form(gradients), fresh, rtol=1e-9, atol=0)
    fewer = factor.downdate(rows[25:]).quadratic_form(gradients)
    expected = build(rows[:25], mu, shape).quadratic_form(gradients)
    torch.testing.assert_close(fewer, expected, rtol=1e-9, atol=0)


def test_the_only_row_in_a_direction_is_not_subtracted_in_parameter_space() -> None:
    """What would remain is 1e-10 of what is there: refused, while row space gives it exactly."""
    rows, mu = torch.eye(3, dtype=torch.float64), 1e-13
    with pytest.raises(InputError, match=r"1\.0e-13 of H.*row space, where removal is exact"):
        updatable(rows, mu, "parameter").downdate(rows[1:2])
    value = updatable(rows, mu, "row").downdate(rows[1:2]).quadratic_form(rows).value
    torch.testing.assert_close(
        1 / value, torch.tensor([1.0, mu, 1.0], dtype=torch.float64), rtol=1e-9, atol=0
    )


def test_rows_that_never_went_in() -> None:
    rows = random_tensor(7, 6, 3)
    with pytest.raises(InputError, match="row 1 of those to remove is not among the 6"):
        updatable(rows, 0.1, "row").downdate(torch.cat([rows[2:3], rows[:1] * (1 + 1e-6)]))
    with pytest.raises(InputError, match="never went in"):
        updatable(rows, 0.1, "parameter").downdate(10 * rows[:1])
    with pytest.raises(InputError, match="7 rows cannot be removed from 6"):
        updatable(rows, 0.1, "parameter").downdate(random_tensor(8, 7, 3))


def test_duplicates_go_out_one_at_a_time() -> None:
    rows = random_tensor(9, 3, 5).repeat(2, 1)
    factor = updatable(rows, 0.1, "row").downdate(rows[[1, 1, 0]])
    expected = build(rows[[2, 0, 2]], 0.1, "row")
    gradients = random_tensor(10, 4, 5)
    torch.testing.assert_close(
        factor.quadratic_form(gradients), expected.quadratic_form(gradients), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("p", [3, PANEL, 2 * PANEL + 5])
@pytest.mark.parametrize("k", [1, 70])
def test_triangles_over_several_panels(p: int, k: int) -> None:
    """Each operation against the product it stands for."""
    base, rows, root = random_tensor(p, 2 * p, p), random_tensor(k, k, p), random_tensor(2, p).abs()
    for m in (2 * p, p // 2):
        triangle = torch.linalg.qr(base[:m], mode="r").R
        square = base[:m].mT @ base[:m]
        ridge = fold_diagonal(triangle, root)
        for new, expected in (
            (fold_rows(triangle, rows), square + rows.mT @ rows),
            (ridge, square + root.square().diag()),
        ):
            assert torch.equal(new, new.triu())
            torch.testing.assert_close(new.mT @ new, expected, rtol=1e-12, atol=1e-11)
    folded = fold_rows(torch.linalg.qr(base, mode="r").R, rows)
    removed, delta = remove_rows(folded, rows)
    assert 0 < delta < 1
    assert torch.equal(removed, removed.triu())
    torch.testing.assert_close(removed.mT @ removed, base.mT @ base, rtol=1e-11, atol=1e-10)
    keep = torch.tensor([i for i in range(p) if i % 7 != 1])
    dropped = drop_columns(folded, keep)
    assert torch.equal(dropped, dropped.triu())
    expected = (folded.mT @ folded)[keep][:, keep]
    torch.testing.assert_close(dropped.mT @ dropped, expected, rtol=1e-12, atol=1e-11)
