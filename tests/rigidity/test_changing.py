"""Structures into and out of a rigidity, batches, and sweeps: each equals building anew."""

import numpy as np
import pytest
import torch

from tests.cases import CASES, Case, make_batch
from torchlpr.errors import InputError
from torchlpr.models import LinearModel
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch

OBJECTIVE = Objective(mu=0.02, energy_weight=1.7)
MUS = [0.002, 0.02, 3.0]
SHAPES = ["row", "parameter"]


def assert_same(left: Rigidity, right: Rigidity, test: AtomBatch) -> None:
    torch.testing.assert_close(left.atoms(test), right.atoms(test), rtol=1e-9, atol=1e-12)
    assert left.factor.n_rows == right.factor.n_rows


@pytest.mark.parametrize("case", CASES, ids=str)
def test_adding_and_removing_structures(case: Case) -> None:
    model, train, new = case.model(), case.batch(), case.batch(seed=1, structures=4)
    test = case.batch(seed=2, structures=5)
    rigidity = Rigidity(model, train, OBJECTIVE)
    more = rigidity.add(new)
    assert_same(more, Rigidity(model, AtomBatch.cat([train, new]), OBJECTIVE), test)
    assert "changed from" in more.reason
    assert_same(more.remove(new), rigidity, test)
    kept = list(range(1, train.n_structures))
    fewer = Rigidity(model, train.select(kept), OBJECTIVE)
    assert_same(rigidity.remove(train.select([0])), fewer, test)
    assert_same(rigidity, Rigidity(model, train, OBJECTIVE), test)  # it stayed as it was


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_a_sweep_is_as_many_rigidities(case: Case, shape: str) -> None:
    model, train, test = case.model(), case.batch(), case.batch(seed=1)
    swept = Rigidity(model, train, OBJECTIVE, shape).sweep(test, MUS)
    assert swept.rigidity.shape == swept.mu_fraction.shape == (len(MUS), len(test))
    for mu, rigidity, fraction in zip(MUS, *swept, strict=True):
        alone = Rigidity(model, train, Objective(mu=mu, energy_weight=1.7), shape).atoms(test)
        torch.testing.assert_close(rigidity, alone.rigidity, rtol=1e-9, atol=0)
        torch.testing.assert_close(fraction, alone.mu_fraction, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_batches_one_at_a_time(case: Case, shape: str) -> None:
    model, train, test = case.model(), case.batch(), case.batch(seed=1)
    parts = np.array_split(np.arange(train.n_structures), 3)
    batches = (train.select(torch.from_numpy(part)) for part in parts)
    streamed = Rigidity.from_batches(model, batches, OBJECTIVE, shape)
    assert_same(streamed, Rigidity(model, train, OBJECTIVE, shape), test)


def test_saved_and_read_again_it_still_changes(tmp_path) -> None:
    model, train, new = LinearModel(4, [14]), make_batch(9), make_batch(2, seed=1)
    rigidity = Rigidity(model, train, OBJECTIVE).add(new)
    rigidity.save(tmp_path / "r.pt")
    again = Rigidity.load(tmp_path / "r.pt")
    assert again.reason == rigidity.reason
    assert_same(again.remove(new), Rigidity(model, train, OBJECTIVE), make_batch(3, seed=2))
    assert again.sweep(new, MUS).rigidity.equal(rigidity.sweep(new, MUS).rigidity)


def test_what_cannot_be_removed() -> None:
    model, train = LinearModel(4, [14]), make_batch(3)
    with pytest.raises(InputError, match="not among the 3 rows"):
        Rigidity(model, train, OBJECTIVE, "row").remove(make_batch(1, seed=5))
    rigidity = Rigidity(model, train, Objective(mu=1e-13), "parameter")
    with pytest.raises(InputError, match="build the rigidity anew"):
        rigidity.remove(train.select([0]))


def test_a_zero_gradient_has_no_rigidity_in_a_sweep_either() -> None:
    batch = AtomBatch(torch.zeros(1, 4).double(), torch.tensor([14]), torch.tensor([0]))
    rigidity = Rigidity(LinearModel(4, [14]), make_batch(3), OBJECTIVE)
    with pytest.raises(InputError, match="gradient 0 is zero"):
        rigidity.sweep(batch, MUS)


def test_an_unknown_shape() -> None:
    with pytest.raises(InputError, match="shape 'tensor' is unknown"):
        Rigidity(LinearModel(4, [14]), make_batch(3), OBJECTIVE, "tensor")
