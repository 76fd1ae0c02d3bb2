"""The Gauss-Newton Hessian of structures that are shared among ranks, the same on any number."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from torchlpr.curvature.accumulators import Accumulator, RowAccumulator, TriangleAccumulator
from torchlpr.curvature.column_space import ColumnSpace
from torchlpr.curvature.factor import Factor, regulariser_vector
from torchlpr.curvature.gauss_newton import Shape, choose_shape
from torchlpr.curvature.gradients import CHUNK_BYTES, parameter_count
from torchlpr.curvature.memory import ShapeName, fitting_shape, predict_memory
from torchlpr.curvature.row_chunks import training_row_chunks
from torchlpr.curvature.row_matrix import Gram
from torchlpr.curvature.streaming import accumulate, accumulate_batch
from torchlpr.curvature.subsets import Subset
from torchlpr.curvature.triangles import fold_rows
from torchlpr.errors import InputError
from torchlpr.free_memory import format_bytes, memory_limit
from torchlpr.objective import Objective
from torchlpr.ranks import Ranks, even_shares
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.sharing import share_of_structures

__all__ = ["accumulate_shared", "build_shared", "choose_shared_shape", "merged", "shared_limit"]


def shared_limit(limit: int | None, device: torch.device, ranks: Ranks) -> int:
    """Bytes that each rank may use: the least that any rank has.

    Args:
        limit: as the user gave it, for one rank; None takes three quarters of what is free,
            of which the ranks of one machine have equal parts.
        device: whose memory.
        ranks: the processes.

    Returns:
        The limit in bytes, the same on all ranks.
    """
    with ranks.agreed():
        mine = memory_limit(limit, device)
    if limit is None and device.type == "cpu":
        mine //= ranks.neighbours
    return min(ranks.counts(mine))


def choose_shared_shape(
    n_rows: int, n_parameters: int, ranks: Ranks, limit: int
) -> tuple[Shape, str]:
    """The shape that :func:`choose_shape` takes, or columns where row space fits in them only.

    Args:
        n_rows: number M of rows.
        n_parameters: number P of weights.
        ranks: the processes.
        limit: bytes of each rank.

    Returns:
        The shape and the reason in words.
    """
    shape, why = choose_shape(n_rows, n_parameters, memory_limit=limit)
    cheapest = "row" if n_rows <= n_parameters else "parameter"
    needs = _column_memory(n_rows, n_parameters, ranks)
    if shape == cheapest or ranks.size == 1 or needs > limit:
        return shape, f"{why}, {ranks.size} ranks"
    return "column", (
        f"{n_rows} rows, {n_parameters} parameters: the rows do not fit into one process; each of "
        f"{ranks.size} ranks has its columns of them (at least {format_bytes(needs)})"
    )


def build_shared(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    shape: Shape,
    ranks: Ranks,
    limit: int,
    subset: Subset,
) -> Factor:
    """Factorise with each rank making the rows of its own structures.

    Args:
        model: maps (features, types) to atomic energies, the same on all ranks.
        batch: all training structures, the same on all ranks.
        objective: gives the row weights and mu.
        shape: "row": every rank ends with all rows; "parameter": with the merged triangle;
            "column": with its columns of all rows.
        ranks: the processes.
        limit: bytes of each rank.
        subset: the weights to differentiate by.

    Returns:
        The factor, the same on all ranks ("column": this rank's part of it).

    Raises:
        InputError: with sizes, if it does not fit.
    """
    mine = share_of_structures(batch, ranks)
    if shape == "column":
        return _build_columns(model, mine, objective, ranks, limit, subset)
    exact: ShapeName = "row" if shape == "row" else "parameter"
    with ranks.agreed():
        fitting_shape((exact,), objective.n_rows(batch), len(subset), limit)
        if mine.n_structures:
            part = accumulate_batch(model, mine, objective, exact, limit, subset=subset)
        else:
            part = empty_accumulator(exact, len(subset), batch.features.device)
    return merged(part, ranks).factor(objective.mu)


def empty_accumulator(shape: ShapeName, n_parameters: int, device: torch.device) -> Accumulator:
    """An accumulator without rows."""
    return (RowAccumulator if shape == "row" else TriangleAccumulator)(n_parameters, device)


def merged(part: Accumulator, ranks: Ranks) -> Accumulator:
    """The accumulators of all ranks as one, on every rank.

    Rows are joined in the order of the ranks, and each rank multiplies its own with all of them
    for the Gram matrix. Triangles are merged by QR as a tree, two by two.

    Args:
        part: this rank's.
        ranks: the processes.

    Returns:
        An accumulator of all rows.
    """
    if ranks.size == 1:
        return part
    if isinstance(part, RowAccumulator):
        rows = ranks.gather(part.rows)
        whole = RowAccumulator(part.n_parameters, rows.device)
        whole.load_state_dict({"rows": rows})
        whole.gram = Gram(whole.rows, ranks.gather(part.rows @ rows.mT))
        return whole
    state = part.state_dict()
    triangle = TriangleAccumulator(part.n_parameters, state["added"].device)
    triangle.load_state_dict({
        "added": ranks.combine(state["added"], fold_rows),
        "removed": ranks.combine(state["removed"], fold_rows),
        "counts": ranks.sum(state["counts"]),
    })
    return triangle


def accumulate_shared(
    model: nn.Module,
    batches: Iterable[AtomBatch],
    objective: Objective,
    shape: ShapeName,
    ranks: Ranks,
    checkpoint: str | Path | None = None,
    limit: int | None = None,
    subset: Subset | None = None,
) -> Accumulator:
    """Add the rows of batches of which each rank has its own.

    Args:
        model: maps (features, types) to atomic energies, the same on all ranks.
        batches: this rank's training structures, possibly none.
        objective: gives the row weights; mu plays no part.
        shape: "row" or "parameter".
        ranks: the processes.
        checkpoint: file that keeps the state, see :func:`accumulate`; each rank adds its number
            to the name.
        limit: bytes of each rank.
        subset: the weights to differentiate by, None for all.

    Returns:
        An accumulator of the rows of all ranks.

    Raises:
        InputError: as :func:`accumulate`, and if no rank has any batch.
    """
    if ranks.size == 1:
        return accumulate(model, batches, objective, shape, checkpoint, limit, subset)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        path = path.with_name(f"{path.stem}-{ranks.rank}-of-{ranks.size}{path.suffix}")
    bytes_ = shared_limit(limit, next(iter(model.parameters())).device, ranks)
    with ranks.agreed():
        mine = iter(batches)
        ahead = next(mine, None)
        if ahead is None:
            device = next(iter(model.parameters())).device
            n_parameters = parameter_count(model) if subset is None else len(subset)
            part = empty_accumulator(shape, n_parameters, device)
        else:
            everything = chain([ahead], mine)
            part = accumulate(model, everything, objective, shape, path, bytes_, subset)
    whole = merged(part, ranks)
    if not whole.n_rows:
        raise InputError("there are no batches to accumulate; give at least one to some rank")
    return whole


def _column_memory(n_rows: int, n_parameters: int, ranks: Ranks) -> int:
    """Bytes of one rank in columns: its block, and chunks that are made, sent and received."""
    block = -(-n_parameters // ranks.size)
    chunk = max(CHUNK_BYTES, 8 * n_parameters)
    return predict_memory("row", n_rows, block).peak + 5 * chunk


def _build_columns(
    model: nn.Module,
    mine: AtomBatch,
    objective: Objective,
    ranks: Ranks,
    limit: int,
    subset: Subset,
) -> ColumnSpace:
    """Rows are made a chunk at a time and exchanged, so that none holds a second copy."""
    counts, p = ranks.counts(objective.n_rows(mine)), len(subset)
    if (needs := _column_memory(sum(counts), p, ranks)) > limit:
        raise InputError(
            f"{sum(counts)} rows of {p} parameters in columns on {ranks.size} ranks need "
            f"{format_bytes(needs)} on each, more than the memory limit of {format_bytes(limit)}: "
            "start more ranks, or raise memory_limit"
        )
    columns = even_shares(p, ranks.size)
    rows = mine.features.new_empty(
        sum(counts), len(range(p)[columns[ranks.rank]]), dtype=torch.float64
    )
    places = [sum(counts[:rank]) for rank in range(ranks.size)]
    size = max(1, CHUNK_BYTES // (8 * p))
    made = training_row_chunks(model, mine, objective, size, subset) if len(mine) else ()
    for chunk in ranks.rounds(rows for _, rows in made):
        whole: Tensor = rows.new_empty(0, p) if chunk is None else chunk
        for rank, block in enumerate(ranks.exchange([whole[:, part] for part in columns])):
            rows[places[rank] : places[rank] + len(block)] = block
            places[rank] += len(block)
    mu = regulariser_vector(objective.mu, rows)
    return ColumnSpace(rows, mu, p, ranks)
