"""Plain-tensor batches: what goes in comes out, and nothing that does not fit goes in."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch


@st.composite
def batches(draw: st.DrawFn, labelled: bool | None = None) -> AtomBatch:
    """Batches whose atoms are shuffled between structures."""
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    structure = np.repeat(np.arange(len(counts)), counts)
    structure = np.array(draw(st.permutations(structure.tolist())))
    n_atoms = len(structure)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    has_energies = draw(st.booleans()) if labelled is None else labelled
    return AtomBatch.from_arrays(
        rng.normal(size=(n_atoms, 3)),
        rng.integers(1, 90, n_atoms),
        structure,
        rng.normal(size=len(counts)) if has_energies else None,
    )


def contents(batch: AtomBatch) -> list[tuple]:
    """Features, types and energy of each structure, by plain loops."""
    found = []
    for a in range(batch.n_structures):
        atoms = [k for k in range(len(batch)) if int(batch.structure[k]) == a]
        features = [tuple(batch.features[k].tolist()) for k in atoms]
        energy = None if batch.energies is None else float(batch.energies[a])
        found.append((features, [int(batch.types[k]) for k in atoms], energy))
    return found


def small() -> dict[str, object]:
    return {"features": torch.ones(3, 2), "types": [1, 6, 1], "structure": [0, 1, 0]}


@given(st.data(), batches())
def test_select_takes_structures_in_order(data: st.DataObject, batch: AtomBatch) -> None:
    every = data.draw(st.permutations(range(batch.n_structures)))
    chosen = every[: data.draw(st.integers(0, len(every)))]
    part = batch.select(chosen)
    expected = contents(batch)
    assert contents(part) == [expected[a] for a in chosen]
    assert part.n_structures == len(chosen)
    assert contents(batch.select(torch.tensor(chosen))) == contents(part)


@given(st.data(), batches())
def test_select_and_its_inverse(data: st.DataObject, batch: AtomBatch) -> None:
    order = data.draw(st.permutations(range(batch.n_structures)))
    inverse = np.argsort(order).tolist()
    assert contents(batch.select(order).select(inverse)) == contents(batch)


@given(st.lists(batches(labelled=True), min_size=1, max_size=4))
def test_cat_joins_contents(parts: list[AtomBatch]) -> None:
    whole = AtomBatch.cat(parts)
    assert contents(whole) == [one for part in parts for one in contents(part)]
    assert whole.n_structures == sum(part.n_structures for part in parts)


@given(batches())
def test_cat_undoes_select(batch: AtomBatch) -> None:
    singles = [batch.select([a]) for a in range(batch.n_structures)]
    assert contents(AtomBatch.cat(singles)) == contents(batch)


@given(batches())
def test_counts(batch: AtomBatch) -> None:
    assert batch.counts.tolist() == [len(types) for _, types, _ in contents(batch)]
    assert int(batch.counts.sum()) == len(batch)


def test_cat_has_energies_only_if_all_have() -> None:
    with_energies = AtomBatch.from_arrays(**small(), energies=[1.0, 2.0])
    without = AtomBatch.from_arrays(**small())
    assert AtomBatch.cat([with_energies, without]).energies is None
    assert AtomBatch.cat([with_energies, with_energies]).labels().tolist() == [1, 2, 1, 2]
    with pytest.raises(InputError, match="no batches"):
        AtomBatch.cat([])


def test_from_arrays_reads_anything() -> None:
    batch = AtomBatch.from_arrays(
        [[1, 2], [3, 4]], np.array([14, 14], np.int32), [0, 0], np.array([-1.5], np.float32)
    )
    assert batch.features.dtype == batch.labels().dtype == torch.float64
    assert batch.types.dtype == batch.structure.dtype == torch.int64
    assert batch.features.tolist() == [[1, 2], [3, 4]]
    assert batch.labels().tolist() == [-1.5]
    assert len(batch) == 2


def test_to_changes_floating_point_only_and_copies_nothing_needlessly() -> None:
    batch = AtomBatch.from_arrays(**small(), energies=[1.0, 2.0]).to(dtype=torch.float64)
    assert batch.features.dtype == batch.labels().dtype == torch.float64
    assert batch.types.dtype == batch.structure.dtype == torch.int64
    same = batch.to("cpu", torch.float64)
    for field in dataclasses.fields(batch):
        assert getattr(same, field.name) is getattr(batch, field.name)
    assert AtomBatch.from_arrays(**small()).to("cpu").energies is None


def test_labels_are_required() -> None:
    with pytest.raises(InputError, match="no energies"):
        AtomBatch.from_arrays(**small()).labels()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": torch.ones(3)}, r"features must have shape .* not \(3,\)"),
        ({"features": torch.ones(3, 2, 2)}, "features must have shape"),
        ({"types": [1, 6]}, r"types must have shape \(3,\).*not \(2,\)"),
        ({"types": [[1], [6], [1]]}, r"types must have shape \(3,\).*not \(3, 1\)"),
        ({"structure": [0, 0]}, r"structure must have shape \(3,\)"),
        ({"structure": [0, -1, 0]}, "negative"),
        ({"structure": [0, 2, 0]}, "structure 1 has no atoms"),
        ({"structure": [1, 1, 1]}, "structure 0 has no atoms"),
        ({"features": [[1.0], [float("nan")], [2.0]]}, "features of atom 1 are not finite"),
        ({"features": [[1.0], [2.0], [float("-inf")]]}, "features of atom 2 are not finite"),
        ({"energies": [1.0]}, r"energies must have shape \(2,\).*not \(1,\)"),
        ({"energies": [[1.0], [2.0]]}, r"not \(2, 1\)"),
        ({"energies": [1.0, float("inf")]}, "energy of structure 1 is not finite"),
    ],
)
def test_what_does_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AtomBatch.from_arrays(**{**small(), **change})


@pytest.mark.parametrize(
    ("chosen", "message"), [([2], "2 is outside 0..1"), ([-1], "outside"), ([0, 0], "repeated")]
)
def test_what_cannot_be_selected(chosen: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AtomBatch.from_arrays(**small()).select(chosen)


def test_nothing_selected() -> None:
    empty = AtomBatch.from_arrays(**small(), energies=[1.0, 2.0]).select([])
    assert len(empty) == empty.n_structures == len(empty.counts) == 0
    assert empty.labels().shape == (0,)
    assert empty.features.shape == (0, 2)


def test_batches_cannot_be_changed() -> None:
    batch = AtomBatch.from_arrays(**small())
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.features = torch.zeros(3, 2)
