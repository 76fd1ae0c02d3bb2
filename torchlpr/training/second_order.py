"""Levenberg-Marquardt with a log and a save point, in the precision it needs."""

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
from torchlpr.training.levenberg_marquardt import LMSettings, LMState, levenberg_marquardt
from torchlpr.training.resume import SavePoint, fingerprint

__all__ = ["train_second_order"]

COLUMNS = ("step", "loss", "gradient_norm", "damping")


def train_second_order(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    settings: LMSettings | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> list[tuple[float, ...]]:
    """Run Levenberg-Marquardt in float64 and give the weights back to the model.

    Args:
        model: maps (features, types) to atomic energies; changed in place.
        batch: training structures with energies.
        objective: the loss.
        settings: when to stop.
        out: folder for the log ``steps.csv`` and the save point; None keeps all in memory.
        progress: whether to show a bar.

    Returns:
        One row a step: step, loss (eV^2), |grad|, damping.
    """
    settings = settings or LMSettings()
    twin = copy.deepcopy(model).to(torch.float64)
    state, save = None, None
    if out is not None:
        mark = fingerprint(model, batch, objective, settings)
        save = SavePoint(make_folder(out) / "training.lm", mark)
        stored = save.load()
        state = None if stored is None else LMState(**stored)
    state = levenberg_marquardt(
        twin,
        batch.to(dtype=torch.float64),
        objective,
        settings,
        state,
        progress,
        None if save is None else lambda s: save.save(asdict(s)),
    )
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
