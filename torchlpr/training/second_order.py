"""Levenberg-Marquardt, then Newton, with a log and a save point, in the precision they need."""

from __future__ import annotations

import copy
import csv
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from torchlpr.files import atomic_path, make_folder
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.levenberg_marquardt import levenberg_marquardt
from torchlpr.training.newton import newton
from torchlpr.training.problem import Problem
from torchlpr.training.resume import SavePoint, fingerprint
from torchlpr.training.second_order_state import COLUMNS, LMSettings, SecondOrderState

__all__ = ["train_second_order"]


def train_second_order(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    settings: LMSettings | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> list[tuple[float, ...]]:
    """Minimise in float64 and give the weights back to the model.

    Args:
        model: maps (features, types) to atomic energies; changed in place.
        batch: training structures with energies.
        objective: the loss.
        settings: when to stop.
        out: folder for the log ``steps.csv`` and the save point; None keeps all in memory.
        progress: whether to show bars.

    Returns:
        One row a step: step, phase (0 Levenberg-Marquardt, 1 Newton), loss (eV^2), |grad|,
        damping, radius (eV), Hessian-vector products so far.
    """
    settings = settings or LMSettings()
    twin = copy.deepcopy(model).to(torch.float64).requires_grad_(True)
    problem = Problem(twin, batch.to(dtype=torch.float64), objective)
    state, save = SecondOrderState(problem.weights), None
    if out is not None:
        mark = fingerprint(model, batch, objective, settings)
        save = SavePoint(make_folder(out) / "training.lm", mark)
        stored = save.load()
        state = state if stored is None else SecondOrderState(**stored)
    on_step = None if save is None else lambda s: save.save(asdict(s))
    levenberg_marquardt(problem, state, settings, progress, on_step)
    newton(problem, state, settings, progress, on_step)
    if save is not None:
        save.save(asdict(state), now=True)
        _write_log(save.path.with_name("steps.csv"), state.history)
    model.load_state_dict(twin.state_dict())
    return state.history


def _write_log(path: Path, rows: list[tuple[float, ...]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
