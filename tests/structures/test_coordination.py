"""Coordination numbers against crystals whose answer is known and a direct count."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import bulk

from torchlpr.errors import InputError
from torchlpr.structures.coordination import coordination_numbers


def test_diamond_has_four_neighbours() -> None:
    assert (coordination_numbers(bulk("Si", "diamond", a=5.43)) == 4).all()


def test_own_images_count() -> None:
    # One atom in a cube of 2.5 Å: its six images are its neighbours.
    cube = ase.Atoms("Si", positions=[[0.3, 0.2, 0.1]], cell=[2.5] * 3, pbc=True)
    assert coordination_numbers(cube).tolist() == [6]
    cube.pbc = False
    assert coordination_numbers(cube).tolist() == [0]


def test_agrees_with_direct_count() -> None:
    random = np.random.default_rng(3)
    structure = ase.Atoms("Si20", random.uniform(0, 7, (20, 3)), cell=[7, 7, 7], pbc=True)
    distances = structure.get_all_distances(mic=True)
    expected = ((distances < 2.85) & (distances > 0)).sum(axis=1)
    assert coordination_numbers(structure).tolist() == expected.tolist()


def test_cutoff_decides() -> None:
    diamond = bulk("Si", "diamond", a=5.43)
    assert (coordination_numbers(diamond, cutoff=2.3) == 0).all()
    assert (coordination_numbers(diamond, cutoff=3.9) == 16).all()


def test_no_atoms() -> None:
    assert coordination_numbers(ase.Atoms()).shape == (0,)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_cutoff(cutoff: float) -> None:
    with pytest.raises(InputError, match="cutoff must be a positive distance"):
        coordination_numbers(bulk("Si"), cutoff)
