"""Greedy design against brute force: every candidate appended, everything computed anew."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import CASES, MODELS, Case, Problem, make_batch, problems, ridges, theorem
from tests.design import brute_force
from tests.oracles.extended_precision import prediction_rigidity as exact_rigidity
from torchlpr import AtomBatch, InputError, Objective, Rigidity, prediction_rigidity
from torchlpr.curvature import build, energy_rows
from torchlpr.design import Criterion, Outlook, greedy_design
from torchlpr.design.structures import candidate_rows, target_gradients

OBJECTIVE = Objective(mu=1e-3, energy_weight=1.7)
DOUBLE = [case for case in CASES if case.dtype == torch.float64]


@pytest.mark.parametrize("case", DOUBLE, ids=str)
def test_predicted_is_what_a_rebuilt_rigidity_says(case: Case) -> None:
    """At fixed weights, for every head: each candidate appended to the training set."""
    model, train = case.model(), case.batch()
    pool, target = case.batch(seed=1, structures=4), case.batch(seed=2, structures=3)
    rigidity = Rigidity(model, train, OBJECTIVE)
    gradients = energy_rows(model, atoms_alone(target), Objective(mu=1.0))
    outlook = Outlook(rigidity.factor, energy_rows(model, pool, OBJECTIVE), gradients)
    torch.testing.assert_close(1 / outlook.inverse, rigidity.local(target), rtol=1e-10, atol=0)
    for c in range(4):
        longer = AtomBatch.cat([train, pool.select([c])])
        rebuilt = Rigidity(model, longer, OBJECTIVE).local(target)
        torch.testing.assert_close(1 / outlook.inverse_after()[c], rebuilt, rtol=1e-8, atol=0)
    design = greedy_design(rigidity.factor, outlook.rows, gradients, 4)
    longer = AtomBatch.cat([train, pool])
    rebuilt = Rigidity(model, longer, OBJECTIVE).local(target)
    torch.testing.assert_close(design.lpr[-1], rebuilt, rtol=1e-8, atol=0)


def atoms_alone(batch: AtomBatch) -> AtomBatch:
    """Every atom as a structure of its own: its energy row is its gradient."""
    return AtomBatch(
        batch.features, batch.types, torch.arange(len(batch), device=batch.types.device)
    )


@pytest.mark.parametrize("shape", ["row", "parameter"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("criterion", get_args(Criterion))
def test_greedy_is_brute_force_greedy(criterion: str, k: int, shape: str) -> None:
    rng = np.random.default_rng(3)
    rows, targets = rng.normal(size=(6, 9)), rng.normal(size=(5, 9))
    candidates = rng.normal(size=(12, k, 9)) * rng.lognormal(size=(12, 1, 1))
    candidates[4] = candidates[2]  # a duplicate
    factor = build(torch.from_numpy(rows), 1e-2, shape)
    found = greedy_design(
        factor, torch.from_numpy(candidates), torch.from_numpy(targets), 6, criterion
    )
    picks, gains = brute_force.greedy(rows, candidates, targets, 1e-2, 6, criterion)
    assert found.picks == picks
    np.testing.assert_allclose(found.gains, gains, rtol=1e-8)
    first = [brute_force.score(rows, c, targets, 1e-2, criterion) for c in candidates]
    np.testing.assert_allclose(found.first_gains, first, rtol=1e-8)
    everything = np.concatenate([rows, *candidates[picks]])
    after = 1 / brute_force.inverse_rigidities(brute_force.hessian(everything, 1e-2), targets)
    np.testing.assert_allclose(found.lpr[-1], after, rtol=1e-10)


def test_rows_of_zeros_add_nothing() -> None:
    """Candidates with fewer rows are filled up with zeros."""
    rng = np.random.default_rng(5)
    rows, targets, candidates = (torch.from_numpy(rng.normal(size=s)) for s in
                                 ((3, 7), (4, 7), (5, 1, 7)))  # fmt: skip
    factor = build(rows, 0.1)
    filled = torch.cat([candidates, torch.zeros(5, 2, 7, dtype=rows.dtype)], dim=1)
    plain, padded = (greedy_design(factor, c, targets, 3) for c in (candidates, filled))
    assert plain.picks == padded.picks
    torch.testing.assert_close(padded.lpr, plain.lpr, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("shape", "ratio"),
    # in parameter space H of a smaller mu is not positive definite in double precision
    [("row", 1e-4), ("row", 1e-8), ("row", 1e-13), ("parameter", 1e-4), ("parameter", 1e-8)],
)
@pytest.mark.parametrize("k", [1, 2])
def test_candidates_nearly_alike_at_a_small_mu(k: int, shape: str, ratio: float) -> None:
    """After a pick next to nothing is left of A, which a downdate would lose."""
    rng = np.random.default_rng(5)
    rows, targets = rng.normal(size=(6, 9)), rng.normal(size=(5, 9))
    candidates = rng.normal(size=(1, k, 9)) + 1e-3 * rng.normal(size=(12, k, 9))
    mu = ratio * np.linalg.norm(rows, 2) ** 2
    outlook = Outlook(
        build(torch.from_numpy(rows), mu, shape), *map(torch.from_numpy, (candidates, targets))
    )
    taken = []
    for pick in (3, 7):
        outlook.take(pick)
        taken.append(candidates[pick])
        more = np.concatenate([rows, *taken])
        after = exact_rigidity(more, candidates[:, 0], mu)
        np.testing.assert_allclose(outlook.gram[:, 0, 0], 1 / after, rtol=max(1e-6, 1e-16 / ratio))
        assert (outlook.inverse_after() <= outlook.inverse * (1 + 1e-9)).all()


@theorem
@given(problem=problems(), mu=ridges, k=st.integers(1, 3), c=st.integers(1, 6))
def test_data_never_lower_a_rigidity(problem: Problem, mu: float, k: int, c: int) -> None:
    """T4: after every pick, and for every candidate at every step; D gains only shrink."""
    rows = torch.stack([problem.more_rows(k) for _ in range(c)])
    factor = build(problem.rows, mu)
    outlook = Outlook(factor, rows, problem.gradients)
    before, information = outlook.inverse, outlook.log_determinants()
    for pick in range(c):
        assert (outlook.reductions() >= 0).all()
        assert (outlook.inverse_after() <= outlook.inverse).all()
        assert (outlook.inverse_after() > 0).all()
        predicted = outlook.inverse_after()[pick]
        outlook.take(pick)
        assert (outlook.inverse <= before * (1 + 1e-12)).all()
        torch.testing.assert_close(outlook.inverse, predicted, rtol=1e-8, atol=1e-12)
        now = outlook.log_determinants()
        assert (now <= information + 1e-10).all()  # submodular
        before, information = outlook.inverse, now


@theorem
@given(problem=problems(), mu=ridges)
def test_a_single_environment_adds_its_weight(problem: Problem, mu: float) -> None:
    """T2: the row of a crystal whose atoms are the target raises its LPR by one."""
    outlook = Outlook(build(problem.rows, mu), problem.gradients, problem.gradients)
    alone = 1 / outlook.inverse_after().diagonal()
    torch.testing.assert_close(alone, 1 / outlook.inverse + 1, rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", ["row", "parameter"])
@pytest.mark.parametrize("mu", [1e-6, 1e-10, 1e-13])
def test_near_duplicates_at_small_mu(mu: float, shape: str) -> None:
    """Values fall by 1/mu at the first pick; what is left does not come of differences."""
    rng = np.random.default_rng(11)
    rows, kind = rng.normal(size=(4, 12)) / 4, rng.normal(size=(3, 12)) / 4
    candidates = np.repeat(kind, 4, axis=0) + 1e-4 * rng.normal(size=(12, 12))
    targets = kind + 1e-4 * rng.normal(size=(3, 12))
    factor = build(torch.from_numpy(rows), mu, shape)
    found = greedy_design(factor, torch.from_numpy(candidates), torch.from_numpy(targets), 12)
    for count in (3, 6, 12):
        everything = np.concatenate([rows, candidates[found.picks[:count]]])
        exact = exact_rigidity(everything, targets, mu)
        np.testing.assert_allclose(found.lpr[count], exact, rtol=1e-8)
    assert sorted(found.picks) == list(range(12))
    assert len({p // 4 for p in found.picks[:3]}) == 3  # one of each kind first
    realised = found.lpr.log().diff(dim=0).mean(1).tolist()
    np.testing.assert_allclose(found.gains, realised, rtol=1e-10)


def test_bad_input_is_one_sentence() -> None:
    rows = torch.eye(4, dtype=torch.float64)
    factor = build(rows[:2], 0.1)
    good = rows[2:]
    for n in (0, 3):
        with pytest.raises(InputError, match=f"cannot choose {n} of 2 candidates"):
            greedy_design(factor, good, good, n)
    with pytest.raises(InputError, match="criterion 'E' is unknown"):
        greedy_design(factor, good, good, 1, "E")
    with pytest.raises(InputError, match="number 1 of the candidates is not finite"):
        greedy_design(factor, good * torch.tensor([[1.0], [torch.nan]]), good, 1)
    with pytest.raises(InputError, match="the targets have shape"):
        greedy_design(factor, good, good[:, :3], 1)
    with pytest.raises(InputError, match="gradient of target 1 is zero"):
        greedy_design(factor, good, good * torch.tensor([[1.0], [0.0]]), 1)


def test_the_public_door_agrees() -> None:
    problem = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 6)))
    outlook = Outlook(build(problem[:3], 0.5), problem[3:5], problem[5:])
    outlook.take(0)
    outlook.take(1)
    expected = prediction_rigidity(problem[:5], problem[5:], 0.5)
    torch.testing.assert_close(1 / outlook.inverse, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("parameters", ["last-layer", "species:31"])
def test_with_a_part_of_the_weights(parameters: str) -> None:
    types, build = MODELS["mlp two species"]
    train, pool = make_batch(7, types), make_batch(4, types)
    target = make_batch(3, types[:1])  # other species have no weights in one of the parts
    rigidity = Rigidity(build(), train, OBJECTIVE, parameters=parameters)
    rows, gradients = candidate_rows(rigidity, [pool]), target_gradients(rigidity, target)
    design = greedy_design(rigidity.factor, rows, gradients, 4)
    rebuilt = rigidity.add(pool).local(target)
    torch.testing.assert_close(design.lpr[-1], rebuilt, rtol=1e-9, atol=0)
