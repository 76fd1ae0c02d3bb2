"""What a potential must be able to do: two methods, and what it may tell beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import ase
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from torchlpr.errors import InputError

__all__ = ["Potential", "check_elements", "check_energies", "check_potential", "energies_of"]

# how far atomic energies may miss the total, relative to the sum of their sizes
SUM_ERROR = {torch.float64: 1e-9, torch.float32: 1e-4}


@runtime_checkable
class Potential(Protocol):
    """Any ``torch.nn.Module`` with these two methods.

    An atomic energy may depend on as many atoms as it likes (message passing). A module may tell
    more, each of which is optional:

    - ``types``: atomic numbers of the elements that it knows, for checks before any work;
    - ``energies(batch)``: total energies in eV, shape (structures,), as the package computes them;
      then the atomic energies are checked against them;
    - ``last_layer``: patterns for the names of the parameters that "last-layer" means;
    - ``species_spans(z, spans)``: spans of the weights of element z in the vector of all, given
      the span of every named parameter; that is what "species:Si" means;
    - ``batched_gradients``: True where ``torch.autograd.grad(..., is_grads_batched=True)`` works
      and is faster than one backward pass after the other.
    """

    def batch(self, structures: Sequence[ase.Atoms]) -> Any:
        """What :meth:`local_energies` takes, in the dtype and on the device of the parameters."""

    def local_energies(self, batch: Any) -> Tensor:
        """Atomic energies in eV, shape (atoms of all structures,), with a graph to parameters."""


def check_potential(potential: object) -> None:
    """Refuse what is no potential.

    Args:
        potential: anything.

    Raises:
        InputError: if it is no module, lacks a method, or has a parameter that is not finite.
    """
    name = type(potential).__name__
    if not isinstance(potential, nn.Module) or not isinstance(potential, Potential):
        raise InputError(
            f"a {name} is no potential: it must be a torch.nn.Module with the methods "
            "batch(structures) and local_energies(batch), see torchlpr.potentials.Potential"
        )
    if not any(True for _ in potential.parameters()):
        raise InputError(f"{name} has no parameters, so nothing has a gradient")
    for label, parameter in potential.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(f"parameter {label!r} of the {name} is not finite; load it again")


def check_elements(
    structures: Sequence[ase.Atoms], types: Collection[int], potential: object
) -> None:
    """Refuse elements that a potential was not made for.

    Args:
        structures: the structures.
        types: atomic numbers that the potential knows.
        potential: named in the error.

    Raises:
        InputError: naming the first structure with another element.
    """
    known = {int(z) for z in types}
    for index, atoms in enumerate(structures):
        if unknown := sorted(set(atoms.numbers.tolist()) - known):
            names = ", ".join(chemical_symbols[z] for z in unknown)
            most = ", ".join(chemical_symbols[z] for z in sorted(known)[:10])
            raise InputError(
                f"structure {index} holds {names}, which this {type(potential).__name__} does not "
                f"know (it knows {most}{', ...' if len(known) > 10 else ''}); leave it out"
            )


def energies_of(potential: Potential, atoms: ase.Atoms, index: int) -> Tensor:
    """Atomic energies of one structure, checked.

    Args:
        potential: the potential.
        atoms: the structure.
        index: its number, for errors.

    Returns:
        Shape (atoms,), eV, with its graph.

    Raises:
        InputError: if they are not finite, not one for each atom, or not derived from weights.
    """
    name = type(potential).__name__
    with torch.enable_grad():
        local = potential.local_energies(potential.batch([atoms]))
    if not isinstance(local, Tensor) or tuple(local.shape) != (len(atoms),):
        shape = tuple(local.shape) if isinstance(local, Tensor) else type(local).__name__
        raise InputError(
            f"{name}.local_energies gives {shape} for structure {index} of {len(atoms)} atoms; it "
            f"must give one energy for each atom, shape ({len(atoms)},)"
        )
    if not bool(torch.isfinite(local).all()):
        atom = int((~torch.isfinite(local)).nonzero()[0])
        raise InputError(
            f"{name} gives the energy {float(local[atom].detach())} for atom {atom} of structure "
            f"{index}; mend that structure or leave it out"
        )
    if not local.requires_grad:
        raise InputError(
            f"the atomic energies of {name} have no graph to the parameters asked for; see that "
            "local_energies neither detaches them nor runs without gradients"
        )
    return local


def check_energies(potential: Potential, atoms: ase.Atoms, local: Tensor, index: int) -> None:
    """Compare the sum of atomic energies with the total, where the potential tells one.

    Args:
        potential: the potential.
        atoms: one structure.
        local: its atomic energies, shape (atoms,).
        index: its number, for the error.

    Raises:
        InputError: if they disagree beyond rounding.
    """
    total = getattr(potential, "energies", None)
    if total is None:
        return
    with torch.no_grad():
        whole = float(total(potential.batch([atoms])).reshape(-1)[0])
    parts = local.detach().to(torch.float64)
    allowed = SUM_ERROR.get(next(_parameters(potential)).dtype, 1e-2)
    if not abs(float(parts.sum()) - whole) <= allowed * max(1e-3, float(parts.abs().sum())):
        raise InputError(
            f"the atomic energies of structure {index} add up to {float(parts.sum()):.6f} eV, but "
            f"{type(potential).__name__} gives it {whole:.6f} eV; take out what is no sum over "
            "atoms, or add its share to each atom"
        )


def _parameters(potential: object) -> Iterator[nn.Parameter]:
    assert isinstance(potential, nn.Module)
    return potential.parameters()
