"""A copy of a potential that is differentiated: rows of structures, gradients of atoms."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import ase
import torch
from torch import Tensor, nn

from torchlpr.bars import bar
from torchlpr.curvature.factor import check_finite
from torchlpr.errors import InputError
from torchlpr.potentials.memory import PotentialMemory, predict_potential_memory
from torchlpr.potentials.protocol import (
    Potential,
    check_elements,
    check_energies,
    check_potential,
    energies_of,
)
from torchlpr.potentials.weights import Weights

__all__ = ["Derivatives", "checked_structures"]


class Derivatives:
    """Derivatives of energies by the chosen weights, from a copy in evaluation mode.

    Args:
        potential: stays as it is.
        parameters: the weights that count, see :func:`torchlpr.curvature.parameter_subset`.
        dtype: in which the copy runs; None leaves the potential's own.
        progress: whether to show bars; None for those of more than two seconds.

    Attributes:
        weights: the weights that count.
        device: that of the potential.

    Raises:
        InputError: if the potential or the choice of weights will not do.
    """

    def __init__(
        self,
        potential: Potential,
        parameters: str | Sequence[str] = "all",
        dtype: torch.dtype | None = torch.float64,
        progress: bool | None = None,
    ) -> None:
        check_potential(potential)
        if dtype is not None and not dtype.is_floating_point:
            raise InputError(
                f"dtype must be one of real numbers, such as torch.float64, not {dtype}"
            )
        assert isinstance(potential, nn.Module)  # checked
        self.weights, self.progress = Weights(potential, parameters), progress
        mine = copy.deepcopy(potential).eval()
        self.module: nn.Module = mine if dtype is None else mine.to(dtype)
        self.weights.freeze_others(self.module)
        self.device = next(self.module.parameters()).device

    @property
    def potential(self) -> Potential:
        """The copy."""
        assert isinstance(self.module, Potential)
        return self.module

    def memory(
        self, n_rows: int, structures: Sequence[ase.Atoms], limit: int, n_atoms: int = 0
    ) -> PotentialMemory:
        """See :func:`torchlpr.potentials.memory.predict_potential_memory`."""
        sizes = structures, limit, n_atoms
        return predict_potential_memory(self.potential, self.weights, n_rows, *sizes)

    def rows(self, structures: Sequence[ase.Atoms], scale: Tensor, first: int = 0) -> Tensor:
        """Scaled gradients of the energies of structures, one backward pass each.

        Args:
            structures: checked ones.
            scale: factor of each, shape (structures,).
            first: number of the first one, for errors.

        Returns:
            Shape (structures, P), float64.
        """
        size = len(structures), len(self.weights)
        rows = torch.empty(size, dtype=torch.float64, device=self.device)
        with bar(len(structures), "rows", "structure", self.progress) as shown:
            for index, atoms in enumerate(structures):
                local = energies_of(self.potential, atoms, first + index)
                if not first + index:
                    check_energies(self.potential, atoms, local, index)
                out = rows[index : index + 1]
                self.weights.gradients(self.module, local.sum()[None], out)
                out.mul_(float(scale[index]))
                del local  # one graph at a time
                shown.update()
        return check_finite("row", rows)

    def gradients(self, structures: Sequence[ase.Atoms], chunk: int) -> Iterator[Tensor]:
        """Gradients of atomic energies, atom after atom.

        Args:
            structures: checked ones.
            chunk: gradients at a time.

        Yields:
            Shape (up to chunk, P), float64, which the next ones overwrite.
        """
        out = torch.empty(chunk, len(self.weights), dtype=torch.float64, device=self.device)
        filled, batched = 0, getattr(self.potential, "batched_gradients", False)
        with bar(sum(map(len, structures)), "gradients", "atom", self.progress) as shown:
            for index, atoms in enumerate(structures):
                local, done = energies_of(self.potential, atoms, index), 0
                while done < len(atoms):
                    step = min(len(atoms) - done, chunk - filled) if batched else 1
                    part, energies = out[filled : filled + step], local[done : done + step]
                    self.weights.gradients(self.module, energies, part, batched)
                    filled, done = filled + step, done + step
                    shown.update(step)
                    if filled == chunk:
                        yield out
                        filled = 0
                del local, energies  # one graph at a time
        if filled:
            yield out[:filled]


def checked_structures(
    structures: Sequence[ase.Atoms] | ase.Atoms, potential: Potential
) -> list[ase.Atoms]:
    """Refuse structures that a potential cannot take, before any work.

    Args:
        structures: the structures.
        potential: its ``types`` count, where it has them.

    Returns:
        The structures.

    Raises:
        InputError: naming the structure.
    """
    if isinstance(structures, ase.Atoms):
        raise InputError("a list of structures is needed; write [atoms]")
    if not len(structures):
        raise InputError("there are no structures")
    for index, atoms in enumerate(structures):
        if not len(atoms):
            raise InputError(f"structure {index} has no atoms; leave it out")
    if (types := getattr(potential, "types", None)) is not None:
        check_elements(structures, types, potential)
    return list(structures)
