"""Evaluations of many gradients, chunk by chunk, each rank its own and all of them joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from torchlpr.curvature import Factor, load_factor
from torchlpr.curvature.column_space import ColumnSpace
from torchlpr.curvature.factor import check_finite
from torchlpr.curvature.row_space import RowSpace
from torchlpr.curvature.subsets import Subset
from torchlpr.ranks import Ranks

__all__ = ["Fields", "collect_shared", "evaluate_shared", "load_shared"]

Fields = tuple[Tensor, ...]


def evaluate_shared(
    evaluate: Callable[[Tensor], Fields],
    chunks: Iterator[Tensor],
    factor: Factor,
    ranks: Ranks,
) -> list[Tensor]:
    """Evaluate this rank's chunks and join the results of all ranks.

    Args:
        evaluate: gradients of shape (k, P) to fields of shape (..., k).
        chunks: this rank's gradients, at least one chunk, possibly empty.
        factor: what evaluates them; with shared columns the ranks go in step.
        ranks: the processes.

    Returns:
        Each field for the gradients of all ranks in order, on every rank.
    """
    if not isinstance(factor, ColumnSpace):
        return collect_shared(map(evaluate, chunks), ranks)
    parts: list[Fields] = []
    finite = (check_finite("gradient", chunk) for chunk in chunks)
    nothing = torch.empty(0, factor.n_parameters, dtype=torch.float64, device=factor.mu.device)
    for chunk in ranks.rounds(finite):
        with ranks.agreed():
            parts.append(evaluate(nothing if chunk is None else chunk))
    return _joined(parts, ranks)


def collect_shared(results: Iterator[Fields], ranks: Ranks) -> list[Tensor]:
    """Join results that each rank comes to by itself.

    Args:
        results: this rank's fields of shape (..., k), chunk by chunk, at least one.
        ranks: the processes.

    Returns:
        Each field of all ranks in order, on every rank.
    """
    with ranks.agreed():
        parts = list(results)
    return _joined(parts, ranks)


def _joined(parts: list[Fields], ranks: Ranks) -> list[Tensor]:
    fields = [torch.cat(field, dim=-1) for field in zip(*parts, strict=True)]
    return list(ranks.gather(torch.stack(fields), dim=-1))


def load_shared(
    state: Mapping[str, Tensor], model: nn.Module, subset: Subset, ranks: Ranks
) -> Factor:
    """Rebuild a factor from its ``state_dict``, sharing what was shared.

    Args:
        state: as saved, the same on all ranks.
        model: the model that the rows of a matrix-free factor are derivatives of.
        subset: the weights that they are derivatives by.
        ranks: the processes.

    Returns:
        The factor.
    """
    factor = load_factor(state, model, subset)
    if "shared" in state and ranks.size > 1 and isinstance(factor, RowSpace):
        return ColumnSpace.of(factor, ranks)
    return factor
