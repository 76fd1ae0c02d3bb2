"""The user's door: Rigidity of every model against dense algebra on autograd gradients."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import CASES, MODELS, TWO, Case, make_batch
from tests.oracles import autograd_loops, dense
from torchlpr import AtomBatch, InputError, Objective, Rigidity, SparseKernelModel

MU = 0.02


def oracle_gradients(model: nn.Module, batch: AtomBatch) -> np.ndarray:
    double = copy.deepcopy(model).to(device="cpu", dtype=torch.float64)
    features = batch.features.to(device="cpu", dtype=torch.float64)
    return autograd_loops.atomic_gradients(double, features, batch.types.cpu()).numpy()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_dense_algebra(case: Case) -> None:
    model, train, test = case.model(), case.batch(seed=1), case.batch(seed=2, structures=4)
    rows = dense.group_means(oracle_gradients(model, train), train.structure.cpu())
    gradients = oracle_gradients(model, test)
    rigidity = Rigidity(model, train, Objective(mu=MU))
    lpr = rigidity.local(test)
    assert lpr.dtype == torch.float64
    assert lpr.device == test.features.device
    np.testing.assert_allclose(
        lpr.cpu(), dense.prediction_rigidity(rows, gradients, MU), rtol=1e-10
    )
    np.testing.assert_allclose(
        rigidity.mu_fraction(test).cpu(), dense.mu_fraction(rows, gradients, MU), rtol=1e-10
    )


@pytest.mark.parametrize("name", MODELS)
def test_structures_are_means_over_their_atoms(name: str) -> None:
    types, build = MODELS[name]
    model, train, test = build(), make_batch(5, types, seed=1), make_batch(4, types, seed=2)
    assert 3 in np.bincount(test.structure)  # 1/3 is not exact in any precision
    rows = dense.group_means(oracle_gradients(model, train), train.structure)
    means = dense.group_means(oracle_gradients(model, test), test.structure)
    total = Rigidity(model, train, Objective(mu=MU)).total(test)
    assert total.dtype == torch.float64
    np.testing.assert_allclose(total, dense.prediction_rigidity(rows, means, MU), rtol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_totals_of_the_objective(name: str) -> None:
    types, build = MODELS[name]
    model, train, test = build(), make_batch(5, types, seed=1), make_batch(3, types, seed=2)
    counts = np.bincount(train.structure)[:, None]
    sums = dense.group_means(oracle_gradients(model, train), train.structure) * counts
    rigidity = Rigidity(model, train, Objective(mu=MU, energy_weight=2.5, per_atom=False))
    expected = dense.prediction_rigidity(np.sqrt(2.5) * sums, oracle_gradients(model, test), MU)
    np.testing.assert_allclose(rigidity.local(test), expected, rtol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_mu_fraction_is_a_logarithmic_derivative(name: str) -> None:
    types, build = MODELS[name]
    model, train, test = build(), make_batch(5, types, seed=1), make_batch(3, types, seed=2)

    def log_lpr(factor: float) -> torch.Tensor:
        return Rigidity(model, train, Objective(mu=MU * factor)).local(test).log()

    step = 1e-4
    slope = (log_lpr(np.exp(step)) - log_lpr(np.exp(-step))) / (2 * step)
    fraction = Rigidity(model, train, Objective(mu=MU)).mu_fraction(test)
    np.testing.assert_allclose(fraction, slope, rtol=1e-6)
    assert ((fraction > 0) & (fraction <= 1)).all()


@pytest.mark.parametrize("size", [3, 70])
@pytest.mark.parametrize("name", MODELS)
def test_a_saved_rigidity_gives_the_same_numbers(name: str, size: int, tmp_path: Path) -> None:
    types, build = MODELS[name]
    train, test = make_batch(size, types, seed=1), make_batch(3, types, seed=2)
    rigidity = Rigidity(build(), train, Objective(mu=MU, energy_weight=2.0))
    rigidity.save(tmp_path / "rigidity.pt")
    again = Rigidity.load(tmp_path / "rigidity.pt")
    assert again.objective == rigidity.objective
    for method in ("local", "total", "mu_fraction"):
        torch.testing.assert_close(
            getattr(again, method)(test), getattr(rigidity, method)(test), rtol=1e-12, atol=0
        )


def test_later_training_does_not_reach_into_a_rigidity() -> None:
    types, build = MODELS["mlp"]
    model, train = build(), make_batch(5, types)
    rigidity = Rigidity(model, train, Objective(mu=MU))
    before = rigidity.local(train)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    assert torch.equal(rigidity.local(train), before)


def test_one_total_is_the_mean_convention() -> None:
    """The rigidity of the summed energy is that of the mean divided by n^2."""
    types, build = MODELS["mlp two species"]
    model, train, test = build(), make_batch(5, TWO, seed=1), make_batch(3, types, seed=2)
    gradients = oracle_gradients(model, test)
    counts = np.bincount(test.structure)
    assert (counts > 1).any()
    rows = dense.group_means(oracle_gradients(model, train), train.structure)
    sums = dense.group_means(gradients, test.structure) * counts[:, None]
    expected = dense.prediction_rigidity(rows, sums, MU) * counts**2
    total = Rigidity(model, train, Objective(mu=MU)).total(test)
    np.testing.assert_allclose(total, expected, rtol=1e-10)


def test_what_cannot_be_asked() -> None:
    types, build = MODELS["mlp two species"]
    train = make_batch(5, types)
    with pytest.raises(InputError, match="hold Au"):
        Rigidity(build(), make_batch(3, (79,)), Objective(mu=MU))
    with pytest.raises(InputError, match="hold Au"):
        Rigidity(build(), train, Objective(mu=MU)).local(make_batch(3, (79,)))
    kernel = SparseKernelModel(make_batch(2, atoms=1))
    blind = AtomBatch(torch.zeros(1, 4).double(), torch.tensor([14]), torch.zeros(1).long())
    rigidity = Rigidity(kernel, make_batch(3), Objective(mu=MU))
    with pytest.raises(InputError, match="gradient 0 is zero"):
        rigidity.local(blind)


@pytest.mark.parametrize("shape", ["row", "parameter", "matrix-free"])
@pytest.mark.parametrize("name", ["mlp two species", "linear"])
def test_no_atom_has_no_number(name: str, shape: Any) -> None:
    """A selection may turn out to be empty; its rigidities are empty tensors then."""
    types, build = MODELS[name]
    batch = make_batch(6, types)
    rigidity, none = Rigidity(build(), batch, Objective(mu=MU), shape), batch.select([])
    found = [*rigidity.atoms(none), *rigidity.structures(none), *rigidity.intervals(none)]
    assert [tuple(t.shape) for t in found] == [(0,)] * 8
    if shape != "matrix-free":
        assert [t.shape for t in rigidity.sweep(none, [MU, 1.0])] == [(2, 0), (2, 0)]
