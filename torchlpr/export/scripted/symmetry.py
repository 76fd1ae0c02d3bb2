"""Symmetry functions inside TorchScript, from the neighbours an engine finds, differentiable."""
# ruff: noqa: UP006, UP035, UP045 (metatomic compares signatures with these very types)

import math
from typing import List, Optional

import torch
from metatensor.torch import Labels
from metatomic.torch import NeighborListOptions, System
from torch import Tensor, nn

from torchlpr.descriptors.symmetry import SymmetryFunctions

__all__ = ["ScriptedSymmetryFunctions"]


class ScriptedSymmetryFunctions(nn.Module):
    """G2, G4 and G5 of the atoms that are asked for, scaled as the descriptor scales them.

    Args:
        functions: the descriptor.
    """

    types: Tensor
    radial: Tensor
    angular: Tensor
    scaling: Tensor

    def __init__(self, functions: SymmetryFunctions) -> None:
        super().__init__()
        self.cutoff, n = functions.cutoff, functions.n_features
        self.options = NeighborListOptions(
            cutoff=functions.cutoff, full_list=True, strict=True, requestor="torchlpr"
        )
        self.register_buffer("types", torch.tensor(functions.types))
        radial = torch.tensor(functions.g2, dtype=torch.float64).reshape(-1, 2)
        self.register_buffer("radial", radial)  # eta, R_s
        # eta, zeta, lambda, and whether the distance between the neighbours counts
        angular = [(*g, 1.0) for g in functions.g4] + [(*g, 0.0) for g in functions.g5]
        self.register_buffer("angular", torch.tensor(angular, dtype=torch.float64).reshape(-1, 4))
        scaling = functions.scaling
        shift = [0.0] * n if scaling is None else list(scaling.shift)
        width = [1.0] * n if scaling is None else list(scaling.width)
        self.register_buffer("scaling", torch.tensor([shift, width], dtype=torch.float64))

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        """What the engine has to find: every pair from both its ends."""
        return [self.options]

    def forward(self, systems: List[System], samples: Tensor, selected: Optional[Labels]) -> Tensor:
        """Features of atoms.

        Args:
            systems: with the neighbours that were asked for.
            samples: system and atom of each row, shape (atoms, 2).
            selected: the same as labels where it is not every atom.

        Returns:
            Shape (atoms, features).
        """
        n = samples.shape[0]
        if n == 0:
            return self.scaling.new_zeros(0, self.scaling.shape[1])
        vectors, centre, kind = self._pairs(systems, samples)
        r = torch.linalg.vector_norm(vectors, dim=1)
        fc = self._cutoff(r)
        species = self.types.shape[0]
        parts: List[Tensor] = []
        if self.radial.shape[0] > 0:
            eta, shift = self.radial[:, 0], self.radial[:, 1]
            terms = torch.exp(-eta * (r.unsqueeze(1) - shift).square()) * fc.unsqueeze(1)
            parts.append(_sum(terms, centre * species + kind, n, species))
        if self.angular.shape[0] > 0:
            one, two = _triplets(centre, n)
            a, b = kind[one], kind[two]
            low, high = torch.minimum(a, b), torch.maximum(a, b)
            # row by row through the upper triangle of pairs of species
            pair = low * species - low * (low - 1) // 2 + high - low
            pairs = species * (species + 1) // 2
            terms = self._angular(vectors, r, fc, one, two)
            parts.append(_sum(terms, centre[one] * pairs + pair, n, pairs))
        return (torch.cat(parts, dim=1) - self.scaling[0]) / self.scaling[1]

    def _pairs(self, systems: List[System], samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vector, row of the centre (ascending) and species of the neighbour of each pair."""
        sizes = torch.tensor([len(system) for system in systems], device=samples.device)
        first = sizes.cumsum(0) - sizes
        row = torch.full((int(sizes.sum()),), -1, device=samples.device)
        rows = torch.arange(samples.shape[0], device=samples.device)
        row[first[samples[:, 0]] + samples[:, 1]] = rows
        vectors: List[Tensor] = []
        centres: List[Tensor] = []
        kinds: List[Tensor] = []
        for number, system in enumerate(systems):
            block = system.get_neighbor_list(self.options)
            atoms = block.samples.values[:, :2].to(torch.int64)
            centre = row[first[number] + atoms[:, 0]]
            asked = (centre >= 0).nonzero().squeeze(1)
            species = torch.searchsorted(self.types, system.types.to(torch.int64))
            vectors.append(block.values.squeeze(2)[asked])
            centres.append(centre[asked])
            kinds.append(species[atoms[asked, 1]])
        centre = torch.cat(centres)
        order = torch.argsort(centre, stable=True)
        return torch.cat(vectors)[order], centre[order], torch.cat(kinds)[order]

    def _cutoff(self, r: Tensor) -> Tensor:
        inside = 0.5 * (torch.cos(r * (math.pi / self.cutoff)) + 1)
        return torch.where(r < self.cutoff, inside, torch.zeros_like(r))

    def _angular(self, vectors: Tensor, r: Tensor, fc: Tensor, one: Tensor, two: Tensor) -> Tensor:
        """Terms of G4 and G5, shape (triplets, functions)."""
        cosine = (vectors[one] * vectors[two]).sum(dim=1) / (r[one] * r[two])
        opposite = (vectors[two] - vectors[one]).square().sum(dim=1)
        third = self._cutoff(opposite.sqrt())
        squares, cutoffs = r[one].square() + r[two].square(), fc[one] * fc[two]
        columns: List[Tensor] = []
        for g in self.angular.unbind(0):
            angle = (0.5 * (1 + g[2] * cosine)).clamp(min=0.0) ** float(g[1])
            closed = float(g[3]) > 0
            s = squares + opposite if closed else squares
            f = cutoffs * third if closed else cutoffs
            columns.append(2 * angle * torch.exp(-g[0] * s) * f)
        return torch.stack(columns, dim=1)


def _triplets(centre: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Two pairs of the same centre, each combination once; centres ascend."""
    counts = torch.bincount(centre, minlength=n)
    pairs = torch.arange(centre.shape[0], device=centre.device)
    behind = counts.cumsum(0)[centre] - pairs - 1  # pairs of the same centre that come later
    one = pairs.repeat_interleave(behind)
    begin = (behind.cumsum(0) - behind).repeat_interleave(behind)
    return one, one + 1 + torch.arange(one.shape[0], device=centre.device) - begin


def _sum(terms: Tensor, where: Tensor, atoms: int, kinds: int) -> Tensor:
    """Sums over each centre and kind, shape (atoms, kinds x functions)."""
    out = terms.new_zeros(atoms * kinds, terms.shape[1])
    return out.index_add(0, where, terms).reshape(atoms, kinds * terms.shape[1])
