"""Shares of rows, structures, energies, forces and regulariser in a rigidity (C28)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import MODELS, ONE, Problem, make_batch, mlp, problems, ridges, seeds, theorem
from tests.force_cases import make_force_batch
from tests.oracles import autograd_loops, dense
from torchlpr import AtomBatch, InputError, Objective, Rigidity, prediction_rigidity
from torchlpr.curvature import atomic_gradients, build, training_rows
from torchlpr.rigidity import attribute, row_shares

SHAPES = {"row": 1e-10, "parameter": 1e-10, "matrix-free": 1e-5}


@theorem
@given(problem=problems(min_rows=1), mu=ridges, shape=st.sampled_from(["row", "parameter"]))
def test_shares_add_up_to_one(problem: Problem, mu: float, shape: str) -> None:
    factor = build(problem.rows, mu, shape)
    rows, regulariser = row_shares(factor, problem.rows, problem.gradients)
    assert bool((rows >= 0).all())
    np.testing.assert_allclose(rows.sum(1) + regulariser, np.ones(4), rtol=1e-11)


@theorem
@given(problem=problems(min_rows=1), seed=seeds, shape=st.sampled_from(["row", "parameter"]))
def test_against_a_dense_solve_with_one_mu_a_weight(
    problem: Problem, seed: int, shape: str
) -> None:
    mu = 10 ** np.random.default_rng(seed).uniform(-2, 2, problem.rows.shape[1])
    factor = build(problem.rows, torch.from_numpy(mu), shape)
    rows, regulariser = row_shares(factor, problem.rows, problem.gradients)
    h, r = dense.hessian(problem.rows, mu), problem.rows.numpy()
    for k, g in enumerate(problem.gradients.numpy()):
        v = np.linalg.solve(h, g)
        np.testing.assert_allclose(rows[k], (r @ v) ** 2 / (g @ v), atol=1e-10)
        assert float(regulariser[k]) == pytest.approx(np.sum(mu * v**2) / (g @ v), rel=1e-9)


@theorem
@given(problem=problems(min_rows=1), mu=st.floats(1e-2, 10), row=st.integers(0, 10**6))
def test_a_share_is_the_slope_of_ln_lpr_by_the_ln_of_the_weight(
    problem: Problem, mu: float, row: int
) -> None:
    m = row % len(problem.rows)
    rows, _ = row_shares(build(problem.rows, mu), problem.rows, problem.gradients)

    def ln_lpr(log_weight: float) -> torch.Tensor:
        scaled = problem.rows.clone()
        scaled[m] *= np.exp(0.5 * log_weight)
        return prediction_rigidity(scaled, problem.gradients, mu).log()

    h = 1e-3
    slope = (8 * (ln_lpr(h) - ln_lpr(-h)) - (ln_lpr(2 * h) - ln_lpr(-2 * h))) / (12 * h)
    np.testing.assert_allclose(slope, rows[:, m], atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_structures_of_every_head(name: str, shape: str) -> None:
    types, make = MODELS[name]
    model, train, new = make(), make_batch(9, types, 1), make_batch(2, types, 2)
    objective = Objective(mu=1e-2, energy_weight=3.0)
    rigidity = Rigidity(model, train, objective, shape=shape)
    found = attribute(rigidity, new, 1, train)
    scale = 3.0**0.5 / train.counts.double()
    rows = autograd_loops.structure_rows(
        model, train.features, train.types, train.structure, scale
    ).detach().numpy()  # fmt: skip
    g = atomic_gradients(model, new.features, new.types)[1].numpy()
    v = np.linalg.solve(dense.hessian(rows, 1e-2), g)
    expected = (rows @ v) ** 2 / (g @ v)
    np.testing.assert_allclose(found.energies, expected, atol=SHAPES[shape])
    assert not bool(found.forces.any())
    assert found.regulariser == pytest.approx(1e-2 * (v @ v) / (g @ v), rel=2e-3)
    assert found.rigidity == pytest.approx(1 / (g @ v), rel=1e-6)
    half = found.half()
    ordered = np.sort(expected)[::-1]
    assert ordered[: half - 1].sum() < 0.5 * expected.sum() <= ordered[:half].sum()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["mlp two species", "linear", "kernel two species"])
def test_forces_belong_to_their_structures(name: str, shape: str) -> None:
    types, make = MODELS[name]
    model, train, new = make(), make_force_batch(6, types, 3), make_batch(2, types, 4)
    forces = train.forces.clone()
    forces[train.structure == 2] = torch.nan  # this structure has none
    train = replace(train, forces=forces)
    objective = Objective(mu=1e-2, force_weight=0.3)
    found = attribute(Rigidity(model, train, objective, shape=shape), new, 0, train)
    rows = training_rows(model, train, objective)
    shares, regulariser = row_shares(
        build(rows, 1e-2), rows, atomic_gradients(model, new.features, new.types)[:1]
    )
    atoms = objective.force_atoms(train)
    expected = torch.zeros(6, dtype=torch.float64)
    for number, atom in enumerate(atoms.tolist()):
        expected[train.structure[atom]] += shares[0, 6 + 3 * number : 9 + 3 * number].sum()
    tolerance = {"atol": SHAPES[shape], "rtol": 0}
    torch.testing.assert_close(found.forces, expected, **tolerance)
    torch.testing.assert_close(found.energies, shares[0, :6], **tolerance)
    assert found.forces[2] == 0
    assert bool((found.structures == found.energies + found.forces).all())
    assert found.regulariser == pytest.approx(float(regulariser), rel=2e-3)


def test_training_structures_may_come_in_parts() -> None:
    model, train, new = mlp(ONE)(), make_force_batch(7, seed=5), make_batch(1, seed=6)
    rigidity = Rigidity(model, train, Objective(mu=1e-2, force_weight=0.3), parameters="last-layer")
    whole = attribute(rigidity, new, 0, train)
    parts = attribute(rigidity, new, 0, (train.select(k) for k in ([0, 1, 2], [3], [4, 5, 6])))
    torch.testing.assert_close(parts.energies, whole.energies)
    torch.testing.assert_close(parts.forces, whole.forces)


def test_a_reloaded_rigidity_has_the_same_shares(tmp_path) -> None:
    model, train, new = mlp(ONE)(), make_batch(5, seed=7), make_batch(1, seed=8)
    rigidity = Rigidity(model, train, Objective(mu=1e-3))
    rigidity.save(tmp_path / "r.pt")
    again = attribute(Rigidity.load(tmp_path / "r.pt"), new, 0, train)
    torch.testing.assert_close(again.energies, attribute(rigidity, new, 0, train).energies)


def test_what_is_refused() -> None:
    model, train, new = mlp(ONE)(), make_batch(8, seed=9), make_batch(1, seed=10)
    rigidity = Rigidity(model, train, Objective(mu=1e-3))
    for atom in (-1, len(new)):
        with pytest.raises(InputError, match=f"there is no atom {atom}: give 0 to {len(new) - 1}"):
            attribute(rigidity, new, atom, train)
    others: list[AtomBatch] = [train.select([0, 1, 2]), make_batch(8, seed=11)]
    for other in others:
        with pytest.raises(InputError, match="instead of 1: they are not the structures"):
            attribute(rigidity, new, 0, other)
