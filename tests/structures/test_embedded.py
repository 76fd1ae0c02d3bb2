"""The shipped amorphous silicon is what its README says."""

from __future__ import annotations

from collections import Counter

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from torchlpr.errors import InputError
from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.embedded import SUBSETS, amorphous_silicon
from torchlpr.structures.tersoff_energy import SILICON, tersoff_site_energies

COUNTS = {
    ("defect_free", "train"): 138,
    ("defect_free", "validation"): 20,
    ("defect_free", "test"): 30,
    ("defect_containing", "train"): 60,
    ("defect_containing", "validation"): 10,
    ("defect_containing", "test"): 30,
}


@pytest.fixture(scope="module")
def frames() -> list[ase.Atoms]:
    return amorphous_silicon()


def test_counts(frames: list[ase.Atoms]) -> None:
    assert Counter((f.info["class"], f.info["subset"]) for f in frames) == COUNTS
    assert all(len(frame) == 64 and frame.pbc.all() for frame in frames)


def test_subsets_are_the_whole() -> None:
    sizes = {subset: len(amorphous_silicon(subset)) for subset in SUBSETS}
    assert sum(sizes.values()) == sum(COUNTS.values())
    with pytest.raises(InputError, match="subset must be one of train, validation, test"):
        amorphous_silicon("holdout")


def test_classes_satisfy_their_definition(frames: list[ase.Atoms]) -> None:
    for frame in frames:
        coordination = coordination_numbers(frame, 2.85)
        n_defects = int((coordination != 4).sum())
        assert (coordination == frame.arrays["coordination"]).all()
        assert n_defects == frame.info["n_defects"]
        expected = "defect_free" if n_defects == 0 else "defect_containing"
        assert frame.info["class"] == expected
        assert n_defects == 0 or n_defects > 4


def test_labels(frames: list[ase.Atoms]) -> None:
    for frame in frames:
        energy = frame.get_potential_energy()
        assert np.isfinite(energy)
        assert np.isfinite(frame.get_forces()).all()
        np.testing.assert_allclose(frame.get_forces().sum(axis=0), 0, atol=1e-6)
        # 64 values that are rounded to 1e-8 eV each.
        for name in ("local_energy", "local_energy_lmp"):
            assert frame.arrays[name].sum() == pytest.approx(energy, abs=3.2e-7)
        site = tersoff_site_energies(frame)
        np.testing.assert_allclose(site, frame.arrays["local_energy"], atol=1e-8)
        assert site.sum() == pytest.approx(energy, abs=1e-9)


def test_forces_are_the_slope_of_the_site_energies(frames: list[ase.Atoms]) -> None:
    frame, step = frames[0].copy(), 1e-5
    forces = frames[0].get_forces()
    for atom, axis in ((0, 0), (17, 1), (63, 2)):
        sums = []
        for sign in (1, -1):
            moved = frame.copy()
            moved.positions[atom, axis] += sign * step
            sums.append(tersoff_site_energies(moved).sum())
        slope = (sums[0] - sums[1]) / (2 * step)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-5)


def test_site_energy_has_the_range_of_one_cutoff(frames: list[ase.Atoms]) -> None:
    frame = frames[0]
    reach = SILICON.r + SILICON.half_width
    far = int(frame.get_distances(0, range(64), mic=True).argmax())
    near = set(neighbor_list("j", frame, reach)[neighbor_list("i", frame, reach) == far])
    moved = frame.copy()
    moved.positions[far] += 0.05
    reached = near | set(neighbor_list("j", moved, reach)[neighbor_list("i", moved, reach) == far])
    changed = np.abs(tersoff_site_energies(moved) - tersoff_site_energies(frame)) > 1e-12
    assert set(np.flatnonzero(changed)) <= {int(atom) for atom in reached} | {far}


def test_site_energies_need_one_element() -> None:
    with pytest.raises(InputError, match="one element"):
        tersoff_site_energies(bulk("SiC", "zincblende", a=4.36))


def test_every_frame_is_a_trajectory_of_its_own(frames: list[ase.Atoms]) -> None:
    trajectories = [frame.info["trajectory"] for frame in frames]
    assert len(set(trajectories)) == len(trajectories)
    energies = np.sort([frame.get_potential_energy() for frame in frames])
    assert np.diff(energies).min() > 0


def test_frames_differ(frames: list[ase.Atoms]) -> None:
    # Unchanged by translation, rotation and order of the atoms: sorted distances of a glass.
    prints = np.array([_fingerprint(frame) for frame in frames])
    gaps = np.abs(prints[:, None] - prints[None, :]).max(axis=2)
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min() > 0.005


def _fingerprint(frame: ase.Atoms) -> np.ndarray:
    """Quantiles of the distances to the second shell, in units of the cell."""
    distances = np.sort(neighbor_list("d", frame, 4.5))
    return np.quantile(distances, np.linspace(0.02, 0.98, 25))


def test_no_atoms_too_close(frames: list[ase.Atoms]) -> None:
    assert min(neighbor_list("d", frame, 2.85).min() for frame in frames) > 1.9


def test_not_crystalline(frames: list[ase.Atoms]) -> None:
    diamond = bulk("Si", "diamond", a=5.432, cubic=True)
    crystal = tersoff_site_energies(diamond).mean()
    assert crystal == pytest.approx(-4.63, abs=0.005)
    for frame in frames:
        # A crystal at 300 K is 0.04 eV/atom above the ideal one and its angles spread by 6 degrees.
        assert frame.get_potential_energy() / 64 > crystal + 0.07
        assert _angles(frame).std() > 10


def _angles(frame: ase.Atoms) -> np.ndarray:
    """Bond angles in degrees."""
    i, vector = neighbor_list("iD", frame, 2.85)
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    first, second = np.nonzero(np.triu(i[:, None] == i[None, :], k=1))
    cosine = np.sum(vector[first] * vector[second], axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_calls_are_independent() -> None:
    first = amorphous_silicon("test")
    first[0].positions += 1.0
    assert not np.allclose(first[0].positions, amorphous_silicon("test")[0].positions)
