"""Slabs of one surface-to-bulk ratio: clusters found, their offset loose, one crystal mends it."""

import numpy as np
import pytest
import torch
from ase.build import bulk, diamond100

from torchlpr import (
    BehlerParrinelloMLP,
    LinearModel,
    Objective,
    Rigidity,
    SymmetryFunctions,
    offset_rigidity,
)
from torchlpr.analysis.single_linkage import single_linkage


@pytest.mark.parametrize("network", [False, True], ids=["linear", "network"])
def test_the_cure(network):
    slabs = []
    for seed in range(20):
        slab = diamond100("Si", (2, 2, 8), vacuum=8.0)
        slab.pbc = True
        slab.rattle(0.06, seed=seed)
        slabs.append(slab)
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.06, seed=99)
    descriptor = SymmetryFunctions.standard(4.0, ["Si"], 8, 1).scaled(slabs, "standard")
    before = descriptor(slabs)

    gap = single_linkage(before.features).gap()
    assert gap is not None
    surface = np.tile(np.isin(np.arange(32), [*range(4), *range(28, 32)]), 20)
    assert gap.sizes == (480, 160)
    assert np.array_equal(gap.labels == 1, surface)

    model = LinearModel(descriptor.n_features, ["Si"])
    if network:
        model = BehlerParrinelloMLP(descriptor.n_features, ["Si"], (8,), bias=True, seed=0)
    labels = torch.from_numpy(gap.labels)
    objective = Objective(1e-4)
    loose = Rigidity(model, before, objective)
    held = Rigidity(model, descriptor([*slabs[:-1], crystal]), objective)
    offset = float(offset_rigidity(loose, before, labels).rigidity)
    total = float(loose.total(before).median())
    assert total > 1 > 1e3 * offset  # totals held, the offset not
    assert float(offset_rigidity(held, before, labels).rigidity) > 5 * offset
    assert float(held.total(before).median()) == pytest.approx(total, rel=0.2)
