"""The teacher against LAMMPS, finite differences and its own symmetries."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from torchlpr.errors import InputError
from torchlpr.structures.lammps_engine import PeriodicCell, Potential, load_lammps
from torchlpr.structures.stillinger_weber import stillinger_weber


def disordered(seed: int, amplitude: float = 0.3) -> Atoms:
    atoms = bulk("Si", a=5.431, cubic=True).repeat(2)
    atoms.positions += np.random.default_rng(seed).normal(0, amplitude, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("seed", [0, 1])
def test_lammps_agrees(seed) -> None:
    try:
        load_lammps()
    except ImportError as error:
        pytest.skip(str(error))
    atoms = disordered(seed)
    teacher = Potential("sw", "Si.sw", ("Si",))
    with PeriodicCell(atoms.positions, float(atoms.cell[0, 0]), 1e-3, teacher) as cell:
        energy, expected, _ = cell.evaluate()
    sites, forces = stillinger_weber(atoms)
    assert sites.sum() == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(forces, expected, atol=1e-8)


def test_forces_are_the_slope_of_the_energy() -> None:
    atoms = disordered(2)
    _, forces = stillinger_weber(atoms)
    for atom, axis in ((0, 0), (17, 2)):
        energies = []
        for step in (1e-4, -1e-4):
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            energies.append(stillinger_weber(moved)[0].sum())
        assert forces[atom, axis] == pytest.approx(-np.diff(energies[::-1])[0] / 2e-4, rel=1e-6)


def test_the_range_of_a_site_energy_is_the_cutoff() -> None:
    atoms = disordered(3, 0.1)
    before, _ = stillinger_weber(atoms)
    distances = atoms.get_distances(0, np.arange(len(atoms)), mic=True)
    atoms.positions[0] += 0.05
    after, _ = stillinger_weber(atoms)
    changed = np.abs(after - before) > 1e-12
    assert changed[0]
    assert not changed[distances > 3.771 + 0.1].any()


def test_the_crystal() -> None:
    """Its energy is the cohesive energy of silicon, at the lattice constant of silicon."""
    energy = {a: stillinger_weber(bulk("Si", a=a))[0].mean() for a in (5.42, 5.431, 5.44)}
    assert energy[5.431] == pytest.approx(-4.3366, abs=1e-4)
    assert energy[5.431] == min(energy.values())
    sites, forces = stillinger_weber(Atoms("Si"))
    assert sites.tolist() == [0]
    assert not forces.any()


def test_another_element_is_refused() -> None:
    with pytest.raises(InputError, match="are silicon's, not SiC's"):
        stillinger_weber(Atoms("SiC", positions=[[0, 0, 0], [0, 0, 1.8]]))
