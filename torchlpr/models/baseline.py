"""Composition baseline: a constant energy for each species, fixed before training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.species import atoms_of_each_type, normalise_types

__all__ = ["CompositionBaseline"]


class CompositionBaseline(nn.Module):
    r"""Sum of one constant energy for each species.

    .. math:: E^0_A = \sum_z N_z(A) \, e_z

    The constants are fixed, not trained with the model: rigidity takes them as known. Where all
    training structures share one composition the split between species is a convention (the
    shortest solution is taken); totals do not depend on it.

    Args:
        types: atomic numbers or symbols of the species.
        energies: constants in eV in the order of the sorted atomic numbers, zeros by default.
    """

    energies: Tensor

    def __init__(self, types: Iterable[int | str], energies: Iterable[float] | None = None) -> None:
        super().__init__()
        self.types = normalise_types(types)
        constants = [0.0] * len(self.types) if energies is None else list(energies)
        self.register_buffer("energies", torch.tensor(constants, dtype=torch.float64))

    @classmethod
    def fit(cls, batch: AtomBatch, types: Iterable[int | str] | None = None) -> CompositionBaseline:
        """Least squares of the energies per atom on the composition.

        Args:
            batch: structures with energies.
            types: species to know, those of the batch by default.

        Returns:
            The fitted baseline.
        """
        known = normalise_types(batch.types.unique().tolist() if types is None else types)
        baseline = cls(known)
        counts = baseline.counts(batch)  # [structure, species]
        n = counts.sum(1, keepdim=True)
        target = batch.labels().to(counts).unsqueeze(1) / n
        solution = torch.linalg.lstsq(counts / n, target, driver="gelsd" if n.is_cpu else None)
        baseline.energies = solution.solution.squeeze(1)
        return baseline

    def counts(self, batch: AtomBatch) -> Tensor:
        """Number of atoms of each species in each structure, shape (structures, species)."""
        groups = atoms_of_each_type(batch.types, self.types)
        columns = [
            torch.bincount(batch.structure[group], minlength=batch.n_structures) for group in groups
        ]
        return torch.stack(columns, dim=1).to(torch.float64)

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """The constant of each atom in eV, shape (atoms,); features play no part."""
        local = features.new_zeros(len(types))
        for energy, group in zip(self.energies, atoms_of_each_type(types, self.types), strict=True):
            local[group] = energy.to(local)
        return local

    def totals(self, batch: AtomBatch) -> Tensor:
        """Baseline energy of each structure in eV, shape (structures,)."""
        return self.counts(batch) @ self.energies

    def subtract(self, batch: AtomBatch) -> AtomBatch:
        """The batch with the baseline taken off its energies (no energies: unchanged)."""
        if batch.energies is None:
            return batch
        return replace(batch, energies=batch.energies - self.totals(batch).to(batch.energies))
