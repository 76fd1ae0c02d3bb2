"""A small potential with messages: the energy of an atom depends on neighbours of neighbours."""

from collections.abc import Sequence

import ase
import torch
from ase.neighborlist import neighbor_list
from torch import Tensor, nn

from torchlpr.potentials.protocol import check_elements

CUTOFF = 3.0


class Messages(nn.Module):
    """Two rounds of messages over neighbours, weighted by distance; energies in eV."""

    last_layer = ("readout.*",)

    def __init__(self, width: int = 4, types: Sequence[int] = (14, 32), seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Parameter(torch.randn(len(types), width))
            self.mix = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
            self.readout = nn.Linear(width, 1)
        self.types = list(types)
        self.batched_gradients = True

    def batch(self, structures):
        check_elements(structures, self.types, self)
        species, owner, pairs, distances, total = [], [], [], [], 0
        for number, atoms in enumerate(structures):
            i, j, d = neighbor_list("ijd", atoms, CUTOFF)
            pairs.append(torch.stack([torch.from_numpy(i), torch.from_numpy(j)]) + total)
            distances.append(torch.from_numpy(d))
            species += [self.types.index(z) for z in atoms.numbers]
            owner += [number] * len(atoms)
            total += len(atoms)
        weight = self.embedding
        return (
            torch.tensor(species, device=weight.device),
            torch.tensor(owner, device=weight.device),
            torch.cat(pairs, 1).to(weight.device),
            torch.cat(distances).to(weight),
        )

    def local_energies(self, batch) -> Tensor:
        species, _, (i, j), distance = batch
        weight = (0.5 * (1 + torch.cos(torch.pi * distance / CUTOFF)))[:, None]
        hidden = self.embedding[species]
        for layer in self.mix:
            received = torch.zeros_like(hidden).index_add(0, i, weight * hidden[j])
            hidden = torch.tanh(layer(hidden + 0.3 * received))
        return self.readout(hidden).squeeze(1)

    def energies(self, batch) -> Tensor:
        owner = batch[1]
        local = self.local_energies(batch)
        return local.new_zeros(int(owner.max()) + 1).index_add(0, owner, local)

    def species_spans(self, z: int, spans: dict[str, tuple[int, int]]) -> list[tuple[int, int]]:
        start, width = spans["embedding"][0], self.embedding.shape[1]
        first = start + self.types.index(z) * width
        return [(first, first + width)]


def cells(count: int, symbols: Sequence[str] = ("Si", "Ge"), seed: int = 0) -> list[ase.Atoms]:
    """Rattled cells of 2 to 4 atoms of alternating species."""
    found = []
    for number in range(count):
        size = 2 + number % 3
        atoms = ase.Atoms(
            [symbols[k % len(symbols)] for k in range(size)],
            scaled_positions=[(0.1 + k / size, 0.3 * k % 1, 0.55 * k % 1) for k in range(size)],
            cell=[4.1 + 0.1 * (number % 4), 3.9, 4.3],
            pbc=True,
        )
        atoms.rattle(0.25, seed=100 * seed + number)
        found.append(atoms)
    return found
