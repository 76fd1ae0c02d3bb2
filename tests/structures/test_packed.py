"""Packed derivatives against the dense array of all of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.cases import TWO, random_tensor
from tests.force_cases import dense, make_force_batch
from torchlpr.structures.packed import PackedStructures, packed_bytes


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 0], [2]], ids=str)
def test_both_products(order: list[int]) -> None:
    batch = make_force_batch(5, TWO)
    packed = PackedStructures(batch).take(order)
    whole = batch.select(order)
    for name in ("features", "types", "structure", "counts", "energies", "forces"):
        assert torch.equal(getattr(packed, name), getattr(whole, name)), name
    blocks = dense(whole.derivatives, len(whole))  # [k, i, 3, f]
    s, u = random_tensor(1, *whole.features.shape), random_tensor(2, len(whole), 3)
    back, forward = np.einsum("kf,kixf->ix", s, blocks), np.einsum("ix,kixf->kf", u, blocks)
    start = 0
    for size, part in zip(packed.sizes, packed.blocks, strict=True):
        mine = slice(start, start + size)
        np.testing.assert_allclose(part.pull_back(s[mine]), back[mine], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(part.push_forward(u[mine]), forward[mine], atol=1e-12)
        start += size


def test_derivatives_are_not_copied_again() -> None:
    packed = PackedStructures(make_force_batch(5))
    one, two = packed.take([3, 1]), packed.take([1])
    assert one.blocks[1].values.data_ptr() == two.blocks[0].values.data_ptr()
    for nothing in (packed.take([]), PackedStructures(make_force_batch(5).select([])).take([])):
        assert nothing.n_structures == 0
        assert nothing.features.shape == (0, 4)


def test_memory_is_predicted() -> None:
    batch = make_force_batch(5, TWO)
    gone = (batch.structure == 2).unsqueeze(1)
    batch = replace(batch, forces=torch.where(gone, torch.nan, batch.forces))
    blocks = [b for b in PackedStructures(batch).blocks if b is not None]
    assert len(blocks) == 4
    assert packed_bytes(batch) == sum(b.values.nbytes for b in blocks)
    assert packed_bytes(batch.to(dtype=torch.float32)) == packed_bytes(batch) // 2
    for missing in ("forces", "derivatives", "energies"):
        assert packed_bytes(replace(batch, **{missing: None})) is None
    turned = batch.structure.max() - batch.structure  # not in the order of their structures
    assert packed_bytes(replace(batch, structure=turned)) is None
