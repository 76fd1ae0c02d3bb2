r"""The loss of a batch with its gradient: in closed form for packed networks, else by autograd.

The force loss of a network differentiates its energies twice. In closed form, for an atom with
the factor c = dL/dE_k and the direction v = dL/d(dE_k/dx_k),

.. math:: \frac{\partial L}{\partial w} = \sum_k \frac{\partial}{\partial w}
    \left( c_k E_k + v_k \cdot \frac{\partial E_k}{\partial x_k} \right)

is one forward pass of activations and their tangents along v, and one backward pass.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from torchlpr.curvature.passes import NetworkPass
from torchlpr.free_memory import memory_limit
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.packed import PackedBatch, packed_bytes
from torchlpr.structures.species import atoms_of_each_type, in_atom_order

__all__ = ["batch_loss", "batch_residuals", "packs"]


def batch_loss(
    model: nn.Module, batch: AtomBatch | PackedBatch, objective: Objective, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Regularised loss of a batch, differentiable once by the weights, and its residuals.

    Args:
        model: maps (features, types) to atomic energies; a network for packed structures.
        batch: structures with labels.
        objective: the loss.
        scale: of the data term.

    Returns:
        scale * 1/2 |r|^2 + 1/2 mu |w|^2 in eV^2, scalar, and r, energies first, without a graph.
    """
    if isinstance(batch, AtomBatch):
        residuals = objective.batch_residuals(model, batch)
        loss = objective.data_loss(residuals) * scale + objective.penalty(model.parameters())
        return loss, residuals.detach()
    assert isinstance(model, BehlerParrinelloMLP)
    parameters = list(model.parameters())
    with torch.no_grad():
        passes, directions = _Passes(model, batch), torch.zeros_like(batch.features)
        energies, residuals = _residuals(passes, batch, objective, directions)
        factors = energies * objective.row_scale(batch.counts).to(energies)
        gradients = passes.gradients(factors, directions)
        for gradient, weight in zip(gradients, parameters, strict=True):
            gradient.mul_(scale).add_(weight, alpha=objective.mu)
        value = objective.data_loss(residuals) * scale + objective.penalty(parameters)
    loss = _Known.apply(value, gradients, *parameters)  # type: ignore[no-untyped-call]
    return loss, residuals


def batch_residuals(
    model: nn.Module, batch: AtomBatch | PackedBatch, objective: Objective
) -> Tensor:
    """Weighted residuals of a batch, energies first, without a graph.

    Args:
        model: maps (features, types) to atomic energies; a network for packed structures.
        batch: structures with labels.
        objective: the loss.

    Returns:
        Shape (rows,), eV.
    """
    with torch.no_grad():
        if isinstance(batch, AtomBatch):
            return objective.batch_residuals(model, batch)
        assert isinstance(model, BehlerParrinelloMLP)
        return _residuals(_Passes(model, batch), batch, objective)[1]


def packs(
    model: nn.Module, batch: AtomBatch, validation: AtomBatch | None, objective: Objective
) -> bool:
    """Whether training goes by packed structures: a network, forces, and memory for both.

    Args:
        model: what is trained.
        batch: training structures.
        validation: structures whose error is logged.
        objective: the loss.

    Returns:
        Whether.
    """
    if not isinstance(model, BehlerParrinelloMLP) or not objective.force_weight:
        return False
    sizes = [packed_bytes(part) for part in (batch, validation) if part is not None]
    if any(size is None for size in sizes):
        return False
    return sum(size or 0 for size in sizes) <= memory_limit(device=batch.features.device)


class _Known(torch.autograd.Function):
    """A value whose gradients by the weights are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(grad * gradient for gradient in ctx.gradients)


class _Passes:
    """The networks of all species, gone through for the atoms of a batch."""

    def __init__(self, model: BehlerParrinelloMLP, batch: PackedBatch) -> None:
        self.groups = atoms_of_each_type(batch.types, model.types)
        self.alone, self.structure = len(model.types) == 1, batch.structure
        self.networks = [
            NetworkPass(network, self._mine(batch.features, group))
            for network, group in zip(model.networks, self.groups, strict=True)
        ]
        self.local = in_atom_order([n.energies for n in self.networks], self.groups)
        self.sensitivity = in_atom_order([n.sensitivity for n in self.networks], self.groups)

    def gradients(self, factors: Tensor, directions: Tensor) -> list[Tensor]:
        """Of sum_k (c_k E_k + v_k . dE_k/dx_k), c by structure, in the order of the weights."""
        out, c = [], factors[self.structure].to(directions).unsqueeze(1)
        for network, group in zip(self.networks, self.groups, strict=True):
            out += network.gradients(self._mine(c, group), self._mine(directions, group))
        return out

    def _mine(self, values: Tensor, group: Tensor) -> Tensor:
        return values if self.alone else values[group]


def _residuals(
    passes: _Passes, batch: PackedBatch, objective: Objective, directions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted residuals of the energies, and of all rows; dL/ds into the directions of atoms."""
    energies = objective.residuals(passes.local, batch.structure, batch.counts, batch.energies)
    rows, scale = [energies], objective.force_scale
    for blocks, part in _with_forces(batch):
        predicted = -blocks.pull_back(passes.sensitivity[part])
        errors = scale * (predicted.to(batch.forces.dtype) - batch.forces[part])
        rows.append(errors.reshape(-1))
        if directions is not None:  # here and now: the derivatives are still in the cache
            directions[part] = blocks.push_forward(-scale * errors.to(directions))
    return energies, torch.cat(rows)


def _with_forces(batch: PackedBatch) -> list[tuple[Any, slice]]:
    """Derivatives and atoms of the structures that have forces."""
    ends = [0]
    for size in batch.sizes:
        ends.append(ends[-1] + size)
    parts = [slice(*pair) for pair in pairwise(ends)]
    return [(b, part) for b, part in zip(batch.blocks, parts, strict=True) if b is not None]
