"""Features of structures that are shared among ranks: each computes those of its own."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import torch

from torchlpr.descriptors.state import Descriptor
from torchlpr.ranks import Ranks
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.sharing import gathered_batch

__all__ = ["describe_shared"]


def describe_shared(
    descriptor: Descriptor,
    structures: Sequence[ase.Atoms],
    ranks: Ranks,
    progress: bool | None = None,
) -> AtomBatch:
    """Features of all structures, on every rank.

    Args:
        descriptor: the same on all ranks.
        structures: the same on all ranks.
        ranks: the processes.
        progress: whether the first rank shows a bar; None shows it for long work.

    Returns:
        The batch that the descriptor would make of them in one process.
    """
    if ranks.size == 1:
        return descriptor(structures, progress=progress)
    with ranks.agreed():
        mine = structures[ranks.share([len(atoms) for atoms in structures])]
        if mine:
            part = descriptor(mine, progress=progress if ranks.first else False)
        else:
            none = torch.empty(0, dtype=torch.int64)
            nothing = torch.empty(0, descriptor.n_features, dtype=torch.float64)
            part = AtomBatch(nothing, none, none)
    return gathered_batch(part, ranks)
