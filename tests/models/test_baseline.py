"""Composition baseline: exact where composition explains all, shortest where it cannot tell."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.cases import make_batch, random_tensor
from torchlpr.errors import InputError
from torchlpr.models import CompositionBaseline
from torchlpr.structures.batch import AtomBatch

CONSTANTS = {6: -3.25, 14: 1.5, 32: 0.125}


def composed(structures: int, types: tuple[int, ...], atoms: int | None = None) -> AtomBatch:
    """Structures whose energies are sums of constants."""
    batch = make_batch(structures, types, seed=4, atoms=atoms)
    local = torch.tensor([CONSTANTS[z] for z in batch.types.tolist()]).double()
    totals = [local[batch.structure == a].sum() for a in range(structures)]
    return replace(batch, energies=torch.stack(totals))


@pytest.mark.parametrize("types", [(14,), (6, 14), (6, 14, 32)])
def test_exact_on_energies_made_of_constants(types: tuple[int, ...]) -> None:
    batch = composed(20, types)
    baseline = CompositionBaseline.fit(batch)
    np.testing.assert_allclose(baseline.energies, [CONSTANTS[z] for z in types], rtol=1e-11)
    np.testing.assert_allclose(baseline.totals(batch), batch.energies, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(baseline.subtract(batch).energies, np.zeros(20), atol=1e-11)


def test_least_squares_of_energies_per_atom() -> None:
    batch = replace(composed(20, (6, 14)), energies=random_tensor(8, 20))
    counts = np.array([
        [int(((batch.structure == a) & (batch.types == z)).sum()) for z in (6, 14)]
        for a in range(20)
    ])
    n = counts.sum(axis=1)
    assert len(set(n)) > 1  # otherwise totals and means would give the same answer
    expected = np.linalg.pinv(counts / n[:, None]) @ (batch.energies.numpy() / n)
    np.testing.assert_allclose(CompositionBaseline.fit(batch).energies, expected, rtol=1e-10)


def test_one_composition_takes_the_shortest_split() -> None:
    """All structures 1:1 with e_C + e_Si = s: shortest is s/2 each; totals stay exact."""
    batch = composed(6, (6, 14), atoms=4)
    baseline = CompositionBaseline.fit(batch)
    half = (CONSTANTS[6] + CONSTANTS[14]) / 2
    np.testing.assert_allclose(baseline.energies, [half, half], rtol=1e-12)
    np.testing.assert_allclose(baseline.totals(batch), batch.energies, rtol=1e-12)


def test_a_species_without_data_gets_zero() -> None:
    baseline = CompositionBaseline.fit(composed(6, (14,)), types=[14, 32])
    np.testing.assert_allclose(baseline.energies, [CONSTANTS[14], 0.0], rtol=1e-12, atol=1e-14)


def test_subtract_and_add_round_trip() -> None:
    batch = make_batch(9, (6, 14))
    baseline = CompositionBaseline([6, 14], [CONSTANTS[6], CONSTANTS[14]])
    bare = baseline.subtract(batch)
    np.testing.assert_allclose(bare.energies + baseline.totals(batch), batch.energies, rtol=1e-13)
    assert not torch.allclose(bare.energies, batch.energies)
    unlabelled = replace(batch, energies=None)
    assert baseline.subtract(unlabelled).energies is None


def test_atomic_constants_add_up_to_the_totals() -> None:
    batch = make_batch(9, (6, 14, 32))
    baseline = CompositionBaseline([6, 14, 32], [CONSTANTS[z] for z in (6, 14, 32)])
    local = baseline(batch.features, batch.types)
    np.testing.assert_array_equal(local, [CONSTANTS[z] for z in batch.types.tolist()])
    totals = torch.zeros(9).double().index_add(0, batch.structure, local)
    np.testing.assert_allclose(totals, baseline.totals(batch), rtol=1e-13)


def test_nothing_in_it_is_trained() -> None:
    assert list(CompositionBaseline([6, 14]).parameters()) == []


def test_it_needs_energies_and_known_species() -> None:
    batch = make_batch(4, (6, 14))
    with pytest.raises(InputError, match="no energies"):
        CompositionBaseline.fit(replace(batch, energies=None))
    with pytest.raises(InputError, match="hold Si"):
        CompositionBaseline([6]).totals(batch)
