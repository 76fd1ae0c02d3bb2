"""The figures a command leaves behind; without matplotlib there are none, and no error."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_fit import parity
from torchlpr.analysis.plots_learning import Quantity, Series, learning_curve
from torchlpr.export import Run
from torchlpr.structures.batch import AtomBatch
from torchlpr.training import FitResult
from torchlpr.training.errors import force_errors

__all__ = ["fit_figures", "have_chemiscope", "have_plots"]


def have_plots() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def have_chemiscope() -> bool:
    """Whether chemiscope is there."""
    return find_spec("chemiscope") is not None


def fit_figures(
    folder: Path,
    run: Run,
    batches: dict[str, AtomBatch],
    result: FitResult,
) -> None:
    """Parity plots and learning curve, as far as a fit has them.

    Args:
        folder: where to write parity.png, force_parity.png and learning.png.
        run: the finished run.
        batches: train, validation and test, baseline subtracted.
        result: of the fit.
    """
    if not have_plots():
        return
    fig, axes = figure()
    parity(axes[0, 0], {name: _per_atom(run, batch) for name, batch in batches.items()})
    save_figure(fig, folder / "parity.png")
    if run.rigidity.objective.force_weight:
        fig, axes = figure()
        parity(axes[0, 0], {name: _forces(run, b) for name, b in batches.items()}, "force")
        save_figure(fig, folder / "force_parity.png")
    if result.epochs or result.steps:
        curves = _curves(result)
        fig, axes = figure(1, len(curves))
        for ax, (quantity, series) in zip(axes[0], curves.items(), strict=True):
            learning_curve(ax, series, quantity)
        save_figure(fig, folder / "learning.png")


def _per_atom(run: Run, batch: AtomBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference and predicted energies per atom, baseline added back."""
    model = run.rigidity.model
    with torch.no_grad():
        local = model(batch.features.to(next(model.parameters()).dtype), batch.types)
    totals = torch.zeros(batch.n_structures, dtype=torch.float64)
    totals.index_add_(0, batch.structure, local.to(torch.float64))
    base = run.baseline.totals(batch)
    return (batch.labels() + base) / batch.counts, (totals + base) / batch.counts


def _forces(run: Run, batch: AtomBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference and predicted components of the forces; the baseline exerts none."""
    errors = force_errors(run.rigidity.model, batch)
    assert batch.forces is not None  # training on forces has asked for them
    assert errors is not None
    reference = batch.forces[batch.has_forces[batch.structure]]
    return reference.reshape(-1), (reference + errors).reshape(-1)


def _curves(result: FitResult) -> dict[Quantity, Series]:
    """What was logged, by the panel that it belongs to."""
    if not result.epochs:
        table = np.array(result.steps)
        return {"energy": {"train loss": (table[:, 0], table[:, 2])}}
    table = np.array(result.epochs)
    rate = "step length" if result.optimizer == "lbfgs" else "lr"
    columns: dict[Quantity, dict[str, int]] = {
        "energy": {"train loss": 1, "train rmse": 2, "validation rmse": 3, rate: 4},
        "force": {"train rmse": 5, "validation rmse": 6},
    }
    if table.shape[1] < 6:
        del columns["force"]
    return {
        quantity: {n: (table[:, 0], table[:, k]) for n, k in names.items() if _known(table[:, k])}
        for quantity, names in columns.items()
    }


def _known(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).any())
