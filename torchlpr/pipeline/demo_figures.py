"""The figures of the demo."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_change import lpr_before_after
from torchlpr.analysis.plots_classes import map_by_class
from torchlpr.analysis.plots_fit import parity
from torchlpr.analysis.plots_maps import map_by_lpr
from torchlpr.analysis.plots_rigidity import lpr_against_mu
from torchlpr.pipeline.demo_report import HeadReport

__all__ = ["demo_figures"]


def demo_figures(folder: Path, report: HeadReport, coordinates: Tensor, explained: Tensor) -> None:
    """Maps before and after, LPR by coordination, parity, and LPR over mu.

    Args:
        folder: where to write maps.png, coordination.png, parity.png and mu.png.
        report: of one head.
        coordinates: map of the atoms of the held-out cells with defects, shape (atoms, 2).
        explained: share of the variance of each component.
    """
    before, after = report.before.prediction.lpr, report.after.prediction.lpr
    both = torch.cat([before, after]).log10()
    limits = float(both.min()), float(both.max())
    fig, axes = figure(1, 3)
    map_by_class(axes[0, 0], coordinates, report.classes, explained=explained)
    for ax, lpr, title in ((axes[0, 1], before, "before"), (axes[0, 2], after, "after")):
        map_by_lpr(ax, coordinates, lpr, limits=limits, on_top="low", explained=explained)
        ax.set_title(f"{title}: {report.name} model")
    save_figure(fig, folder / "maps.png")
    fig, axes = figure()
    lpr_before_after(axes[0, 0], before, after, report.classes)
    save_figure(fig, folder / "coordination.png")
    fig, axes = figure(1, 2)
    for ax, stage, title in (
        (axes[0, 0], report.before, "before"),
        (axes[0, 1], report.after, "after"),
    ):
        parity(ax, stage.energies)
        ax.set_title(f"{title}: {report.name} model")
    save_figure(fig, folder / "parity.png")
    if report.scan is not None:
        fig, axes = figure(1, 2, panel=(6.0, 3.5))
        lowest, highest = (
            float(min(map(torch.min, report.scan))),
            float(max(map(torch.max, report.scan))),
        )
        for ax, lpr, title in zip(axes[0], report.scan, ("before", "after"), strict=True):
            lpr_against_mu(ax, report.mus, lpr, report.classes, chosen=report.search.best)
            ax.set(title=f"{title}: {report.name} model", ylim=(lowest, highest))
        save_figure(fig, folder / "mu.png")
