"""All members of a network committee as one function of their stacked flat weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from torchlpr.committee.forward import vmap_energies
from torchlpr.committee.networks import MemberNetworks, distinct_columns
from torchlpr.committee.tasks import MemberTasks
from torchlpr.curvature import energy_rows
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["StackedLoss"]


BLOCK_ATOMS = 6400  # the activations of ten members are a few MB


class StackedLoss:
    """Losses of all members, the objective's own.

    Args:
        model: maps (features, types) to atomic energies; a float64 copy is kept.
        batch: training structures.
        objective: the loss.
        tasks: what each member minimises.

    Attributes:
        seen: number of structures that each member is trained on, shape (members,), float64.
    """

    def __init__(
        self, model: nn.Module, batch: AtomBatch, objective: Objective, tasks: MemberTasks
    ) -> None:
        self.model = copy.deepcopy(model).to(torch.float64).requires_grad_(False)
        self.objective, self.tasks = objective, tasks
        self.seen, self._scale = tasks.kept.sum(1), torch.ones_like(tasks.kept[:, 0])
        self.batch = _in_order(batch.to(dtype=torch.float64))
        self._data, self._column, self.counts = self.batch, None, self.batch.counts
        if isinstance(self.model, BehlerParrinelloMLP):
            distinct, self._column = distinct_columns(self.batch.features)
            self._data = AtomBatch(distinct, self.batch.types, self.batch.structure)

    def select(self, members: Tensor) -> StackedLoss:
        """The losses of some members, sharing everything else."""
        chosen = copy.copy(self)
        chosen.tasks = self.tasks.select(members)
        chosen.seen, chosen._scale = self.seen[members], self._scale[members]
        return chosen

    def on(self, structures: Tensor) -> StackedLoss:
        """The losses on some structures, data terms scaled up to those of all structures.

        Args:
            structures: their numbers, shape (n,).

        Returns:
            Losses and gradients whose mean over mini-batches, of which a member sees as many
            each, is that of all structures; one that sees none of these has no data term.
        """
        sizes = self.counts[structures]
        number = torch.repeat_interleave(sizes)
        others = self.counts.cumsum(0)[structures] - sizes.cumsum(0)  # in front of a structure
        atoms = torch.arange(len(number), device=number.device) + others[number]
        data = AtomBatch(self._data.features[atoms], self._data.types[atoms], number)
        part = self._restricted(structures, data)
        part.seen = part.tasks.kept.sum(1)
        part._scale = torch.where(part.seen > 0, self.seen / part.seen, 0.0)
        return part

    def energies(self, weights: Tensor) -> Tensor:
        """Atomic energies of all members in eV, structure by structure, (members, atoms)."""
        x, types = self._data.features, self._data.types
        if isinstance(self.model, BehlerParrinelloMLP):
            return MemberNetworks(self.model, weights, x, types, self._column).energies
        return vmap_energies(self.model, weights, x, types)

    def residuals(self, weights: Tensor) -> Tensor:
        """Weighted residuals, zero where a member does not see a structure, in eV.

        Args:
            weights: shape (members, parameters).

        Returns:
            Shape (members, structures).
        """
        return self._residuals(self.energies(weights))

    def _residuals(self, energies: Tensor) -> Tensor:
        structure, labels = self._data.structure, self.tasks.energies
        return self.objective.residuals(energies, structure, self.counts, labels) * self.tasks.kept

    @torch.no_grad()
    def losses(self, weights: Tensor) -> Tensor:
        """Loss of each member in eV^2, shape (members,)."""
        return self.losses_of(self.residuals(weights), weights)

    @torch.no_grad()
    def losses_of(self, residuals: Tensor, weights: Tensor) -> Tensor:
        """Loss of each member from its residuals, in eV^2, shape (members,)."""
        return self._data_losses(residuals) + self._penalties(weights - self.tasks.centres)

    def _data_losses(self, residuals: Tensor) -> Tensor:
        return self.objective.data_loss(residuals) * self._scale

    def _penalties(self, away: Tensor) -> Tensor:
        return 0.5 * self.objective.mu * away.square().sum(1)

    def value_and_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and their gradients, a block of structures at a time to stay in cache.

        Args:
            weights: shape (members, parameters).

        Returns:
            Losses in eV^2, shape (members,), and gradients, shape (members, parameters).
        """
        weights = weights.detach()
        away = weights - self.tasks.centres
        losses, gradient = self._penalties(away), self.objective.mu * away
        for block in self._blocks():
            values, slopes = block._data_gradient(weights)
            losses += values
            gradient += slopes
        return losses, gradient

    def _data_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Data terms and their gradients, in closed form for networks."""
        x, types, structure = self._data.features, self._data.types, self._data.structure
        if isinstance(self.model, BehlerParrinelloMLP):
            networks = MemberNetworks(self.model, weights, x, types, self._column)
            residuals = self._residuals(networks.energies)
            factors = residuals * self.objective.row_scale(self.counts) * self._scale.unsqueeze(1)
            return self._data_losses(residuals), networks.gradient(factors[:, structure])
        variable = weights.clone().requires_grad_(True)
        values = self._data_losses(self.residuals(variable))
        return values.detach(), torch.autograd.grad(values.sum(), variable)[0]

    def _blocks(self) -> Iterator[StackedLoss]:
        """The data terms of whole structures in blocks of about so many atoms."""
        if len(self._data) <= BLOCK_ATOMS:
            yield self
            return
        ends, first, start = self.counts.cumsum(0), 0, 0
        while first < len(ends):
            last = int(torch.searchsorted(ends, start + BLOCK_ATOMS, right=True))
            structures = slice(first, max(first + 1, last))
            stop = int(ends[structures.stop - 1])
            x, types = self._data.features[start:stop], self._data.types[start:stop]
            number = self._data.structure[start:stop] - first
            yield self._restricted(structures, AtomBatch(x, types, number))
            first, start = structures.stop, stop

    def _restricted(self, structures: Tensor | slice, data: AtomBatch) -> StackedLoss:
        """The data terms of some structures alone."""
        part = copy.copy(self)
        kept, energies = (t[:, structures] for t in (self.tasks.kept, self.tasks.energies))
        part.tasks = replace(self.tasks, kept=kept, energies=energies)
        part._data, part.counts = data, self.counts[structures]
        return part

    def rows(self, weights: Tensor) -> Tensor:
        """Derivatives of the residuals of all structures, (members, structures, parameters)."""
        found = []
        for flat in weights:
            vector_to_parameters(flat, self.model.parameters())
            found.append(energy_rows(self.model, self.batch, self.objective))
        return torch.stack(found).mul_(self.tasks.kept.unsqueeze(2))


def _in_order(batch: AtomBatch) -> AtomBatch:
    """The batch with the atoms of each structure together."""
    if bool((batch.structure[1:] >= batch.structure[:-1]).all()):
        return batch
    return batch.select(torch.arange(batch.n_structures, device=batch.structure.device))
