"""Batches shared among ranks: consecutive structures or atoms, nothing padded, nothing twice."""

from __future__ import annotations

import torch

from torchlpr.ranks import Ranks, even_shares
from torchlpr.structures.batch import AtomBatch

__all__ = ["gathered_batch", "share_of_atoms", "share_of_structures"]


def share_of_structures(batch: AtomBatch, ranks: Ranks) -> AtomBatch:
    """This rank's structures: consecutive ones, about as many atoms as on every other rank.

    Args:
        batch: the same on all ranks.
        ranks: the processes.

    Returns:
        Part of the batch, possibly without structures; joined in order the parts are the batch.
    """
    if ranks.size == 1:
        return batch
    mine = ranks.share(batch.counts)
    return batch.select(torch.arange(mine.start, mine.stop))


def share_of_atoms(batch: AtomBatch, ranks: Ranks) -> AtomBatch:
    """This rank's environments, consecutive ones, as if they were one structure.

    Args:
        batch: the same on all ranks.
        ranks: the processes.

    Returns:
        Features and types of some atoms; joined in order they are those of the batch.
    """
    if ranks.size == 1:
        return batch
    mine = even_shares(len(batch), ranks.size)[ranks.rank]
    return AtomBatch(
        batch.features[mine], batch.types[mine], torch.zeros_like(batch.structure[mine])
    )


def gathered_batch(part: AtomBatch, ranks: Ranks) -> AtomBatch:
    """The batches of all ranks as one, in order.

    Args:
        part: this rank's structures, possibly none.
        ranks: the processes.

    Returns:
        All structures, on every rank, with energies if every rank has them.
    """
    if ranks.size == 1:
        return part
    parts = ranks.everyone(part.to("cpu"))
    return AtomBatch.cat([p for p in parts if len(p)] or [part]).to(part.features.device)
