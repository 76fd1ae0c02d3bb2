"""MACE potentials (Batatia et al., NeurIPS 2022, arXiv:2206.07697) of the package mace-torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ase
import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.extras import require
from torchlpr.potentials.e3nn_species import element_spans
from torchlpr.potentials.protocol import check_elements

__all__ = ["MACEPotential", "environment_kept"]

# importing mace sets it for the whole process, which lets every later torch.load run code
UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class MACEPotential(nn.Module):
    """Atomic energies of a MACE: those of isolated atoms, and scaled, shifted ones of messages.

    The isolated-atom energies E0, scale and shift are buffers of MACE and no weights: they are a
    part of the energies and take no part in rigidities. "last-layer" are the linear weights of
    the readouts that energies are sums of, "species:Si" those that act on that element alone.

    Args:
        model: a ``mace.modules.MACE`` or ``ScaleShiftMACE``, such as ``torch.load`` gives or
            ``MACECalculator(...).models[0]``, whose weights the calculator has frozen: call
            ``model.requires_grad_(True)``.
        head: name of the head, where the model has several.

    Raises:
        InputError: if it is no such model, or has no such head.
    """

    batched_gradients = True
    last_layer = ("model.readouts.*linear.weight", "model.readouts.*linear_2.weight")

    def __init__(self, model: nn.Module, head: str | None = None) -> None:
        super().__init__()
        needed = ("atomic_numbers", "r_max", "heads", "readouts", "node_embedding")
        if missing := [name for name in needed if not hasattr(model, name)]:
            raise InputError(
                f"a {type(model).__name__} is no MACE (it has no {missing[0]}); give the module "
                "that mace-torch saved, or MACECalculator(...).models[0]"
            )
        heads = list(model.heads)  # type: ignore[arg-type]
        if head is None and len(heads) > 1:
            raise InputError(f"this MACE has the heads {', '.join(heads)}; choose one by head=...")
        if head is not None and head not in heads:
            raise InputError(f"this MACE has no head {head!r}, only {', '.join(heads)}")
        self.model, self.heads, self.head = model, heads, head or heads[0]

    @property
    def types(self) -> list[int]:
        """Atomic numbers of the elements, in the order of the model."""
        return [int(z) for z in self.model.get_buffer("atomic_numbers")]

    def batch(self, structures: Sequence[ase.Atoms]) -> dict[str, Tensor]:
        """Graphs as MACE reads them, in the dtype and on the device of its weights.

        Args:
            structures: of elements that it knows.

        Returns:
            Tensors by name.
        """
        check_elements(structures, self.types, self)
        weight = next(self.model.parameters())
        with environment_kept():
            data, tools = require("mace.data", "mace"), require("mace.tools", "mace")
        table = tools.AtomicNumberTable(self.types)
        cutoff = float(self.model.get_buffer("r_max"))
        with _default_dtype(weight.dtype):
            graphs = [
                data.AtomicData.from_config(
                    data.config_from_atoms(_geometry(atoms), head_name=self.head),
                    z_table=table, cutoff=cutoff, heads=self.heads,
                )
                for atoms in structures
            ]  # fmt: skip
            joined = tools.torch_geometric.Batch.from_data_list(graphs)
        found: dict[str, Tensor] = joined.to(weight.device).to_dict()
        return found

    def local_energies(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Atomic energies in eV, E0 included, shape (atoms,)."""
        return self._forward(batch)["node_energy"]

    def energies(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Total energies in eV, shape (structures,)."""
        return self._forward(batch)["energy"]

    def species_spans(self, z: int, spans: Mapping[str, tuple[int, int]]) -> list[tuple[int, int]]:
        """Weights that act on one element alone.

        Args:
            z: atomic number.
            spans: span of every named parameter.

        Returns:
            Spans in the vector of all weights.
        """
        return element_spans(self, z, self.types, spans)

    def _forward(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        out: dict[str, Any] = self.model(dict(batch), compute_force=False)
        return out


def _geometry(atoms: ase.Atoms) -> ase.Atoms:
    """The structure without labels, which MACE would read from info and arrays."""
    return ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """MACE makes its graphs in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def environment_kept() -> Iterator[None]:
    """Import mace inside of it: how files are loaded elsewhere stays as it was."""
    before = os.environ.get(UNSAFE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(UNSAFE, None)
        else:
            os.environ[UNSAFE] = before
