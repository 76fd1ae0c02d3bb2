"""What a structure must satisfy before it is described: one sentence for every way it fails."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import minkowski_reduce
from ase.neighborlist import primitive_neighbor_list
from numpy.typing import NDArray

from torchlpr.errors import InputError

__all__ = [
    "energy_of",
    "forces_of",
    "require_energies",
    "require_forces",
    "results_of",
    "validate",
]

MIN_DISTANCE = 0.3  # Angstrom, far below any bond: such a pair is a duplicate or a broken cell
MIN_HEIGHT = 0.01  # Angstrom between opposite faces, below which a cell counts as flat


def validate(
    structures: Sequence[Atoms],
    source: str,
    *,
    types: Collection[int] | None = None,
    require_energy: bool = False,
) -> None:
    """Refuse structures that no descriptor or fit can use.

    Args:
        structures: the structures to look at.
        source: name of their origin, for the error; a file name as a rule.
        types: atomic numbers that may occur, None allows every element.
        require_energy: every structure must have an energy.

    Raises:
        InputError: for no structures or no atoms, positions or cells that are not finite, a flat
            periodic cell, mixed periodicity, atoms closer than 0.3 Angstrom (periodic images
            included), elements outside ``types``, and energies or forces that are not finite, of
            the wrong shape, or there for some structures only.
    """
    if len(structures) == 0:
        raise InputError(f"{source} holds no structures; check the file and the index")
    labelled: list[tuple[bool, bool]] = []
    for i, atoms in enumerate(structures):
        where = f"structure {i} of {source}"
        _check_cell(atoms, where)
        _check_distances(atoms, where)
        _check_types(atoms, where, types)
        labelled.append(_check_labels(atoms, where))
    if require_energy:
        require_energies(structures, source)
    for label, found in zip(("energy", "forces"), zip(*labelled, strict=True), strict=True):
        if any(found) and not all(found):
            raise InputError(
                f"structure {found.index(False)} of {source} has no {label} while structure "
                f"{found.index(True)} has; label all of them or read with {label}_key=None"
            )


def results_of(atoms: Atoms) -> dict[str, Any]:
    """Calculator results that belong to the present geometry.

    Args:
        atoms: a structure, with or without a calculator.

    Returns:
        The results by ASE's names; empty if there is no calculator, if it has not run, or if the
        structure was changed since (its energy would be that of another geometry).
    """
    results = getattr(atoms.calc, "results", None)
    if not results or atoms.calc.check_state(atoms):
        return {}
    return dict(results)


def energy_of(atoms: Atoms) -> float | None:
    """Total energy that a structure carries; nothing is calculated.

    Args:
        atoms: a structure, as :func:`torchlpr.structures.io.read` returns it or labelled by hand
            in ``atoms.info["energy"]`` or with a calculator that has run.

    Returns:
        Total energy in eV, or None if there is none for this geometry.

    Raises:
        InputError: if what is stored as the energy is not one number.
    """
    value = atoms.info.get("energy", results_of(atoms).get("energy"))
    return None if value is None else as_energy(value)


def forces_of(atoms: Atoms) -> NDArray[np.float64] | None:
    """Forces that a structure carries; nothing is calculated.

    Args:
        atoms: as for :func:`energy_of`, with the forces in ``atoms.arrays["forces"]`` or in the
            calculator.

    Returns:
        Forces in eV/Angstrom, shape (atoms, 3), or None if there are none for this geometry.

    Raises:
        InputError: if what is stored as the forces has another shape or is not numeric.
    """
    value = atoms.arrays.get("forces", results_of(atoms).get("forces"))
    return None if value is None else as_forces(value, len(atoms))


def require_energies(structures: Sequence[Atoms], source: str) -> None:
    """Refuse structures without energies, as training must.

    Args:
        structures: the structures to train on.
        source: name of their origin, for the error.

    Raises:
        InputError: if a structure has no energy; the sentence lists the keys that are there.
    """
    for i, atoms in enumerate(structures):
        if energy_of(atoms) is None:
            raise InputError(
                f"structure {i} of {source} has no energy, which training needs; read it with "
                f"the right energy_key (numbers found: {', '.join(energy_keys([atoms])) or 'none'})"
            )


def require_forces(structures: Sequence[Atoms], source: str) -> None:
    """Refuse structures without forces, as training on forces must.

    Args:
        structures: the structures to train on.
        source: name of their origin, for the error.

    Raises:
        InputError: if a structure has no forces; the sentence lists the keys that are there.
    """
    for i, atoms in enumerate(structures):
        if forces_of(atoms) is None:
            there = ", ".join(forces_keys([atoms])) or "none"
            raise InputError(
                f"structure {i} of {source} has no forces, which force_weight needs; read it with "
                f"the right forces_key (arrays of three numbers an atom found: {there}), or set "
                "force_weight to 0"
            )


def as_energy(value: object) -> float:
    """One number out of what a file stored as an energy.

    Args:
        value: a number, or an array that holds one.

    Returns:
        The energy in the unit of the file, eV by convention.

    Raises:
        InputError: for anything else; a bare key in extxyz reads as True, which is no energy.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise InputError(f"the energy {value!r} is not one number; give the total energy in eV")
    return float(array.reshape(()))


