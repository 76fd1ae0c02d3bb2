"""Structures whose derivatives lie ready for mini-batches: none of them is copied for a step.

A forward and a backward pass go through the derivatives of a mini-batch once each, and take as
long as reading them does if they lie by the environment that changes: then both are one batched
product of matrices and vectors a structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.derivatives import Derivatives

__all__ = ["CentreBlocks", "PackedBatch", "PackedStructures", "packed_bytes"]


@dataclass(frozen=True, eq=False)
class CentreBlocks:
    """Derivatives of one structure's features, environment by environment, padded with zeros.

    Attributes:
        moved: the atoms that change an environment, numbered inside the structure, shape
            (atoms, width).
        values: dx_k/dr_i in 1/Å, shape (atoms, width * 3, features).
    """

    moved: Tensor
    values: Tensor

    @classmethod
    def of(cls, derivatives: Derivatives, first: int, last: int) -> CentreBlocks:
        """Those of one structure.

        Args:
            derivatives: of all structures.
            first: its first atom.
            last: the one after its last.

        Returns:
            Its derivatives, in new memory.
        """
        pairs, n = derivatives.pairs_of(first, last), last - first
        centre, moved = derivatives.centre[pairs] - first, derivatives.moved[pairs] - first
        counts = torch.bincount(centre, minlength=n)
        width = int(counts.max()) if len(centre) else 0
        order = torch.argsort(centre, stable=True)
        starts = counts.cumsum(0) - counts
        slot = torch.empty_like(centre)
        slot[order] = torch.arange(len(centre), device=centre.device) - starts[centre[order]]
        values = derivatives.values
        target = values.new_zeros(n, width, 3, values.shape[2])
        target[centre, slot] = values[pairs]
        atoms = moved.new_zeros(n, width)
        atoms[centre, slot] = moved
        return cls(atoms, target.flatten(1, 2))

    def pull_back(self, sensitivity: Tensor) -> Tensor:
        """dE/dr, shape (atoms, 3), from dE/dx, shape (atoms, features)."""
        # the vector from the left: a product with it from the right takes five times as long
        parts = torch.bmm(sensitivity.unsqueeze(1), self.values.mT).view(-1, 3)
        out = sensitivity.new_zeros(len(sensitivity), 3)
        return out.index_add_(0, self.moved.view(-1), parts)

    def push_forward(self, moves: Tensor) -> Tensor:
        """Changes of the features, shape (atoms, features), along moves, shape (atoms, 3)."""
        chosen = moves[self.moved.view(-1)].view(len(moves), 1, -1)
        return torch.bmm(chosen, self.values).squeeze(1)


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Some packed structures.

    Attributes:
        features: shape (atoms, features).
        types: atomic numbers, shape (atoms,).
        structure: structure of each atom, shape (atoms,).
        counts: atoms of each structure, shape (structures,).
        energies: total energies in eV, shape (structures,).
        forces: in eV/Å, shape (atoms, 3); what stands in a structure without blocks has no
            meaning.
        sizes: atoms of each structure, as numbers.
        blocks: derivatives of each structure, None where it has no forces.
    """

    features: Tensor
    types: Tensor
    structure: Tensor
    counts: Tensor
    energies: Tensor
    forces: Tensor
    sizes: list[int]
    blocks: list[CentreBlocks | None]

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self.sizes)


class PackedStructures:
    """A training or validation set with energies, forces and derivatives, ready for any batch.

    Args:
        batch: all structures, the atoms of each consecutive and in order.
    """

    def __init__(self, batch: AtomBatch) -> None:
        assert batch.derivatives is not None
        assert batch.forces is not None
        self.counts, self.energies = batch.counts, batch.labels()
        self.sizes: list[int] = self.counts.tolist()
        self.parts = [
            (whole[:0], whole.split(self.sizes) if self.sizes else ())
            for whole in (batch.features, batch.types, batch.forces)
        ]
        self.blocks, first = list[CentreBlocks | None](), 0
        for size, known in zip(self.sizes, batch.has_forces.tolist(), strict=True):
            last = first + size
            blocks = CentreBlocks.of(batch.derivatives, first, last) if known else None
            self.blocks.append(blocks)
            first = last

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.sizes)

    def take(self, structures: Sequence[int]) -> PackedBatch:
        """Some structures, in the given order.

        Args:
            structures: their indices.

        Returns:
            The batch; derivatives are not copied.
        """
        chosen = list(structures)
        index = torch.tensor(chosen, dtype=torch.int64, device=self.counts.device)
        counts = self.counts[index]
        features, types, forces = (
            torch.cat([parts[k] for k in chosen]) if chosen else none for none, parts in self.parts
        )
        return PackedBatch(
            features,
            types,
            torch.repeat_interleave(torch.arange(len(chosen), device=index.device), counts),
            counts,
            self.energies[index],
            forces,
            [self.sizes[k] for k in chosen],
            [self.blocks[k] for k in chosen],
        )


def packed_bytes(batch: AtomBatch) -> int | None:
    """Memory that packing a batch takes.

    Args:
        batch: the structures.

    Returns:
        Bytes of the packed derivatives, or None where the batch cannot be packed: without energies,
        forces or derivatives, or with atoms that are not in the order of their structures.
    """
    derivatives = batch.derivatives
    if derivatives is None or batch.forces is None or batch.energies is None:
        return None
    if bool((batch.structure[1:] < batch.structure[:-1]).any()):
        return None
    neighbours = torch.bincount(derivatives.centre, minlength=len(batch))
    widest = torch.zeros_like(batch.counts)
    widest.scatter_reduce_(0, batch.structure, neighbours, "amax")
    widest = widest * batch.has_forces
    pairs = int((batch.counts * widest).sum())
    return pairs * 3 * derivatives.values.shape[2] * derivatives.values.element_size()
