"""All rows of the Gauss-Newton Hessian: one for each energy, three for each atom with a force."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torchlpr.bars import bar
from torchlpr.curvature.force_sums import force_sums
from torchlpr.curvature.gradients import CHUNK_BYTES, check_parameters, parameter_count
from torchlpr.curvature.pairs import pairs_of_atoms
from torchlpr.curvature.rows import energy_rows, structure_chunks
from torchlpr.curvature.subsets import Subset
from torchlpr.models import BehlerParrinelloMLP, LinearModel, SparseKernelModel
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["force_rows", "training_row_chunks", "training_rows"]


def force_rows(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    atoms: Tensor | None = None,
    subset: Subset | None = None,
) -> Tensor:
    r"""Rows of the forces, :math:`\sqrt{c_F}\, dF_{i\alpha}/dw`.

    .. math:: F_{i\alpha} = -\sum_k \frac{\partial \tilde y_k}{\partial x_k} \cdot
              \frac{\partial x_k}{\partial r_{i\alpha}}

    Args:
        model: maps (features, types) to atomic energies, twice differentiable.
        batch: training structures with derivatives; the values of forces are not used.
        objective: gives the weight.
        atoms: ascending indices, by default those of :meth:`Objective.force_atoms`.
        subset: the weights to differentiate by, None for all.

    Returns:
        Shape (3 atoms, parameters), the components of an atom one after the other, float64.
    """
    chosen = objective.force_atoms(batch) if atoms is None else atoms
    parts = [part for _, part in _force_chunks(model, batch, objective, chosen, None, subset)]
    if len(parts) == 1:
        return parts[0]
    width = parameter_count(model) if subset is None else len(subset)
    return torch.cat(parts) if parts else batch.features.new_zeros(0, width, dtype=torch.float64)


def training_row_chunks(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    size: int | None = None,
    subset: Subset | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """The rows of :func:`training_rows`, some at a time.

    Args:
        model: maps (features, types) to atomic energies.
        batch: training structures.
        objective: gives the row weights.
        size: rows that may be held at a time (three at least), by default 30 MiB of them.
        subset: the weights to differentiate by, None for all.

    Yields:
        The chunk's place among all rows, and the chunk, shape (rows, parameters), float64.
    """
    width = parameter_count(model) if subset is None else len(subset)
    most = size or max(1, CHUNK_BYTES // (8 * width))
    before = batch.n_structures
    atoms = objective.force_atoms(batch)
    with bar(before + 3 * len(atoms), "rows", "row") as shown:
        for where, part in structure_chunks(batch, width, most):
            yield where, energy_rows(model, part, objective, size, subset)
            shown.update(where.stop - where.start)
        for where, rows in _force_chunks(model, batch, objective, atoms, size, subset):
            yield slice(before + where.start, before + where.stop), rows
            shown.update(where.stop - where.start)


def training_rows(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    subset: Subset | None = None,
) -> Tensor:
    """Rows R of all residuals: those of the energies, then those of the forces.

    Args:
        model: maps (features, types) to atomic energies.
        batch: training structures; labels are not used, but where a structure has no forces
            among others that have, it has no force rows.
        objective: gives the row weights.
        subset: the weights to differentiate by, None for all.

    Returns:
        dr/dw in the order of :meth:`Objective.batch_residuals`, shape (rows, parameters), float64.
    """
    energies = energy_rows(model, batch, objective, subset=subset)
    n_rows = objective.n_rows(batch)
    if n_rows == len(energies):
        return energies
    out = energies.new_empty(n_rows, energies.shape[1])
    out[: len(energies)] = energies
    forces, atoms = out[len(energies) :], objective.force_atoms(batch)
    for where, rows in _force_chunks(model, batch, objective, atoms, None, subset):
        forces[where] = rows
    return out


def _force_chunks(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    atoms: Tensor,
    size: int | None,
    subset: Subset | None,
) -> Iterator[tuple[slice, Tensor]]:
    """Force rows of some atoms after the other."""
    derivatives = batch.derivatives
    if derivatives is None or not len(atoms):
        return
    check_parameters(model, batch.features)
    width = parameter_count(model) if subset is None else len(subset)
    pairs = len(derivatives) / max(1, len(batch))
    one = 3 * width + pairs * _doubles_of_pair(model, batch.features.shape[1])
    step = max(1, int((size * width if size else CHUNK_BYTES / 8) / one))
    for start in range(0, len(atoms), step):
        moved = atoms[start : start + step]
        sums = force_sums(model, pairs_of_atoms(batch, derivatives, moved), subset)
        place = slice(3 * start, 3 * (start + len(moved)))
        yield place, sums.mul_(-objective.force_scale).flatten(0, 1)


def _doubles_of_pair(model: nn.Module, n_features: int) -> int:
    """Numbers that a pair takes while its rows are made."""
    if isinstance(model, BehlerParrinelloMLP):
        return n_features + 15 * sum(model.hidden)
    if isinstance(model, LinearModel):
        return n_features
    if isinstance(model, SparseKernelModel):
        return n_features + 6 * model.weight.numel()
    return 16 * n_features  # an unknown module: as if each layer were as wide as its input
