"""Silicon crystals, slabs and nano-clusters, with the energies and forces of an exact teacher."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.build import bulk, diamond100
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

from torchlpr.structures.single_environment import cell_variants
from torchlpr.structures.stillinger_weber import stillinger_weber

__all__ = [
    "LATTICE",
    "crystals",
    "is_surface",
    "labelled",
    "nano_clusters",
    "rattled",
    "slab",
    "strained_crystals",
]

LATTICE = 5.4309497
"""Edge of the cubic cell at which the teacher's energy is lowest, Å."""
BOND = 2.85  # longer ones are none, Å
RADII = (6.0, 6.7, 7.4, 8.1)  # of the clusters, Å


def labelled(structures: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """Give structures the teacher's energies and forces, and its split into ``site_energy``.

    Args:
        structures: silicon.

    Returns:
        The same objects.
    """
    for atoms in structures:
        energies, forces = stillinger_weber(atoms)
        atoms.arrays["site_energy"] = energies
        atoms.calc = SinglePointCalculator(atoms, energy=float(energies.sum()), forces=forces)
    return list(structures)


def rattled(
    structures: Sequence[ase.Atoms], n: int, amplitude: float, seed: int, strain: float = 0.0
) -> list[ase.Atoms]:
    """Displace the atoms of structures at random.

    Args:
        structures: taken in turn.
        n: how many to make.
        amplitude: standard deviation of each coordinate, Å.
        seed: of the random numbers.
        strain: largest entry of a random strain of periodic structures.

    Returns:
        New structures with energies and forces.
    """
    rng, made = np.random.default_rng(seed), []
    for k in range(n):
        atoms = structures[k % len(structures)].copy()
        if strain:
            deformation = np.eye(3) + rng.uniform(-strain, strain, (3, 3))
            atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        atoms.positions += rng.normal(0.0, amplitude, atoms.positions.shape)
        made.append(atoms)
    return labelled(made)


def slab(layers: int, vacuum: float = 10.0) -> ase.Atoms:
    """An unreconstructed (100) slab, four atoms a layer, those of the outermost two twofold.

    Args:
        layers: at least 4.
        vacuum: between periodic images, Å.

    Returns:
        The slab, periodic in three directions, without energies.
    """
    atoms: ase.Atoms = diamond100("Si", (2, 2, layers), a=LATTICE, vacuum=vacuum / 2)
    atoms.pbc = True
    return atoms


def crystals() -> list[ase.Atoms]:
    """Diamond as cubic cells of 64 atoms, without energies."""
    return [bulk("Si", a=LATTICE, cubic=True).repeat(2)]


def strained_crystals(n: int, seed: int = 0) -> list[ase.Atoms]:
    """Diamond and homogeneous deformations of it: structures of a single environment.

    Args:
        n: deformations, of up to 2 degrees and 0.05 Å at constant volume.
        seed: of the deformations.

    Returns:
        The crystal, then its deformations, two atoms each, with energies and forces.
    """
    crystal = bulk("Si", a=LATTICE)
    return labelled([crystal, *cell_variants(crystal, n, seed, angle=2.0, length=0.05)])


def nano_clusters() -> list[ase.Atoms]:
    """Spheres cut out of diamond around an atom and around a hole, without energies.

    Atoms with fewer than two neighbours are taken away until there are none.

    Returns:
        Clusters of different sizes, and so of different shares of surface, without periodicity.
    """
    block = bulk("Si", a=LATTICE, cubic=True).repeat(5)
    middle = 2.5 * LATTICE
    made = []
    for centre in (np.full(3, 2.0 * LATTICE), np.full(3, middle)):
        away = np.linalg.norm(block.positions - centre, axis=1)
        for radius in RADII:
            cluster = ase.Atoms("Si" * int((away < radius).sum()), block.positions[away < radius])
            while not (keep := _neighbours(cluster) > 1).all():
                cluster = cluster[keep]
            made.append(cluster)
    return made


def is_surface(structures: Sequence[ase.Atoms]) -> np.ndarray:
    """Which atoms have fewer than four neighbours.

    Args:
        structures: silicon.

    Returns:
        Boolean, shape (atoms of all structures,).
    """
    return np.concatenate([_neighbours(atoms) for atoms in structures]) < 4


def _neighbours(atoms: ase.Atoms) -> np.ndarray:
    """Number of bonds of each atom."""
    return np.bincount(neighbor_list("i", atoms, BOND), minlength=len(atoms))
