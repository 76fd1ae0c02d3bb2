"""Rows of the Gauss-Newton Hessian: one for each training energy, weighted as the loss is."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torchlpr.curvature.generic_sums import generic_sums
from torchlpr.curvature.gradients import check_parameters, gradient_chunks, parameter_count
from torchlpr.curvature.layered import layered_sums
from torchlpr.curvature.subsets import Subset
from torchlpr.models import BehlerParrinelloMLP, LinearInParameters
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["energy_rows", "structure_chunks", "structure_gradients"]


def structure_gradients(
    model: nn.Module,
    batch: AtomBatch,
    scale: Tensor,
    size: int | None = None,
    subset: Subset | None = None,
) -> Tensor:
    """Scaled sums of atomic gradients over each structure.

    Args:
        model: maps (features, types) to atomic energies.
        batch: the atoms.
        scale: factor of each structure, shape (structures,).
        size: atoms a chunk, see :func:`gradient_chunks`.
        subset: the weights to differentiate by, None for all.

    Returns:
        scale_A sum_{k in A} g_k, shape (structures, parameters), float64.
    """
    check_parameters(model, batch.features)
    if isinstance(model, BehlerParrinelloMLP):
        return layered_sums(model, batch, subset).mul_(scale.unsqueeze(1))
    if not isinstance(model, LinearInParameters):
        return generic_sums(model, batch, subset, size).mul_(scale.unsqueeze(1))
    rows = torch.zeros(
        batch.n_structures,
        parameter_count(model) if subset is None else len(subset),
        dtype=torch.float64,
        device=batch.features.device,
    )
    for part, gradients in gradient_chunks(model, batch, size, subset):
        rows.index_add_(0, batch.structure[part], gradients)
    return rows.mul_(scale.to(rows).unsqueeze(1))


def energy_rows(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    size: int | None = None,
    subset: Subset | None = None,
) -> Tensor:
    """Rows R = sqrt(c) d(E~_A/n_A)/dw of the energy part of the loss.

    Args:
        model: maps (features, types) to atomic energies.
        batch: training structures; their energies are not used.
        objective: gives the row weights.
        size: atoms a chunk, see :func:`gradient_chunks`.
        subset: the weights to differentiate by, None for all.

    Returns:
        Shape (structures, parameters), float64.
    """
    return structure_gradients(model, batch, objective.row_scale(batch.counts), size, subset)


def structure_chunks(
    batch: AtomBatch, n_parameters: int, size: int
) -> Iterator[tuple[slice, AtomBatch]]:
    """Consecutive structures whose rows, and what their making needs, fit into a budget.

    Args:
        batch: the structures.
        n_parameters: number P of weights.
        size: gradients that may be held at a time; features count as a part of one.

    Yields:
        The chunk's slice of structures, and the chunk: features, types and structures.
    """
    weights = 1 + batch.counts * (3 * batch.features.shape[1]) // max(1, n_parameters)
    total, start = 0, 0
    for end, weight in enumerate(weights.tolist()):
        if end > start and total + weight > size:
            yield slice(start, end), _consecutive(batch, start, end)
            total, start = 0, end
        total += weight
    if start == 0:
        yield slice(0, batch.n_structures), batch
    else:
        yield slice(start, batch.n_structures), _consecutive(batch, start, batch.n_structures)


def _consecutive(batch: AtomBatch, start: int, stop: int) -> AtomBatch:
    """Structures from the one to the other: a view of the features where atoms are in order."""
    owner = batch.structure
    if not bool((owner[1:] >= owner[:-1]).all()):
        return batch.select(torch.arange(start, stop))
    ends = torch.tensor([start, stop], device=owner.device)
    first, last = torch.searchsorted(owner, ends).tolist()
    atoms = slice(first, last)
    return AtomBatch(batch.features[atoms], batch.types[atoms], owner[atoms] - start)
