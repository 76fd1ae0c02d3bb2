"""Positions, cells and the neighbours within a cutoff: what a differentiable descriptor reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from torchlpr.descriptors.hypers import check_length
from torchlpr.errors import InputError

__all__ = ["Geometry"]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Several structures as tensors; features are differentiable in positions and cells.

    Attributes:
        positions: in Å, shape (atoms, 3).
        cells: rows are lattice vectors in Å, zero where there is none, shape (structures, 3, 3).
        types: atomic numbers, shape (atoms,).
        structure: structure that each atom belongs to, shape (atoms,).
        first: centre of each pair, in ascending order, shape (pairs,); every pair occurs twice,
            once for each of its atoms as the centre.
        second: neighbour of each pair, shape (pairs,).
        shifts: how many lattice vectors separate the neighbour's image from the neighbour,
            whole numbers in the dtype of the positions, shape (pairs, 3).
        cutoff: largest distance of a pair in Å.
    """

    positions: Tensor
    cells: Tensor
    types: Tensor
    structure: Tensor
    first: Tensor
    second: Tensor
    shifts: Tensor
    cutoff: float

    @classmethod
    def from_structures(
        cls,
        structures: Sequence[ase.Atoms],
        cutoff: float,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Geometry:
        """Find the neighbours of all atoms, periodic images included.

        Args:
            structures: at least one; directions without periodicity need no lattice vector.
            cutoff: largest distance of a pair in Å.
            dtype: of positions and cells.
            device: of all tensors; the neighbours are found on the CPU, in float64.

        Returns:
            The geometry; set ``requires_grad_()`` on its positions or cells to differentiate.

        Raises:
            InputError: if two atoms are at the same place, where nothing is differentiable.
        """
        finder = NeighborList(cutoff=check_length("cutoff", cutoff), full_list=True, sorted=True)
        pairs: list[tuple[np.ndarray, ...]] = []
        offset = 0
        for index, atoms in enumerate(structures):
            i, j, shift, distance = finder.compute(
                np.ascontiguousarray(atoms.positions),
                np.ascontiguousarray(atoms.cell.complete().array),
                np.asarray(atoms.pbc),
                "ijSd",
            )
            if len(distance) and distance.min() < 1e-8:
                k = int(distance.argmin())
                raise InputError(
                    f"atoms {i[k]} and {j[k]} of structure {index} are at the same place; "
                    "remove one of them"
                )
            pairs.append((i.astype(np.int64) + offset, j.astype(np.int64) + offset, shift))
            offset += len(atoms)
        first, second, shifts = (np.concatenate(part) for part in zip(*pairs, strict=True))
        # the vectors of directions that are not periodic take no part: no shift reaches them
        cells = np.stack([atoms.cell.array for atoms in structures])
        counts = [len(atoms) for atoms in structures]
        return cls(
            torch.from_numpy(np.concatenate([atoms.positions for atoms in structures])),
            torch.from_numpy(cells),
            torch.from_numpy(np.concatenate([atoms.numbers for atoms in structures])).long(),
            torch.arange(len(structures)).repeat_interleave(torch.tensor(counts)),
            torch.from_numpy(first),
            torch.from_numpy(second),
            torch.from_numpy(shifts).to(torch.float64),
            float(cutoff),
        ).to(device, dtype)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Geometry:
        """Move to a device and a floating-point dtype.

        Args:
            device: target device, None keeps it.
            dtype: dtype of positions, cells and shifts, None keeps it.

        Returns:
            The moved geometry.
        """
        floating = {n: getattr(self, n).to(device, dtype) for n in ("positions", "cells", "shifts")}
        whole = {n: getattr(self, n).to(device) for n in ("types", "structure", "first", "second")}
        return replace(self, **floating, **whole)

    def vectors(self) -> Tensor:
        """From the centre to the neighbour of each pair in Å, shape (pairs, 3)."""
        cells = self.cells[self.structure[self.first]]
        images = torch.einsum("pa,pax->px", self.shifts, cells)  # [pair, axis of the cell, x]
        return self.positions[self.second] - self.positions[self.first] + images

    def triplets(self) -> tuple[Tensor, Tensor]:
        """Two pairs of the same centre, each combination once.

        Returns:
            Index of the one pair and of the other, shape (triplets,) each.
        """
        counts = torch.bincount(self.first, minlength=len(self.types))
        pairs = torch.arange(len(self.first), device=self.first.device)
        # pairs are sorted by centre: a pair goes with those behind it up to the centre's last
        behind = counts.cumsum(0)[self.first] - pairs - 1
        one = pairs.repeat_interleave(behind)
        begin = (behind.cumsum(0) - behind).repeat_interleave(behind)
        return one, one + 1 + torch.arange(len(one), device=one.device) - begin
