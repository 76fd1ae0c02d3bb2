"""Derivatives in a batch against dense arrays: selection, joining, sums, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.cases import make_batch
from tests.force_cases import dense, make_force_batch
from torchlpr import AtomBatch, InputError
from torchlpr.structures.derivative_products import pull_back, push_forward
from torchlpr.structures.derivatives import Derivatives


@pytest.fixture(name="batch")
def _batch() -> AtomBatch:
    return make_force_batch(6)


@pytest.mark.parametrize("chosen", [[0, 1], [5, 0, 3], [4], [2, 3, 4], []], ids=str)
def test_selected_with_their_structures(batch: AtomBatch, chosen: list[int]) -> None:
    part = batch.select(chosen)
    atoms = np.concatenate([np.flatnonzero(batch.structure == s) for s in chosen] or [[]])
    atoms = atoms.astype(int)
    expected = dense(batch.derivatives, len(batch))[atoms][:, atoms]
    np.testing.assert_array_equal(dense(part.derivatives, len(part)), expected)
    np.testing.assert_array_equal(part.forces, batch.forces[atoms])


def test_consecutive_structures_share_memory(batch: AtomBatch) -> None:
    part = batch.select([1, 2])
    values = batch.derivatives.values.untyped_storage().data_ptr()
    assert part.derivatives.values.untyped_storage().data_ptr() == values


def test_joined_and_separated(batch: AtomBatch) -> None:
    parts = [batch.select([s]) for s in range(6)]
    joined = AtomBatch.cat(parts)
    np.testing.assert_array_equal(
        dense(joined.derivatives, len(joined)), dense(batch.derivatives, len(batch))
    )
    np.testing.assert_array_equal(joined.forces, batch.forces)


def test_joined_with_structures_that_lack_forces(batch: AtomBatch) -> None:
    other = make_batch(2, seed=9)
    joined = AtomBatch.cat([batch, other, batch])
    assert joined.has_forces.tolist() == [True] * 6 + [False] * 2 + [True] * 6
    assert torch.isnan(joined.forces[len(batch) : len(batch) + len(other)]).all()
    assert len(joined.derivatives) == 2 * len(batch.derivatives)
    # forces without derivatives beside some with: nobody could count them, so there are none
    assert AtomBatch.cat([batch, replace(batch, derivatives=None)]).derivatives is None
    # unlabelled structures need derivatives of all
    bare = replace(batch, forces=None)
    assert AtomBatch.cat([bare, bare]).derivatives is not None
    assert AtomBatch.cat([bare, other]).derivatives is None
    assert AtomBatch.cat([other, other]).forces is None


def test_conversion(batch: AtomBatch) -> None:
    single = batch.to(dtype=torch.float32)
    assert single.derivatives.values.dtype == torch.float32
    assert single.forces.dtype == torch.float64
    assert batch.to("cpu").derivatives.values is batch.derivatives.values


@pytest.mark.parametrize("chunk", [20, 2**20])
def test_sums_are_transposed_to_each_other(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_force_batch(2)
    monkeypatch.setattr("torchlpr.structures.derivative_products.CHUNK", chunk)
    rng = np.random.default_rng(0)
    s, u = (torch.from_numpy(rng.normal(size=x.shape)) for x in (batch.features, batch.forces))
    d = dense(batch.derivatives, len(batch))
    pulled, pushed = pull_back(batch.derivatives, s), push_forward(batch.derivatives, u)
    np.testing.assert_allclose(pulled, np.einsum("kf,kixf->ix", s, d), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(pushed, np.einsum("ix,kixf->kf", u, d), rtol=1e-12, atol=1e-13)
    for product, x in ((pull_back, s), (push_forward, u)):
        x.requires_grad_()
        assert torch.autograd.gradcheck(lambda v, p=product: p(batch.derivatives, v), x)
        assert torch.autograd.gradgradcheck(lambda v, p=product: p(batch.derivatives, v), x)
        jacobian = torch.func.jacfwd(lambda v, p=product: p(batch.derivatives, v))(x.detach())
        reverse = torch.func.jacrev(lambda v, p=product: p(batch.derivatives, v))(x.detach())
        torch.testing.assert_close(jacobian, reverse, rtol=1e-13, atol=1e-14)


def test_any_order_is_put_in_order(batch: AtomBatch) -> None:
    d = batch.derivatives
    mixed = torch.randperm(len(d), generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"ordered by the atom that is moved; use .*\.ordered"):
        Derivatives(d.centre[mixed], d.moved[mixed], d.values[mixed])
    again = Derivatives.ordered(d.centre[mixed], d.moved[mixed], d.values[mixed])
    np.testing.assert_array_equal(dense(again, len(batch)), dense(d, len(batch)))


def test_forces_that_do_not_fit(batch: AtomBatch) -> None:
    forces = batch.forces
    for wrong, message in (
        (forces[:-1], f"forces must have shape \\({len(batch)}, 3\\), one for each atom, not"),
        (torch.full_like(forces, torch.inf), "the force on atom 0 is not finite"),
    ):
        with pytest.raises(InputError, match=message):
            replace(batch, forces=wrong)
    wrong = forces.clone()
    last = int((batch.structure == 3).nonzero()[-1])
    wrong[last, 1] = torch.nan
    with pytest.raises(InputError, match="structure 3 has forces on some of its atoms only"):
        replace(batch, forces=wrong)
    gone = torch.where((batch.structure == 3).unsqueeze(1), torch.nan, forces)
    assert replace(batch, forces=gone).has_forces.tolist() == [s != 3 for s in range(6)]
    listed = AtomBatch.from_arrays(
        batch.features.tolist(), batch.types.tolist(), batch.structure.tolist(),
        batch.energies.tolist(), forces.tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(listed.forces, forces)
    np.testing.assert_array_equal(listed.energies, batch.energies)


def test_derivatives_that_do_not_fit(batch: AtomBatch) -> None:
    d, values = batch.derivatives, batch.derivatives.values
    other = int((batch.structure != batch.structure[d.moved[0]]).nonzero()[0])
    spoilt = values.clone()
    spoilt[3, 1, 2] = torch.nan
    strange = d.centre.clone()
    strange[0] = other
    outside = d.moved.clone()
    outside[-1] = len(batch)
    for wrong, message in (
        (lambda: replace(d, values=values[:, :, :2]), "of 2 features and the atoms have 4"),
        (lambda: replace(d, values=values.float()), "derivatives are torch.float32 on cpu and"),
        (lambda: replace(d, values=spoilt), f"features of atom {int(d.centre[3])} have a deriv"),
        (lambda: replace(d, centre=strange), "joins atoms of two structures"),
        (lambda: replace(d, moved=outside), f"name atom {len(batch)} of {len(batch)}"),
        (lambda: replace(d, centre=d.centre - 100), "derivatives name atom -"),
        (lambda: replace(d, centre=d.centre[:-1]), "centre of the derivatives must be int64 of"),
        (lambda: replace(d, moved=d.moved.double()), "moved of the derivatives must be int64"),
        (lambda: replace(d, values=values[:, :2]), "must have shape .pairs, 3, features., not"),
    ):
        with pytest.raises(InputError, match=message):
            replace(batch, derivatives=wrong())
