"""From structures to what design works with: rows of candidates and gradients of targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from torchlpr.curvature import energy_rows, gradient_chunks, training_rows
from torchlpr.errors import InputError
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch

__all__ = ["candidate_rows", "target_gradients"]


def candidate_rows(rigidity: Rigidity, batches: Iterable[AtomBatch]) -> Tensor:
    """Rows that structures would add to R, weighted as the run's loss weighs them.

    A candidate has one row, its energy; where the objective weighs forces, those of its atoms'
    forces behind it, then rows of zeros up to those of the largest candidate.

    Args:
        rigidity: model, objective and the weights that count.
        batches: the candidates in parts, so that their features need not be held at once; with
            derivatives where the objective weighs forces.

    Returns:
        Shape (candidates, 1 or 1 + 3 n, P), float64.
    """
    model, objective, subset = rigidity.model, rigidity.objective, rigidity.subset
    if not objective.force_weight:
        energies = [energy_rows(model, batch, objective, subset=subset) for batch in batches]
        return torch.cat(energies).unsqueeze(1)
    found = list[Tensor]()
    for batch in batches:
        unlabelled = replace(batch, energies=None, forces=None)  # all forces are to come
        for index in range(batch.n_structures):
            one = unlabelled.select([index])
            found.append(training_rows(model, one, objective, subset))
    return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)


def target_gradients(rigidity: Rigidity, batch: AtomBatch, atoms: Tensor | None = None) -> Tensor:
    """Gradients of the atomic energies that matter.

    Args:
        rigidity: gives the model and the weights that count.
        batch: the target structures.
        atoms: which of their atoms, boolean, shape (atoms,); all if None.

    Returns:
        Shape (atoms chosen, P), float64.

    Raises:
        InputError: if no atom is chosen.
    """
    chosen = torch.ones(len(batch), dtype=torch.bool) if atoms is None else atoms
    if not bool(chosen.any()):
        raise InputError("no atom is marked as a target; mark at least one")
    chosen = chosen.to(batch.types.device)
    chunks = gradient_chunks(rigidity.model, batch, subset=rigidity.subset)
    return torch.cat([gradients[chosen[part]] for part, gradients in chunks])
