"""The figures of the spline study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.studies.spline_data import SplineFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from torchlpr.studies.toy_data import Floats

__all__ = ["convergence_figure", "panels_figure"]

LEGEND = (
    "orange marks: the x in the training sums;\nf itself is never shown to the network,\n"
    "only sums of it at random x"
)


def panels_figure(path: Path, fits: Sequence[SplineFit]) -> None:
    """f(x) of one seed for every number of sums, as in Fig. S4.

    Args:
        path: of the figure.
        fits: of one seed.
    """
    fig, axes = figure(-(-len(fits) // 2), 2, panel=(4.4, 2.4))
    blue, orange = class_style(0)[0], class_style(1)[0]
    low = min(float(fit.truth.min()) for fit in fits) - 0.5
    for number, (ax, fit) in enumerate(zip(axes.flat, fits, strict=False)):
        ax.plot(fit.x, fit.truth, color="0.2", linestyle="--", linewidth=1.2, label="f")
        ax.plot(fit.x, fit.prediction, color=blue, linewidth=1.6, label="network")
        ax.plot(fit.train_x, np.full(len(fit.train_x), low), "|", color=orange, markersize=7)
        ax.set(ylim=(low - 0.1, 1.7), ylabel="f(x)")
        ax.set_title(
            f"N = {fit.size}: RMSE of f {fit.rmse:.2g}, median LPR {float(fit.lpr.median()):.2g}",
            fontsize="medium",
        )
        if number + 2 >= len(fits):  # nothing below it
            ax.set_xlabel("x")
    axes[0, 0].legend(loc="upper center", frameon=False, ncols=2)
    for ax in axes.flat[len(fits) :]:
        ax.axis("off")
        ax.text(0.05, 0.5, LEGEND, va="center", transform=ax.transAxes)
    save_figure(fig, path)


def convergence_figure(path: Path, fits: Sequence[SplineFit]) -> None:
    """Errors and rigidity against the number of sums.

    Args:
        path: of the figure.
        fits: all of them.
    """
    fig, ((left, right),) = figure(1, 2)
    sizes = sorted({fit.size for fit in fits})
    curves = {"rmse": "f(x)", "test_rmse": "test sums", "train_rmse": "training sums"}
    for number, (name, label) in enumerate(curves.items()):
        values = np.array([[getattr(f, name) for f in fits if f.size == n] for n in sizes])
        _band(left, sizes, values, number, label)
    left.set(ylabel="RMSE")
    lpr = np.array([np.concatenate([f.lpr for f in fits if f.size == n]) for n in sizes])
    color, marker = class_style(0)
    low, middle, high = np.percentile(lpr, [25, 50, 75], axis=1)
    right.fill_between(sizes, low, high, color=color, alpha=0.2, linewidth=0)
    right.plot(sizes, middle, color=color, marker=marker, markersize=4, label="median, quartiles")
    right.set(ylabel="LPR of f(x)")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="number of training sums N")
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        ax.legend(frameon=False)
    save_figure(fig, path)


def _band(ax: Axes, sizes: list[int], values: Floats, number: int, label: str) -> None:
    """Median of the seeds, and their extremes as a band."""
    color, marker = class_style(number)
    ax.fill_between(sizes, values.min(1), values.max(1), color=color, alpha=0.2, linewidth=0)
    ax.plot(sizes, np.median(values, 1), color=color, marker=marker, markersize=4, label=label)
