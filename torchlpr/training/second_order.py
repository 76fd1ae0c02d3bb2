"""Levenberg-Marquardt, then Newton, with a log and a save point, in the precision they need."""

from __future__ import annotations

import copy
import csv
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.files import atomic_path, make_folder
from torchlpr.free_memory import format_bytes, memory_limit
from torchlpr.models.compression import Compression, compress
from torchlpr.models.mlp import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.levenberg_marquardt import levenberg_marquardt
from torchlpr.training.newton import PRODUCTS, newton
from torchlpr.training.problem import Problem
from torchlpr.training.resume import SavePoint, fingerprint
from torchlpr.training.second_order_state import COLUMNS, LMSettings, SecondOrderState

__all__ = ["train_second_order"]

# the minimum is found in the features' directions that vary by more than this share of the largest,
# half of all or less, and then once more in all of them, from a gradient of this share of mu|w|
LEADING, GOOD_START = 1e-4, 1e-3


def train_second_order(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    settings: LMSettings | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> SecondOrderState:
    """Minimise in float64 and give the weights back to the model.

    Args:
        model: maps (features, types) to atomic energies; changed in place, and asked in
            evaluation mode.
        batch: training structures with energies.
        objective: the loss.
        settings: when to stop.
        out: folder for the log ``steps.csv`` and the save point; None keeps all in memory.
        progress: whether to show bars.

    Returns:
        What was reached. Its history has one row a step: step, phase (0 Levenberg-Marquardt,
        1 Newton), loss (eV^2), |grad|, damping, radius (eV), Hessian-vector products so far.
    """
    settings = settings or LMSettings()
    twin = copy.deepcopy(model).to(torch.float64).requires_grad_(True).eval()
    data = batch.to(dtype=torch.float64)
    if not objective.force_weight:
        data = replace(data, forces=None, derivatives=None)
    save, stored = None, None
    if out is not None:
        mark = fingerprint(model, batch, objective, settings)
        save = SavePoint(make_folder(out) / "training.lm", mark)
        stored = save.load()
    if stored is not None:  # files hold tensors of the CPU
        stored["weights"] = stored["weights"].to(data.features.device)
    # the basis is not unique: stored weights are worth nothing without theirs
    small = compress(twin, data) if stored is None else _again(twin, data, stored.pop("basis"))
    stages = _stages(small, objective)
    state = SecondOrderState(**stored) if stored else None

    def keep(state: SecondOrderState, now: bool = False) -> None:
        if save is not None:
            save.save(asdict(state) | {"basis": small and small.basis}, now)

    for stage, part in enumerate(stages):
        if state is not None and stage < state.stage:
            continue
        if part is not None:
            part.enter(twin)
        problem = Problem(*((part.model, part.batch) if part else (twin, data)), objective)
        _check_memory(problem)
        if state is None:
            state = SecondOrderState(problem.weights)
        elif stage > state.stage:
            state.weights, state.stage, state.ends = problem.weights, stage, None
            state.done = state.used_up(settings)
        last = stage == len(stages) - 1
        near = settings.tolerance if last else max(settings.tolerance, GOOD_START)
        goal = replace(settings, tolerance=near)
        levenberg_marquardt(problem, state, goal, progress, keep)
        newton(problem, state, goal, progress, keep, prove=last)
        if part is not None:
            part.expand(twin)
            if state.ends is not None:  # beyond the span both Hessians are mu
                state.ends = min(state.ends[0], 1.0), max(state.ends[1], 1.0)
    assert state is not None
    if save is not None:
        keep(state, now=True)
        _write_log(save.path.with_name("steps.csv"), state.history)
    model.load_state_dict(twin.state_dict())
    return state


def _check_memory(problem: Problem) -> None:
    """Refuse rows that do not fit into memory twice over, before the first step."""
    rows, width = problem.objective.n_rows(problem.batch), problem.weights.numel()
    needed = 8 * width * (2 * rows + 7 * min(rows, width) + PRODUCTS)
    limit = memory_limit(device=problem.batch.features.device)
    if needed > limit:
        raise InputError(
            f"a step with {rows} rows of {width} parameters takes {format_bytes(needed)}, more "
            f"than the {format_bytes(limit)} that may be used; train by optimizer='adam', on fewer "
            "structures or with fewer parameters"
        )


def _again(model: nn.Module, batch: AtomBatch, basis: Tensor | None) -> Compression | None:
    """The compression of an interrupted run."""
    if basis is None or not isinstance(model, BehlerParrinelloMLP):
        return None
    return Compression.of(model, batch, basis.to(batch.features.device))


def _stages(small: Compression | None, objective: Objective) -> list[Compression | None]:
    """First the directions along which features vary most, where only energies weigh; then all."""
    if small is None or objective.force_weight:
        return [small]
    coarse = small.leading(LEADING)
    return [small] if coarse is None else [coarse, small]


def _write_log(path: Path, rows: list[tuple[float, ...]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
