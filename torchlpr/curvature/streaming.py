"""Rows of structures, batch by batch into an accumulator; a killed stream goes on where it was."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from torchlpr.curvature.accumulators import Accumulator, RowAccumulator, TriangleAccumulator
from torchlpr.curvature.gradients import parameter_count
from torchlpr.curvature.memory import (
    ShapeName,
    evaluation_chunk,
    fitting_shape,
    gradient_copies,
)
from torchlpr.curvature.row_chunks import training_row_chunks
from torchlpr.curvature.subsets import Subset
from torchlpr.errors import InputError
from torchlpr.free_memory import memory_limit
from torchlpr.models.state import architecture
from torchlpr.objective import Objective
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.batch import AtomBatch

__all__ = ["accumulate", "accumulate_batch"]

SAVE_SECONDS = 15.0


def accumulate_batch(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    shape: ShapeName,
    limit: int | None = None,
    into: Accumulator | None = None,
    subset: Subset | None = None,
) -> Accumulator:
    """Add the rows of a batch, a few structures at a time.

    Args:
        model: maps (features, types) to atomic energies.
        batch: training structures; their labels are not used.
        objective: gives the row weights.
        shape: "row" or "parameter".
        limit: bytes, by default three quarters of what is free.
        into: accumulator to add to, by default an empty one.
        subset: the weights to differentiate by, None for all.

    Returns:
        The accumulator.

    Raises:
        InputError: with sizes and alternatives, before anything is allocated, if it does not
            fit.
    """
    n_parameters = parameter_count(model) if subset is None else len(subset)
    device = batch.features.device
    own = objective.n_rows(batch)
    n_rows = own + (0 if into is None else into.n_rows)
    bytes_ = memory_limit(limit, device)
    fitting_shape((shape,), n_rows, n_parameters, bytes_)
    if into is None:
        cls = RowAccumulator if shape == "row" else TriangleAccumulator
        into = cls(n_parameters, device, own)
    copies = gradient_copies(model)
    size = max(1, evaluation_chunk(shape, n_rows, n_parameters, bytes_, copies))
    chunks = (rows for _, rows in training_row_chunks(model, batch, objective, size, subset))
    for rows in chunks if shape == "row" else _gathered(chunks, own, max(n_parameters, 1024)):
        into.update(rows)
    return into


def _gathered(chunks: Iterable[Tensor], n_rows: int, height: int) -> Iterator[Tensor]:
    """The same rows in blocks of a given height: few high blocks are factorised faster.

    Yields:
        The blocks; each is overwritten by the next.
    """
    block, filled = torch.empty(0), 0
    for chunk in chunks:
        if not len(block):
            block = chunk.new_empty(min(n_rows, height), chunk.shape[1])
        while len(chunk):
            rows, chunk = chunk.tensor_split([len(block) - filled])
            block[filled : filled + len(rows)] = rows
            filled += len(rows)
            if filled == len(block):
                yield block
                filled = 0
    if filled:
        yield block[:filled]


def accumulate(
    model: nn.Module,
    batches: Iterable[AtomBatch],
    objective: Objective,
    shape: ShapeName,
    checkpoint: str | Path | None = None,
    limit: int | None = None,
    subset: Subset | None = None,
) -> Accumulator:
    """Add the rows of many batches, and be resumable.

    Called again with the same arguments after a kill it skips the batches that are in the
    checkpoint, and ends in the same last bit. The checkpoint is written whole or not at all,
    at most every 15 seconds, and at the end.

    Args:
        model: maps (features, types) to atomic energies.
        batches: training structures, in the same order in every call.
        objective: gives the row weights; mu plays no part.
        shape: "row" where the rows will be fewer than the weights, else "parameter".
        checkpoint: file that keeps the state.
        limit: bytes, by default three quarters of what is free.
        subset: the weights to differentiate by, None for all.

    Returns:
        The accumulator.

    Raises:
        InputError: if the checkpoint is of another model, objective, shape, choice of weights or
            order of batches, or there are no batches; or the shape keeps no sums of rows.
    """
    if shape not in get_args(ShapeName):
        raise InputError(
            f"shape {shape!r} needs the whole training set at once; batches are added up in shape "
            "'row' or 'parameter'"
        )
    path = None if checkpoint is None else Path(checkpoint)
    settings = {k: v for k, v in objective.as_dict().items() if k != "mu"}
    what: list[object] = [settings, shape, architecture(model)]
    if subset is not None and len(subset) < subset.total:
        what.append(subset.spans)
    mark = _digest(json.dumps(what), *model.state_dict().values())
    device = next(iter(model.parameters())).device
    n_parameters = parameter_count(model) if subset is None else len(subset)
    into, done, reached = _resume(path, n_parameters, shape, device)
    last, count = time.monotonic(), 0
    for batch in batches:
        mark = _digest(mark, *_read_by_rows(batch, objective))
        count += 1
        if count < done:
            continue
        if count == done:
            _same(path, mark, reached)
            continue
        into = accumulate_batch(model, batch, objective, shape, limit, into, subset)
        if path is not None and time.monotonic() - last >= SAVE_SECONDS:
            _save(path, into, count, mark)
            last = time.monotonic()
    if count < done:
        _same(path, mark, reached)
    if into is None:
        raise InputError("there are no batches to accumulate; give at least one")
    if path is not None and count > done:
        _save(path, into, count, mark)
    return into


def _read_by_rows(batch: AtomBatch, objective: Objective) -> list[Tensor]:
    """What the rows of a batch depend on."""
    tensors = [batch.features, batch.types, batch.structure]
    atoms = objective.force_atoms(batch)
    if batch.derivatives is not None and len(atoms):
        d = batch.derivatives
        tensors += [atoms, d.centre, d.moved, d.values]
    return tensors


def _resume(
    path: Path | None, n_parameters: int, shape: ShapeName, device: torch.device
) -> tuple[Accumulator | None, int, str]:
    """Accumulator, number of batches in it, and the mark after them."""
    if path is None:
        return None, 0, ""
    stale = re.compile(r"\.[0-9a-f]{32}\." + re.escape(path.name))
    for file in path.parent.glob(".*"):  # left by a process that was killed while it wrote
        if stale.fullmatch(file.name):
            file.unlink()
    if not path.exists():
        return None, 0, ""
    content = read_document(path, "accumulator")
    if content["kind"] != shape or content["n_parameters"] != n_parameters:
        raise InputError(
            f"{path} holds rows of {content['n_parameters']} parameters in shape "
            f"{content['kind']!r}, not {n_parameters} in {shape!r}; remove it to start anew"
        )
    into = (RowAccumulator if shape == "row" else TriangleAccumulator)(n_parameters, device)
    into.load_state_dict(content["state"])
    return into, content["batches"], content["mark"]


def _same(path: Path | None, mark: str, reached: str) -> None:
    if mark != reached:
        raise InputError(
            f"{path} was begun with another model, objective or order of batches, or for other "
            "weights; give the same ones, or remove it to start anew"
        )


def _save(path: Path, into: Accumulator, batches: int, mark: str) -> None:
    content = {
        "kind": into.kind,
        "n_parameters": into.n_parameters,
        "state": into.state_dict(),
        "batches": batches,
        "mark": mark,
    }
    write_document(path, "accumulator", content)


def _digest(start: str, *tensors: Tensor) -> str:
    digest = hashlib.sha256(start.encode())
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
