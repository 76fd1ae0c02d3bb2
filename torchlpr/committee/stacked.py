"""All members of a network committee as one function of their stacked flat weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.utils import vector_to_parameters

from torchlpr.committee.forward import distinct_columns, member_energies, network_energies
from torchlpr.committee.tasks import MemberTasks
from torchlpr.curvature import energy_rows
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["StackedLoss"]


BLOCK_ATOMS = 6400  # their activations in ten members are a few MB


class _Block(NamedTuple):
    """Some structures with their features."""

    structures: slice
    batch: AtomBatch
    inputs: tuple[Tensor, Tensor, Tensor | None]


class StackedLoss:
    """Losses of all members, the objective's own.

    Args:
        model: maps (features, types) to atomic energies; a float64 copy is kept.
        batch: training structures.
        objective: the loss.
        tasks: what each member minimises.
    """

    def __init__(
        self, model: nn.Module, batch: AtomBatch, objective: Objective, tasks: MemberTasks
    ) -> None:
        self.model = copy.deepcopy(model).to(torch.float64).requires_grad_(False)
        self.batch = batch.to(dtype=torch.float64)
        self.objective, self.tasks = objective, tasks
        self.counts = batch.counts
        distinct, column = self.batch.features, None
        if isinstance(self.model, BehlerParrinelloMLP):
            distinct, column = distinct_columns(distinct)
        self._inputs: tuple[Tensor, Tensor, Tensor | None] = distinct, self.batch.types, column
        self._blocks = self._split()

    def select(self, members: Tensor) -> StackedLoss:
        """The losses of some members, sharing everything else."""
        chosen = copy.copy(self)
        chosen.tasks = self.tasks.select(members)
        return chosen

    def energies(self, weights: Tensor) -> Tensor:
        """Atomic energies of all members in eV, shape (members, atoms)."""
        if isinstance(self.model, BehlerParrinelloMLP):
            return network_energies(self.model, weights, *self._inputs)
        return member_energies(self.model, weights, self.batch.features, self.batch.types)

    def residuals(self, weights: Tensor) -> Tensor:
        """Weighted residuals, zero where a member does not see a structure, in eV.

        Args:
            weights: shape (members, parameters).

        Returns:
            Shape (members, structures).
        """
        batch = self.batch

        def one(energies: Tensor, labels: Tensor) -> Tensor:
            return self.objective.residuals(energies, batch.structure, self.counts, labels)

        return vmap(one)(self.energies(weights), self.tasks.energies) * self.tasks.kept

    def losses(self, weights: Tensor) -> Tensor:
        """Loss of each member in eV^2, shape (members,)."""
        return self.losses_of(self.residuals(weights), weights)

    def losses_of(self, residuals: Tensor, weights: Tensor) -> Tensor:
        """Loss of each member from its residuals, in eV^2, shape (members,)."""
        penalty = vmap(lambda w: self.objective.penalty([w]))(weights - self.tasks.centres)
        return vmap(self.objective.data_loss)(residuals) + penalty

    def value_and_gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and their gradients, a block of structures at a time to stay in cache.

        Args:
            weights: shape (members, parameters).

        Returns:
            Losses in eV^2, shape (members,), and gradients, shape (members, parameters).
        """
        variable = weights.detach().clone().requires_grad_(True)
        losses = vmap(lambda w: self.objective.penalty([w]))(variable - self.tasks.centres)
        (gradient,) = torch.autograd.grad(losses.sum(), variable)
        losses = losses.detach()
        for part in self._blocks:
            tasks = replace(
                self.tasks,
                kept=self.tasks.kept[:, part.structures],
                energies=self.tasks.energies[:, part.structures],
            )
            block = copy.copy(self)
            block.tasks, block.batch, block.counts = tasks, part.batch, part.batch.counts
            block._inputs = part.inputs
            data = vmap(self.objective.data_loss)(block.residuals(variable))
            gradient = gradient + torch.autograd.grad(data.sum(), variable)[0]
            losses = losses + data.detach()
        return losses, gradient

    def _split(self) -> list[_Block]:
        """Whole structures in blocks of about so many atoms."""
        x, types, column = self._inputs
        blocks, order = [], torch.argsort(self.batch.structure, stable=True)
        number = self.batch.structure[order]
        ends = torch.bincount(self.batch.structure).cumsum(0)
        first = 0
        while first < len(ends):
            start = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(torch.searchsorted(ends, start + BLOCK_ATOMS, right=True)))
            atoms = order[start : int(ends[last - 1])]
            structure = number[start : start + len(atoms)] - first
            own = AtomBatch(x[atoms], types[atoms], structure)
            blocks.append(_Block(slice(first, last), own, (own.features, own.types, column)))
            first = last
        return blocks

    def rows(self, weights: Tensor) -> Tensor:
        """Derivatives of the residuals, shape (members, structures, parameters)."""
        found = []
        for flat in weights:
            vector_to_parameters(flat, self.model.parameters())
            found.append(energy_rows(self.model, self.batch, self.objective))
        return torch.stack(found).mul_(self.tasks.kept.unsqueeze(2))
