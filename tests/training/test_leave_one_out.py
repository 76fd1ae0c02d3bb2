"""Leave-one-out in closed form against leaving out every structure and fitting the rest."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.cases import MODELS, TWO, make_batch
from tests.force_cases import make_force_batch
from tests.training import dense
from tests.training.test_forces import stacked
from torchlpr import AtomBatch, BehlerParrinelloMLP, LinearModel, Objective
from torchlpr.training.leave_one_out import leave_one_out

HEADS = ["linear", "linear two species", "kernel", "kernel two species"]
NETWORKS = ["mlp two species", "mlp bias tanh", "mlp softplus"]
MUS = (1e3, 1.0, 1e-3, 1e-7)


def without(batch: AtomBatch, a: int) -> AtomBatch:
    return batch.select([b for b in range(batch.n_structures) if b != a])


def error_per_atom(weights: np.ndarray, rows: np.ndarray, batch: AtomBatch, a: int) -> float:
    """Of unweighted rows of energies per atom."""
    return float(rows[a] @ weights - batch.labels()[a] / batch.counts[a])


@pytest.mark.parametrize("options", [{}, {"energy_weight": 2.5, "per_atom": False}], ids=str)
@pytest.mark.parametrize("structures", [2, 5, 40])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_fitted_to_the_others(name: str, structures: int, options: dict[str, float]) -> None:
    model, batch = MODELS[name][1](), make_batch(structures, MODELS[name][0])
    objective = Objective(mu=1.0, **options)
    found = leave_one_out(model, batch, objective, MUS)
    r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
    means = dense.rows(model, batch, Objective(mu=1.0))
    for k, mu in enumerate(MUS):
        rest = [np.arange(structures) != a for a in range(structures)]
        refits = [dense.ridge(r[others], t[others], mu) for others in rest]
        expected = [error_per_atom(w, means, batch, a) for a, w in enumerate(refits)]
        np.testing.assert_allclose(found.errors[k], expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(found.squares, found.errors.square())


@pytest.mark.parametrize("structures", [2, 4, 12])
@pytest.mark.parametrize("name", HEADS)
def test_a_structure_leaves_with_its_forces(name: str, structures: int) -> None:
    model, batch = MODELS[name][1](), make_force_batch(structures, MODELS[name][0])
    assert batch.forces is not None
    gap = batch.forces.clone()
    gap[batch.structure == 1] = torch.nan  # a structure that has none
    batch = replace(batch, forces=gap)
    objective = Objective(mu=1.0, energy_weight=1.7, force_weight=0.2)
    found = leave_one_out(model, batch, objective, MUS)
    means = dense.rows(model, batch, Objective(mu=1.0))
    for a in range(structures):
        r, t = stacked(model, without(batch, a), objective)
        own, labels = stacked(model, batch.select([a]), objective)
        for k, mu in enumerate(MUS):
            w = dense.ridge(r, t, mu)
            expected = error_per_atom(w, means, batch, a)
            assert float(found.errors[k, a]) == pytest.approx(expected, rel=1e-6, abs=1e-9)
            squares = np.sum((own @ w - labels) ** 2)
            assert float(found.squares[k, a]) == pytest.approx(squares, rel=1e-6)


def test_forces_of_fewer_rows_than_weights() -> None:
    model, batch = LinearModel(40, TWO), make_force_batch(3, TWO, seed=8, features=40)
    objective = Objective(mu=1.0, force_weight=0.2)
    assert objective.n_rows(batch) < 80
    found = leave_one_out(model, batch, objective, MUS)
    for a in range(3):
        r, t = stacked(model, without(batch, a), objective)
        own, labels = stacked(model, batch.select([a]), objective)
        for k, mu in enumerate(MUS):
            squares = np.sum((own @ dense.ridge(r, t, mu) - labels) ** 2)
            assert float(found.squares[k, a]) == pytest.approx(squares, rel=1e-7)


@pytest.mark.parametrize("relative", [1e-4, 1e-9, 1e-13])
@pytest.mark.parametrize("structures", [4, 9, 30])
def test_a_structure_alone_in_what_it_determines(structures: int, relative: float) -> None:
    """I - S is of the size of mu for it: the difference has no digit left."""
    batch = make_batch(structures, TWO[:1], seed=3, atoms=2)
    types = batch.types.clone()
    types[batch.structure == 1] = TWO[1]
    batch = replace(batch, types=types)
    model, objective = LinearModel(4, TWO), Objective(mu=1.0)
    r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
    mu = relative * float(np.linalg.norm(r, 2)) ** 2
    found = leave_one_out(model, batch, objective, [mu]).errors[0]
    for a in range(structures):
        others = np.arange(structures) != a
        w = dense.ridge_of_many_digits(r[others], t[others], mu)
        assert float(found[a]) == pytest.approx(r[a] @ w - t[a], rel=1e-4)
    assert float(found[1]) == pytest.approx(-t[1], rel=1e-6)  # nothing else knows its species


@pytest.mark.parametrize("structures", [5, 60])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_makes_one_gauss_newton_step(name: str, structures: int) -> None:
    model, batch = MODELS[name][1](), make_batch(structures, MODELS[name][0], seed=6)
    objective = Objective(mu=0.05, energy_weight=1.7)
    r, w = dense.rows(model, batch, objective), dense.flat(model)
    local = model(batch.features, batch.types).detach()
    totals = np.bincount(batch.structure, weights=local)
    residuals = 1.7**0.5 * (totals - batch.labels().numpy()) / batch.counts.numpy()
    found = leave_one_out(model, batch, objective, [0.05]).errors[0]
    for a in range(structures):
        others = np.arange(structures) != a
        hessian = r[others].T @ r[others] + 0.05 * np.eye(len(w))
        step = np.linalg.solve(hessian, r[others].T @ residuals[others] + 0.05 * w)
        expected = (residuals[a] - r[a] @ step) / 1.7**0.5
        assert float(found[a]) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_network_without_hidden_layers_is_linear(dtype: torch.dtype) -> None:
    """Whatever its weights are: the linearised model does not depend on them."""
    network = BehlerParrinelloMLP(4, TWO, (), seed=1).to(dtype)
    batch, head = make_batch(25, TWO, seed=7).to(dtype=dtype), LinearModel(4, TWO)
    objective = Objective(mu=1.0)
    mine = leave_one_out(network, batch, objective, MUS)
    exact = leave_one_out(head, batch.to(dtype=torch.float64), objective, MUS)
    np.testing.assert_allclose(mine.errors, exact.errors, rtol=1e-8, atol=1e-10)


def test_one_structure_is_predicted_from_nothing() -> None:
    batch = make_batch(1, TWO)
    found = leave_one_out(LinearModel(4, TWO), batch, Objective(mu=1.0), MUS).errors
    np.testing.assert_allclose(found, np.full((4, 1), float(-batch.labels() / len(batch))))


def test_many_structures_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("torchlpr.training.leave_one_out")
    model, objective = LinearModel(4, TWO), Objective(mu=1.0, force_weight=0.2)
    batch = make_force_batch(9, TWO)
    whole = leave_one_out(model, batch, objective, MUS)
    monkeypatch.setattr(module, "CHUNK_BYTES", 8 * 8 * 20)
    parts = leave_one_out(model, batch, objective, MUS)
    np.testing.assert_allclose(parts.squares, whole.squares, rtol=1e-9)
    np.testing.assert_allclose(parts.errors, whole.errors, rtol=1e-9)