def as_forces(value: object, n_atoms: int) -> NDArray[np.float64]:
    """Forces out of what a file stored as forces.

    Args:
        value: an array of shape (atoms, 3).
        n_atoms: number of atoms of the structure.

    Returns:
        Forces, shape (atoms, 3), in the unit of the file, eV/Angstrom by convention.

    Raises:
        InputError: if the shape is another one or the array is not numeric.
    """
    array = np.asarray(value)
    if array.shape != (n_atoms, 3) or array.dtype.kind not in "iuf":
        raise InputError(
            f"the forces have shape {array.shape} and dtype {array.dtype}; give numbers of shape "
            f"({n_atoms}, 3) in eV/Angstrom"
        )
    return array.astype(np.float64)


def energy_keys(structures: Sequence[Atoms]) -> list[str]:
    """Names under which structures hold one number, candidates for an ``energy_key``.

    Args:
        structures: the structures to look at.

    Returns:
        Sorted names of info entries and calculator results.
    """
    return sorted({
        key
        for atoms in structures
        for key, value in {**atoms.info, **results_of(atoms)}.items()
        if np.size(value) == 1 and np.asarray(value).dtype.kind in "iuf"
    })


def forces_keys(structures: Sequence[Atoms]) -> list[str]:
    """Names under which structures hold three numbers an atom, candidates for a ``forces_key``.

    Args:
        structures: the structures to look at.

    Returns:
        Sorted names of arrays and calculator results.
    """
    return sorted({
        key
        for atoms in structures
        for key, value in {**atoms.arrays, **results_of(atoms)}.items()
        if key != "positions" and np.shape(value) == (len(atoms), 3)
    })


def _check_cell(atoms: Atoms, where: str) -> None:
    """Refuse no atoms, values that are not finite, mixed periodicity and flat cells."""
    if len(atoms) == 0:
        raise InputError(f"{where} has no atoms; leave it out")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if bad.size:
        raise InputError(
            f"{where} has the position {atoms.positions[bad[0]].tolist()} for atom {bad[0]}, "
            "which is not finite; mend or leave out the structure"
        )
    cell = atoms.cell.array
    if not np.isfinite(cell).all():
        raise InputError(f"{where} has the cell {cell.tolist()}, which is not finite; mend it")
    if atoms.pbc.any() and not atoms.pbc.all():
        raise InputError(
            f"{where} has mixed periodicity pbc={atoms.pbc.tolist()}, which the descriptors "
            "refuse; set pbc=True and leave vacuum in the cell along the open directions"
        )
    if atoms.pbc.all() and not _heights(cell).min() > MIN_HEIGHT:
        raise InputError(
            f"{where} is periodic but its cell {cell.tolist()} has no volume; give the cell or "
            "set pbc=False"
        )


def _heights(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between opposite faces of a cell in Angstrom, shape (3,); zeros if it is flat."""
    volume = abs(float(np.linalg.det(cell)))
    faces = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    return volume / faces if faces.all() else np.zeros(3)


def _check_distances(atoms: Atoms, where: str) -> None:
    """Refuse two atoms, or an atom and its own image, that are closer than MIN_DISTANCE."""
    pair = _closest_pair(atoms)
    if pair is not None:
        i, j, distance = pair
        raise InputError(
            f"{where} has atoms {i} and {j} only {distance:.3g} Angstrom apart (periodic images "
            f"counted, at least {MIN_DISTANCE} needed); remove the duplicate or mend the cell"
        )


def _closest_pair(atoms: Atoms) -> tuple[int, int, float] | None:
    """Closest pair of atoms, if closer than MIN_DISTANCE: indices and distance in Angstrom."""
    cell, periodic = atoms.cell.array, bool(atoms.pbc.all())
    if periodic and _heights(cell).min() <= 2 * MIN_DISTANCE:
        # a sheared cell of an ordinary lattice, which a neighbour list would search for minutes
        cell = minkowski_reduce(cell)[0]
        shortest = float(np.linalg.norm(cell, axis=1).min())
        if shortest < MIN_DISTANCE:
            return 0, 0, shortest
        if _heights(cell).min() <= 2 * MIN_DISTANCE:
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
        inverse, heights = np.linalg.inv(cell), _heights(cell)
        key = (positions @ inverse)[:, heights.argmax()] % 1.0
        reach = MIN_DISTANCE / heights.max() + 1e-9
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


def _check_types(atoms: Atoms, where: str, types: Collection[int] | None) -> None:
    """Refuse elements outside the given ones."""
    if types is None:
        return
    unknown = sorted(set(atoms.numbers.tolist()) - {int(z) for z in types})
    if unknown:
        known = ", ".join(f"{chemical_symbols[z]} ({z})" for z in sorted(int(z) for z in types))
        raise InputError(
            f"{where} holds {chemical_symbols[unknown[0]]} (atomic number {unknown[0]}), which "
            f"is not among the types {known}; add it to the types or leave the structure out"
        )


def _check_labels(atoms: Atoms, where: str) -> tuple[bool, bool]:
    """Refuse energies and forces that are unusable; True for each of the two that is there."""
    try:
        energy, forces = energy_of(atoms), forces_of(atoms)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if energy is not None and not np.isfinite(energy):
        raise InputError(
            f"{where} has the energy {energy}, which is not finite; leave it out or label it anew"
        )
    if forces is not None and not np.isfinite(forces).all():
        atom = int(np.flatnonzero(~np.isfinite(forces).all(axis=1))[0])
        raise InputError(
            f"{where} has the forces {forces[atom].tolist()} on atom {atom}, which are not "
            "finite; leave it out or label it anew"
        )
    return energy is not None, forces is not None
