"""Energies and forces that a structure carries, whoever computed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from torchlpr.errors import InputError

__all__ = [
    "as_energy",
    "as_forces",
    "energy_keys",
    "energy_of",
    "forces_keys",
    "forces_of",
    "require_energies",
    "require_forces",
    "results_of",
]


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
