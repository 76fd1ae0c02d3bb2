"""What the evaluation of many atoms at once can spare: atoms that are alike, weights left idle."""

from __future__ import annotations

from torch import Tensor, nn

from torchlpr.curvature import (
    Factor,
    FeatureSpan,
    RowSpace,
    distinct_environments,
    feature_span_of_rows,
)
from torchlpr.curvature.gradients import CHUNK_BYTES
from torchlpr.curvature.memory import predict_memory
from torchlpr.free_memory import memory_limit as available
from torchlpr.ranks import Ranks
from torchlpr.structures.batch import AtomBatch

__all__ = ["same_environments", "span_pays", "span_within"]

SPAN_ATOMS = 4  # times the number of features and of rows: from there on their span pays
COPIES = 3  # of the rows, while the span is found


def same_environments(batch: AtomBatch, ranks: Ranks) -> tuple[Tensor, Tensor] | None:
    """Which atoms to evaluate, and for each atom the number of its like among them.

    Args:
        batch: the same on all ranks.
        ranks: the processes; the first one judges, because rounding may differ.

    Returns:
        See :func:`torchlpr.curvature.distinct_environments`.
    """
    same = ranks.by_first(lambda: distinct_environments(batch.features, batch.types))
    if same is None:
        return None
    device = batch.features.device
    return same[0].to(device), same[1].to(device)


def span_pays(batch: AtomBatch, factor: Factor) -> bool:
    """Whether there are atoms enough to pay for finding the span of the training features."""
    return len(batch) >= SPAN_ATOMS * max(batch.features.shape[1], factor.n_rows)


def span_within(
    model: nn.Module, factor: Factor, tolerance: float, limit: int | None, ranks: Ranks
) -> FeatureSpan | None:
    """The span of the training features, where it fits into memory.

    Args:
        model: the network.
        factor: of the rows of all its weights.
        tolerance: largest relative error of g^T H^-1 g that may be made.
        limit: bytes with the factor, or None for three quarters of what is free beside it.
        ranks: the processes, of which those on one machine share its memory.

    Returns:
        The span, or None where the factor or the model has none, or it does not fit.
    """
    if not isinstance(factor, RowSpace):
        return None
    room = available(limit, factor.rows.device)
    if limit is None:
        room //= ranks.neighbours
    else:
        room -= predict_memory("row", *factor.rows.shape).held
    if COPIES * 8 * factor.rows.numel() + 4 * CHUNK_BYTES > room:
        return None
    return feature_span_of_rows(model, factor, tolerance)
