"""Gradients of structures' energies for any module, without those of their atoms."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from torchlpr.curvature.gradients import chunk_size, split_parameters
from torchlpr.curvature.subsets import Subset
from torchlpr.structures.batch import AtomBatch

__all__ = ["generic_sums"]


def generic_sums(
    model: nn.Module, batch: AtomBatch, subset: Subset | None = None, size: int | None = None
) -> Tensor:
    """``vmap(grad)`` over structures, those of equal sequences of types together.

    A module may branch on types, so that they must not be batched; one backward pass serves all
    atoms of a structure, which spares an atom's worth of gradients for each of them.

    Args:
        model: maps (features, types) to atomic energies.
        batch: the structures.
        subset: the weights to differentiate by, whole parameters; None for all.
        size: gradients at a time, by default what fits into 30 MiB.

    Returns:
        sum_{k in A} g_k, shape (structures, parameters), float64.
    """
    fixed, weights = split_parameters(model, subset)
    count = sum(w.numel() for w in weights.values())
    order = batch.structure.argsort(stable=True)
    features = batch.features[order].to(torch.float64)
    out = features.new_zeros(batch.n_structures, count)
    starts = (batch.counts.cumsum(0) - batch.counts).tolist()
    groups = defaultdict[bytes, list[int]](list)
    sequences = batch.types[order].cpu().split(batch.counts.tolist())
    for index, sequence in enumerate(sequences):
        groups[sequence.numpy().tobytes()].append(index)
    step = size or chunk_size(count)
    for members in groups.values():
        n = len(sequences[members[0]])
        types = sequences[members[0]].to(batch.types.device)

        def energy(w: dict[str, Tensor], atoms: Tensor, types: Tensor = types) -> Tensor:
            local: Tensor = functional_call(model, {**fixed, **w}, (atoms, types))
            return local.sum()

        per_structure = vmap(grad(energy), in_dims=(None, 0))
        for begin in range(0, len(members), step):
            part = members[begin : begin + step]
            stacked = torch.stack([features[starts[k] : starts[k] + n] for k in part])
            blocks = per_structure(weights, stacked)
            out[part] = torch.cat([blocks[name].flatten(1) for name in weights], dim=1)
    return out
