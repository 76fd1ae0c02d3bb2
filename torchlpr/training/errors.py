"""Errors of a model on labelled structures."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from torchlpr.objective import predict
from torchlpr.structures.batch import AtomBatch

__all__ = ["energy_errors", "energy_rmse", "force_errors", "force_rmse"]


def energy_errors(model: nn.Module, batch: AtomBatch) -> Tensor:
    """Error of each structure's energy per atom.

    Args:
        model: maps (features, types) to atomic energies; asked in evaluation mode.
        batch: structures with energies.

    Returns:
        Predicted minus reference energy in eV per atom, shape (structures,).
    """
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        local = twin(batch.features.to(next(twin.parameters()).dtype), batch.types)
    local = local.to(torch.float64)
    totals = local.new_zeros(batch.n_structures).index_add(0, batch.structure, local)
    return (totals - batch.labels()) / batch.counts


def energy_rmse(model: nn.Module, batch: AtomBatch) -> float:
    """Root mean square of :func:`energy_errors`, in eV per atom.

    Args:
        model: maps (features, types) to atomic energies.
        batch: structures with energies.

    Returns:
        RMSE in eV per atom.
    """
    return float(energy_errors(model, batch).square().mean().sqrt())


def force_errors(model: nn.Module, batch: AtomBatch) -> Tensor | None:
    """Error of the force on each atom that has one.

    Args:
        model: maps (features, types) to atomic energies; asked in evaluation mode.
        batch: structures with forces and derivatives.

    Returns:
        Predicted minus reference force in eV/Å, shape (atoms with forces, 3), None where the
        batch has no forces or no derivatives.
    """
    if batch.forces is None or batch.derivatives is None:
        return None
    twin = copy.deepcopy(model).eval()
    known = batch.has_forces[batch.structure]
    with torch.no_grad():
        _, forces = predict(twin, batch.to(dtype=next(twin.parameters()).dtype))
    return forces[known].to(torch.float64) - batch.forces[known]


def force_rmse(model: nn.Module, batch: AtomBatch) -> float | None:
    """Root mean square of the components of :func:`force_errors`, in eV/Å.

    Args:
        model: maps (features, types) to atomic energies.
        batch: structures with forces and derivatives.

    Returns:
        RMSE in eV/Å, None where there is nothing to compare.
    """
    errors = force_errors(model, batch)
    return None if errors is None else float(errors.square().mean().sqrt())
