"""The feature cache: a hit computes nothing, damage is seen, a write is whole or absent."""

import warnings

import ase.build
import numpy as np
import pytest
import torch

from torchlpr.descriptors import cache as cache_module
from torchlpr.descriptors.cache import CacheWarning, FeatureCache, cache_key
from torchlpr.descriptors.soap import SOAP

HYPERS = {
    "cutoff": 3.0,
    "max_radial": 2,
    "max_angular": 2,
    "width": 0.4,
    "smoothing": 0.5,
    "types": ["Si"],
}


@pytest.fixture(name="structures")
def _structures():
    return [ase.build.bulk("Si", "diamond", a) for a in (5.3, 5.5)]


@pytest.fixture(name="soap")
def _soap(tmp_path):
    return SOAP(**HYPERS, cache=tmp_path / "made" / "when needed")


def files(soap):
    return sorted(soap.cache.iterdir()) if soap.cache.exists() else []


def forbid_computing(monkeypatch):
    monkeypatch.setattr(SOAP, "_compute", lambda *_: pytest.fail("computed instead of read"))


def test_a_hit_computes_nothing_and_changes_nothing(soap, structures, monkeypatch):
    fresh = soap(structures)
    assert len(files(soap)) == 1
    forbid_computing(monkeypatch)
    torch.testing.assert_close(soap(structures).features, fresh.features, rtol=0, atol=0)
    torch.testing.assert_close(
        fresh.features, SOAP(**HYPERS, cache=soap.cache)(structures).features, rtol=0, atol=0
    )


def test_energies_are_never_cached(soap, structures, monkeypatch):
    assert soap(structures).energies is None
    forbid_computing(monkeypatch)
    for index, atoms in enumerate(structures):
        atoms.info["energy"] = float(index)
    assert soap(structures).labels().tolist() == [0.0, 1.0]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_numbers(path):
    stored = torch.load(path, weights_only=True)
    torch.save({**stored, "features": stored["features"] * (1 + 1e-15) + 1e-300}, path)


def other_layout(path):
    torch.save([1, 2], path)


@pytest.mark.parametrize("damage", [truncate, empty, flip, other_numbers, other_layout])
def test_a_damaged_file_is_computed_and_written_again(soap, structures, monkeypatch, damage):
    fresh = soap(structures).features
    (path,) = files(soap)
    damage(path)
    with pytest.warns(CacheWarning, match="damaged"):
        again = soap(structures).features
    torch.testing.assert_close(again, fresh, rtol=0, atol=0)
    forbid_computing(monkeypatch)
    torch.testing.assert_close(soap(structures).features, fresh, rtol=0, atol=0)
    assert files(soap) == [path]


def test_every_flipped_byte_is_seen(tmp_path):
    """Wherever the damage is, what is read is right or nothing."""
    cache, features = FeatureCache(tmp_path), torch.full((3, 4), 0.1, dtype=torch.float64)
    cache.save("k", features)
    whole = cache.path("k").read_bytes()
    for position in range(0, len(whole), 7):
        content = bytearray(whole)
        content[position] ^= 255
        cache.path("k").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            read = cache.load("k", (3, 4))
        assert read is None or torch.equal(read, features), position


def test_a_file_under_another_key_is_refused(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.save("a", torch.ones(2, 2, dtype=torch.float64))
    cache.path("a").rename(cache.path("b"))
    assert cache.load("a", (2, 2)) is None
    with pytest.warns(CacheWarning, match="checksum"):
        assert cache.load("b", (2, 2)) is None


def test_anything_that_matters_changes_the_key(structures):
    soap = SOAP(**HYPERS)
    keys = [cache_key(soap.hypers(), structures)]
    for change in (
        {"cutoff": 3.0000001},
        {"normalize": True},
        {"types": ["Si", "C"]},
        {"radial_scaling": {"exponent": 4, "rate": 1, "scale": 2}},
    ):
        keys.append(cache_key(SOAP(**{**HYPERS, **change}).hypers(), structures))
    keys.append(cache_key(soap.hypers(), structures[::-1]))
    keys.append(cache_key(soap.hypers(), structures[:1]))
    for change in (move, stretch, transmute, release):
        copies = [atoms.copy() for atoms in structures]
        change(copies[1])
        keys.append(cache_key(soap.hypers(), copies))
    assert len(set(keys)) == len(keys)


def move(atoms):
    atoms.positions[1, 2] = np.nextafter(atoms.positions[1, 2], np.inf)


def stretch(atoms):
    atoms.cell[0, 0] += 1e-12


def transmute(atoms):
    atoms.numbers[0] = 6


def release(atoms):
    atoms.pbc = False


def test_the_key_does_not_depend_on_what_does_not_matter(structures):
    soap = SOAP(**HYPERS)
    key = cache_key(soap.hypers(), structures)
    structures[0].info["note"] = "changed"
    structures[0].info["energy"] = 1.0
    assert cache_key(dict(reversed(soap.hypers().items())), structures) == key


def test_versions_change_the_key(structures, monkeypatch):
    key = cache_key({}, structures)
    monkeypatch.setattr(cache_module, "version", lambda _: "99.0")
    other = cache_key({}, structures)
    monkeypatch.setattr(cache_module, "FORMAT", cache_module.FORMAT + 1)
    assert len({key, other, cache_key({}, structures)}) == 3


def test_an_interrupted_write_leaves_nothing(soap, structures, monkeypatch):
    def stop_half_way(_, file):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.torch, "save", stop_half_way)
        with pytest.raises(KeyboardInterrupt):
            soap(structures)
    assert files(soap) == []
    soap(structures)
    assert len(files(soap)) == 1


def test_a_folder_that_cannot_be_written_costs_only_a_warning(tmp_path, structures):
    (tmp_path / "file").write_text("in the way")
    soap = SOAP(**HYPERS, cache=tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning, match="going on without"):
        batch = soap(structures)
    assert len(batch) == 4


def test_no_cache_writes_nothing(tmp_path, structures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SOAP(**HYPERS)(structures)
    assert list(tmp_path.iterdir()) == []
