"""The figure of a study that replaces structures: the paper's panels (a) to (d)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from torchlpr.analysis.figures import figure_of_rows, save_figure
from torchlpr.analysis.plots_change import lpr_before_after
from torchlpr.analysis.plots_classes import map_by_class
from torchlpr.analysis.plots_committee import committee_parity, variance_ratio
from torchlpr.analysis.plots_maps import map_by_lpr
from torchlpr.studies.exchange_results import HeadResult

__all__ = ["exchange_figure"]


def exchange_figure(path: Path, result: HeadResult, variant: str, zero: str) -> None:
    """Maps by class and by rigidity, ratios, and members against their mean.

    Args:
        path: of the figure.
        result: of one head.
        variant: the training set after.
        zero: what local energies are relative to.
    """
    before, after = result.before, result.stages[variant]
    logs = torch.cat([before.lpr, after.lpr]).log10()
    low, high = np.percentile(logs, [0.5, 99.5])
    limits = float(low), float(high)
    span = _span(torch.stack([before.members, after.members]))
    fig, axes = figure_of_rows(4, 2, panel=(5.2, 3.7))
    points, explained = result.coordinates, result.explained
    map_by_class(axes[0, 0], points, result.classes, explained=explained)
    axes[0, 0].set_title("(a)", loc="left")
    lpr_before_after(axes[0, 1], before.lpr, after.lpr, result.classes)
    for column, (stage, name) in enumerate(((before, "before"), (after, f"after: {variant}"))):
        ax = axes[1, column]
        map_by_lpr(ax, points, stage.lpr, limits=limits, explained=explained, on_top="low")
        ax.set_title(f"(b) {name}", loc="left")
        ax = axes[3, column]
        text = f"atomic energy − {zero}" if zero else "atomic energy"
        committee_parity(ax, stage.members, stage.lpr, limits=limits, label=text, span=span)
        ax.set_title(f"(d) {name}", loc="left")
    for ax, kind, name in (
        (axes[2, 0], "members", f"{len(after.members)} members, subsampled"),
        (axes[2, 1], "drawn", f"{after.many} members, sample-then-optimise"),
    ):
        ratio = after.variance(kind) / before.variance(kind)
        variance_ratio(ax, after.lpr / before.lpr, ratio, result.classes)
        ax.set_title(f"(c) {name}", loc="left")
    save_figure(fig, path)


def _span(energies: torch.Tensor) -> tuple[float, float]:
    low, high = float(energies.min()), float(energies.max())
    margin = 0.03 * (high - low)
    return low - margin, high + margin
