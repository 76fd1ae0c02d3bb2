"""The closest two atoms of a structure, periodic images included, in a time linear in atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from ase.neighborlist import primitive_neighbor_list
from numpy.typing import NDArray

__all__ = ["MIN_DISTANCE", "closest_pair", "heights"]

MIN_DISTANCE = 0.3  # Angstrom, far below any bond: such a pair is a duplicate or a broken cell


def heights(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between opposite faces of a cell in Angstrom, shape (3,); zeros if it is flat."""
    volume = abs(float(np.linalg.det(cell)))
    faces = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    return volume / faces if faces.all() else np.zeros(3)


def closest_pair(atoms: Atoms) -> tuple[int, int, float] | None:
    """Closest pair of atoms, if closer than MIN_DISTANCE: indices and distance in Angstrom."""
    cell, periodic = atoms.cell.array, bool(atoms.pbc.all())
    if periodic and heights(cell).min() <= 2 * MIN_DISTANCE:
        # a sheared cell of an ordinary lattice, which a neighbour list would search for minutes
        cell = minkowski_reduce(cell)[0]
        shortest = float(np.linalg.norm(cell, axis=1).min())
        if shortest < MIN_DISTANCE:
            return 0, 0, shortest
        if heights(cell).min() <= 2 * MIN_DISTANCE:
            return _closest(
                primitive_neighbor_list("ijd", atoms.pbc, cell, atoms.positions, MIN_DISTANCE)
            )
    return _closest(_sweep(atoms.positions, cell if periodic else None))


def _closest(pairs: Sequence[NDArray[Any]]) -> tuple[int, int, float] | None:
    """Closest of pairs given as first atoms, second atoms and distances, if too close."""
    first, second, distances = pairs
    if not distances.size or distances.min() >= MIN_DISTANCE:
        return None
    k = int(distances.argmin())
    i, j = sorted((int(first[k]), int(second[k])))
    return i, j, float(distances[k])


def _sweep(
    positions: NDArray[np.float64], cell: NDArray[np.float64] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Pairs of atoms that are close along one axis.

    Atoms are sorted along the axis and compared with their 1st, 2nd, ... successor until none is
    within reach. Rounding finds the image to compare with: it is exact for the pairs looked for
    where every height of the cell exceeds twice their distance.

    Args:
        positions: in Angstrom, shape (atoms, 3).
        cell: periodic cell in Angstrom, shape (3, 3), or None.

    Returns:
        First atoms, second atoms and distances in Angstrom, each of shape (pairs,).
    """
    if cell is None:
        key = positions[:, np.ptp(positions, axis=0).argmax()]
        reach = MIN_DISTANCE
    else:
        inverse, height = np.linalg.inv(cell), heights(cell)
        key = (positions @ inverse)[:, height.argmax()] % 1.0
        reach = MIN_DISTANCE / height.max() + 1e-9
    order = np.argsort(key)
    key = key[order]
    first, second, distances = [], [], []
    for step in range(1, len(order)):
        gap = np.roll(key, -step) - key
        near = np.flatnonzero((gap % 1.0 if cell is not None else abs(gap)) <= reach)
        if near.size == 0:
            break
        i, j = order[near], order[(near + step) % len(order)]
        vectors = positions[j] - positions[i]
        if cell is not None:
            vectors -= np.round(vectors @ inverse) @ cell
        first.append(i)
        second.append(j)
        distances.append(np.linalg.norm(vectors, axis=1))
    none = [np.empty(0)]
    return (
        np.concatenate(first or none),
        np.concatenate(second or none),
        np.concatenate(distances or none),
    )
