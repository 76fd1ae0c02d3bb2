"""Derivatives of descriptors against central differences of the features themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.force_cases import CUTOFF, DESCRIPTORS, carbide, dense, displaced, silane
from torchlpr import SOAP, InputError
from torchlpr.descriptors import derivatives as module
from torchlpr.descriptors import soap_gradients
from torchlpr.descriptors.cache import CacheWarning

STEP = 1e-3


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_finite_differences(name: str) -> None:
    """Molecule and crystal in one batch; the crystal's atoms see their own images."""
    descriptor, structures = DESCRIPTORS[name], [silane(1), carbide(2), silane(3)]
    batch = descriptor(structures, derivatives=True)
    np.testing.assert_array_equal(batch.features, descriptor(structures).features)
    found, n = dense(batch.derivatives, len(batch)), len(batch)
    assert len(batch.derivatives) == 5**2 + 2**2 + 5**2

    def features(atom: int, axis: int, step: float) -> np.ndarray:
        moves = np.zeros((n, 3))
        moves[atom, axis] = step
        return descriptor(displaced(structures, moves)).features.numpy()

    expected = np.zeros_like(found)
    for i in range(n):
        for x in range(3):
            f = [(features(i, x, h) - features(i, x, -h)) / (2 * h) for h in (STEP, 2 * STEP)]
            expected[:, i, x] = (4 * f[0] - f[1]) / 3
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-8 * np.abs(expected).max())
    # moving everything moves nothing
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-13 * np.abs(found).max())


@pytest.mark.parametrize("name", ["normalised SOAP", "symmetry functions"])
def test_turned_structures(name: str) -> None:
    descriptor, atoms = DESCRIPTORS[name], silane(4)
    turned = atoms.copy()
    turned.rotate(70, (1, 2, 3))
    q = np.linalg.lstsq(atoms.positions - atoms.positions[0],
                        turned.positions - turned.positions[0], rcond=None)[0]  # fmt: skip
    one, two = (dense(descriptor([a], derivatives=True).derivatives, 5) for a in (atoms, turned))
    np.testing.assert_allclose(
        two, np.einsum("kixf,xy->kiyf", one, q), rtol=0, atol=1e-10 * np.abs(one).max()
    )


def test_chunks_of_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = DESCRIPTORS["normalised SOAP"]
    whole = descriptor([silane(1), carbide(2)], derivatives=True).derivatives
    monkeypatch.setattr(soap_gradients, "_DOUBLES", 3 * 60 * descriptor.n_features * 2)
    parts = descriptor([silane(1), carbide(2)], derivatives=True).derivatives
    torch.testing.assert_close(dense(parts, 7), dense(whole, 7), rtol=1e-13, atol=1e-15)


def test_labels_come_along() -> None:
    descriptor, one, two = DESCRIPTORS["SOAP"], silane(1), carbide(2)
    batch = descriptor([one, two], derivatives=True)
    np.testing.assert_array_equal(batch.forces[:5], one.arrays["forces"])
    del two.arrays["forces"]
    batch = descriptor([one, two], derivatives=True)
    assert batch.has_forces.tolist() == [True, False]
    del one.arrays["forces"]
    assert descriptor([one, two], derivatives=True).forces is None
    assert descriptor([silane(1)]).forces is None


def test_the_cache_keeps_derivatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soap = SOAP(**DESCRIPTORS["normalised SOAP"].hypers(), cache=tmp_path)
    structures = [silane(1), carbide(2)]
    fresh = soap(structures, derivatives=True)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    with monkeypatch.context() as patch:
        patch.setattr(module, "feature_derivatives", None)
        again = soap(structures, derivatives=True)
    np.testing.assert_array_equal(again.derivatives.values, fresh.derivatives.values)
    np.testing.assert_array_equal(again.derivatives.centre, fresh.derivatives.centre)
    (path,) = (file for file in files if "derivatives" in file.name)
    stored = torch.load(path, weights_only=True)
    torch.save(stored | {"moved": stored["moved"] * 0}, path)
    with pytest.warns(CacheWarning, match="are damaged .its checksum does not match"):
        mended = soap(structures, derivatives=True)
    np.testing.assert_array_equal(mended.derivatives.moved, fresh.derivatives.moved)


def test_an_atom_alone_moves_nothing() -> None:
    atoms = silane(1)[[0]]
    for name in ("SOAP", "symmetry functions"):
        derivatives = DESCRIPTORS[name]([atoms], derivatives=True).derivatives
        assert float(derivatives.values.abs().sum()) == 0


def test_memory_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    soap = SOAP(
        cutoff=CUTOFF, max_radial=3, max_angular=2, width=0.5, smoothing=0.5, types=["Si", "H"]
    )
    blocks = 24 * soap.n_features * 25
    monkeypatch.setattr(module, "memory_limit", lambda: 20 * blocks)
    assert soap([silane(k) for k in range(17)], derivatives=True).derivatives is not None
    monkeypatch.setattr(module, "_blocks", None)
    with pytest.raises(InputError, match=r"at 450 pairs .* take about 17 structures of 18, fewer"):
        soap([silane(k) for k in range(18)], derivatives=True)
