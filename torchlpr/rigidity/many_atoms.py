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
from torchlpr.curvature.deflated_rows import DeflatedRows
from torchlpr.curvature.gradients import CHUNK_BYTES
from torchlpr.curvature.memory import predict_memory
from torchlpr.errors import InputError
from torchlpr.free_memory import format_bytes
from torchlpr.free_memory import memory_limit as available
from torchlpr.ranks import Ranks
from torchlpr.structures.batch import AtomBatch

__all__ = ["rows_in_float32", "same_environments", "span_pays", "span_within"]

SPAN_ATOMS = 4  # times the number of features and of rows: from there on their span pays
COPIES = 3  # of the rows, while the span is found or they are made float32


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
    model: nn.Module,
    factor: Factor,
    tolerance: float,
    limit: int | None,
    ranks: Ranks,
    float32_error: float = 0.0,
) -> FeatureSpan | None:
    """The span of the training features, where it fits into memory.

    Args:
        model: the network.
        factor: of the rows of all its weights.
        tolerance: largest relative error of g^T H^-1 g that may be made.
        limit: bytes with the factor, or None for three quarters of what is free beside it.
        ranks: the processes, of which those on one machine share its memory.
        float32_error: largest error that products in float32 may make, zero for none.

    Returns:
        The span, or None where the factor or the model has none, or it does not fit.
    """
    if not isinstance(factor, RowSpace) or _copies(factor) > _room(factor, limit, ranks):
        return None
    return feature_span_of_rows(model, factor, tolerance, float32_error)


def rows_in_float32(
    factor: RowSpace, error: float, limit: int | None, ranks: Ranks
) -> DeflatedRows:
    """Rows whose products with gradients are taken in float32.

    Args:
        factor: in row space.
        error: largest error that it may make.
        limit: bytes with the factor, or None for three quarters of what is free beside it.
        ranks: the processes, of which those on one machine share its memory.

    Returns:
        The rows.

    Raises:
        InputError: if they do not fit into memory.
    """
    needs, room = _copies(factor), _room(factor, limit, ranks)
    if needs > room:
        raise InputError(
            f"rows in float32 take {format_bytes(needs)} while they are made and "
            f"{format_bytes(room)} are to be had; raise memory_limit or leave float32_error at 0"
        )
    return DeflatedRows(factor, error)


def _copies(factor: RowSpace) -> int:
    return COPIES * 8 * factor.rows.numel() + 4 * CHUNK_BYTES


def _room(factor: RowSpace, limit: int | None, ranks: Ranks) -> int:
    """Bytes beside the factor."""
    room = available(limit, factor.rows.device)
    if limit is None:
        return room // ranks.neighbours
    return room - predict_memory("row", *factor.rows.shape).held
