"""Which atoms belong to which species: every head keeps its species strictly apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["atoms_of_each_type", "in_atom_order", "normalise_types"]


def normalise_types(types: Iterable[int | str]) -> tuple[int, ...]:
    """Atomic numbers from atomic numbers or chemical symbols.

    Args:
        types: for example ``[14]``, ``["Si"]`` or ``["In", "P"]``.

    Returns:
        Sorted distinct atomic numbers.

    Raises:
        InputError: if a symbol is unknown or there is none.
    """
    numbers = set()
    for entry in [types] if isinstance(types, (int, str)) else types:
        number = atomic_numbers.get(entry, 0) if isinstance(entry, str) else entry
        if isinstance(number, bool) or number not in range(1, len(chemical_symbols)):
            raise InputError(f"{entry!r} is no chemical element; give symbols or atomic numbers")
        numbers.add(int(number))
    if not numbers:
        raise InputError("types is empty; name the chemical elements, for example types=['Si']")
    return tuple(sorted(numbers))


def atoms_of_each_type(types: Tensor, known: Sequence[int]) -> list[Tensor]:
    """Indices of the atoms of each known species.

    Args:
        types: atomic numbers, shape (atoms,).
        known: atomic numbers the model has parameters for.

    Returns:
        One index tensor a known species, in the order of ``known``.

    Raises:
        InputError: if an atom is of another species.
    """
    groups = [(types == z).nonzero().squeeze(1) for z in known]
    if sum(len(group) for group in groups) != len(types):
        foreign = sorted(set(types.tolist()) - set(known))
        raise InputError(
            f"the model knows {_names(known)} but the structures hold {_names(foreign)}; "
            "name every species in types and train on it"
        )
    return groups


def in_atom_order(parts: Sequence[Tensor], groups: Sequence[Tensor]) -> Tensor:
    """Put values computed species by species back into the order of the atoms.

    Out of place, so that it works under :func:`torch.func.vmap`.

    Args:
        parts: values of each species, shape (atoms of that species, ...).
        groups: their indices, as :func:`atoms_of_each_type` gives them.

    Returns:
        Values of all atoms, shape (atoms, ...).
    """
    if len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts))[torch.argsort(torch.cat(list(groups)))]


def _names(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[z] for z in numbers)
