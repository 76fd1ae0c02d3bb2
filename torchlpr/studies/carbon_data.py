"""Carbon with energies of density functional theory: bulk, slabs and strained crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
import numpy.typing as npt

from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.disorder_protocol import BONDED
from torchlpr.structures.io import read
from torchlpr.studies.data_choice import deal, shared_file

__all__ = [
    "CORE",
    "DIAMOND_LIKE",
    "GRAPHITE_LIKE",
    "LOW_DENSITY",
    "SURFACE",
    "CarbonSets",
    "coordination_classes",
    "film_density",
    "slab_heights",
    "surface_classes",
]

FILE = "carbon_pbe/carbon_pbe.xyz"
DIAMOND_LIKE, GRAPHITE_LIKE, LOW_DENSITY = "diamond-like", "graphite-like", "low density"
SURFACE, CORE = "surface", "core"
DEPTH = 2.5
"""Atoms this close to the outermost ones, in Å, are at the surface."""


@dataclass(frozen=True)
class CarbonSets:
    """Structures in random order.

    Attributes:
        bulk: amorphous.
        slabs: with two surfaces.
        diamond_like: strained diamond.
        graphite_like: strained graphite.
        diamond_energy: lowest energy of an atom among the former, eV.
        text: which data they are.
    """

    bulk: list[ase.Atoms]
    slabs: list[ase.Atoms]
    diamond_like: list[ase.Atoms]
    graphite_like: list[ase.Atoms]
    diamond_energy: float
    text: str = "PBE carbon after the C-GAP-17 test set"

    @classmethod
    def read(cls, seed: int) -> CarbonSets:
        """Read and sort the structures.

        Args:
            seed: of their order.

        Returns:
            The sets.
        """
        frames = read(shared_file(FILE, "carbon bulk, slabs and crystals with energies"))
        kinds = {kind: [f for f in frames if f.info["config_type"] == kind] for kind in KINDS}
        crystals = kinds["crystal"]
        fourfold = [bool((coordination_numbers(f, BONDED) == 4).all()) for f in crystals]
        diamonds = [f for f, is_it in zip(crystals, fourfold, strict=True) if is_it]
        return cls(
            deal(kinds["bulk_amorphous"], len(kinds["bulk_amorphous"]), seed),
            kinds["slab"],
            diamonds,
            [f for f, is_it in zip(crystals, fourfold, strict=True) if not is_it],
            min(f.get_potential_energy() / len(f) for f in diamonds),
        )

    @property
    def dense(self) -> list[ase.Atoms]:
        """Bulk at 2.9 g/cm3 or more."""
        return [frame for frame in self.bulk if density(frame) >= 2.9]

    @property
    def thin(self) -> list[ase.Atoms]:
        """Bulk under 2.1 g/cm3."""
        return [frame for frame in self.bulk if density(frame) < 2.1]


KINDS = ("bulk_amorphous", "slab", "crystal")


def density(frame: ase.Atoms) -> float:
    """Density of a structure.

    Args:
        frame: periodic in three directions.

    Returns:
        In g/cm3.
    """
    return float(frame.get_masses().sum() / frame.get_volume() * 1.66053907)


def coordination_classes(frames: Sequence[ase.Atoms]) -> list[str]:
    """Neighbours of each atom, those with other numbers than two to four together.

    Args:
        frames: carbon.

    Returns:
        "2-fold", "3-fold", "4-fold" or "others".
    """
    numbers = np.concatenate([coordination_numbers(frame, BONDED) for frame in frames])
    return [f"{n}-fold" if n in {2, 3, 4} else "others" for n in numbers]


def surface_classes(frames: Sequence[ase.Atoms]) -> list[str]:
    """Which atoms of slabs are near their surfaces.

    Args:
        frames: slabs in rectangular cells, with vacuum along one edge.

    Returns:
        "surface" or "core" for each atom.
    """
    classes = []
    for frame in frames:
        height, _ = slab_heights(frame)
        near = np.minimum(height, height.max() - height) < DEPTH
        classes += [SURFACE if here else CORE for here in near]
    return classes


def slab_heights(frame: ase.Atoms) -> tuple[npt.NDArray[np.float64], int]:
    """Height of each atom over the lowest one, across the cell's boundary where need be.

    Args:
        frame: a slab in a rectangular cell, with vacuum along one edge.

    Returns:
        Heights in Å, shape (atoms,), and the edge, 0 to 2.
    """
    lengths = frame.cell.lengths()
    fractions = np.sort(frame.get_scaled_positions(), axis=0)
    gaps = np.diff(np.vstack([fractions, fractions[:1] + 1]), axis=0)
    axis = int(np.argmax(gaps.max(0) * lengths))
    start = fractions[(np.argmax(gaps[:, axis]) + 1) % len(frame), axis]
    return (frame.get_scaled_positions()[:, axis] - start) % 1.0 * lengths[axis], axis


def film_density(frame: ase.Atoms) -> float:
    """Density of a slab without its vacuum.

    Args:
        frame: as for :func:`slab_heights`.

    Returns:
        In g/cm3, between its outermost atoms.
    """
    height, axis = slab_heights(frame)
    return density(frame) * float(frame.cell.lengths()[axis] / height.max())
