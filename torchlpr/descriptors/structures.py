"""What every descriptor asks of structures, and the batch it makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.derivatives import Derivatives
from torchlpr.structures.io import energy_of, forces_of

__all__ = ["as_batch", "checked"]


def checked(
    structures: Sequence[ase.Atoms] | ase.Atoms,
    types: Sequence[int],
    name: str,
    *,
    mixed_pbc: bool = False,
) -> list[ase.Atoms]:
    """Refuse structures that a descriptor would fail at or silently get wrong.

    Args:
        structures: the structures.
        types: atomic numbers that the descriptor knows.
        name: what the descriptor is called, for the error.
        mixed_pbc: whether it can deal with structures periodic in some directions only.

    Returns:
        The structures.

    Raises:
        InputError: if there is none, or one is empty, of unknown species, not finite, flat, or of
            mixed pbc where that is not supported.
    """
    if isinstance(structures, ase.Atoms):
        raise InputError(f"{name} takes a list of structures; write {name.lower()}([atoms])")
    if not len(structures):
        raise InputError("there are no structures to describe")
    known = ", ".join(chemical_symbols[z] for z in types)
    for index, atoms in enumerate(structures):
        if foreign := sorted(set(atoms.numbers.tolist()) - set(types)):
            names = ", ".join(chemical_symbols[z] for z in foreign)
            raise InputError(
                f"structure {index} holds {names}, but the {name} has types {known}; add it to "
                "types"
            )
        if problem := _problem(atoms, mixed_pbc):
            raise InputError(f"structure {index} {problem}")
    return list(structures)


def as_batch(
    features: Tensor, structures: Sequence[ase.Atoms], derivatives: Derivatives | None = None
) -> AtomBatch:
    """Features with the species and, where every structure has one, the energies.

    Args:
        features: in the order of the structures and of their atoms, shape (atoms, features).
        structures: the structures.
        derivatives: of the features; with them come the forces of those structures that have any.

    Returns:
        The batch, on the device of the features.
    """
    counts = torch.tensor([len(atoms) for atoms in structures])
    energies = [energy_of(atoms) for atoms in structures]
    labelled = [energy for energy in energies if energy is not None]
    batch = AtomBatch.from_arrays(
        features,
        torch.from_numpy(np.concatenate([atoms.numbers for atoms in structures])).long(),
        torch.arange(len(structures)).repeat_interleave(counts),
        torch.tensor(labelled, dtype=torch.float64) if len(labelled) == len(structures) else None,
        None if derivatives is None else _forces(structures),
        derivatives,
    )
    return batch


def _forces(structures: Sequence[ase.Atoms]) -> Tensor | None:
    """Forces of all atoms, not a number where a structure has none; None where none has any."""
    found = [forces_of(atoms) for atoms in structures]
    if all(forces is None for forces in found):
        return None
    gaps = [np.full((len(atoms), 3), np.nan) for atoms in structures]
    filled = [gap if f is None else f for f, gap in zip(found, gaps, strict=True)]
    return torch.from_numpy(np.concatenate(filled))


def _problem(atoms: ase.Atoms, mixed_pbc: bool) -> str:
    """What is wrong with the geometry of a structure, if anything."""
    if not len(atoms):
        return "has no atoms; remove it"
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "has positions or a cell that are not finite"
    if not atoms.pbc.any():
        return ""
    if not atoms.pbc.all() and not mixed_pbc:
        return (
            f"is periodic in some directions only (pbc={atoms.pbc.tolist()}); "
            "set pbc=True and leave more vacuum than the cutoff"
        )
    cell = atoms.cell if atoms.pbc.all() else atoms.cell.complete()
    lengths = atoms.cell.lengths()[atoms.pbc]
    if (lengths == 0).any() or abs(cell.volume) <= 1e-6 * np.prod(cell.lengths()):
        return "is periodic, but its cell has no volume; set the cell, or pbc=False"
    return ""
