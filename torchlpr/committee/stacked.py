"""All members of a network committee as one function of their stacked flat weights."""

from __future__ import annotations

import copy

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
        distinct, column = distinct_columns(self.batch.features)
        self._inputs = distinct, self.batch.types, column

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

    def rows(self, weights: Tensor) -> Tensor:
        """Derivatives of the residuals, shape (members, structures, parameters)."""
        found = []
        for flat in weights:
            vector_to_parameters(flat, self.model.parameters())
            found.append(energy_rows(self.model, self.batch, self.objective))
        return torch.stack(found).mul_(self.tasks.kept.unsqueeze(2))
