"""What a structure must satisfy before it is described: one sentence for every way it fails."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from torchlpr.errors import InputError
from torchlpr.structures.closest_pair import MIN_DISTANCE, closest_pair, heights
from torchlpr.structures.labels import energy_of, forces_of, require_energies

__all__ = ["validate"]

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
    if atoms.pbc.all() and not heights(cell).min() > MIN_HEIGHT:
        raise InputError(
            f"{where} is periodic but its cell {cell.tolist()} has no volume; give the cell or "
            "set pbc=False"
        )


def _check_distances(atoms: Atoms, where: str) -> None:
    """Refuse two atoms, or an atom and its own image, that are closer than MIN_DISTANCE."""
    pair = closest_pair(atoms)
    if pair is not None:
        i, j, distance = pair
        raise InputError(
            f"{where} has atoms {i} and {j} only {distance:.3g} Angstrom apart (periodic images "
            f"counted, at least {MIN_DISTANCE} needed); remove the duplicate or mend the cell"
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
