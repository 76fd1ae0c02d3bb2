"""What dataset design promises: rigidity of the targets against the number of picks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.arrays import Values, as_floats
from torchlpr.analysis.figures import LPR_LABEL, class_style
from torchlpr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["gain_curve"]


def gain_curve(ax: Axes, lpr: Values) -> list[Line2D]:
    """LPR of the targets after each pick: geometric mean, range and quartiles.

    Args:
        ax: axes to draw on.
        lpr: LPR in eV^-2 after 0, 1, 2, ... picks, shape (picks + 1, targets).

    Returns:
        The lines of the geometric mean and of the smallest LPR.

    Raises:
        InputError: if there are no targets or a rigidity is not positive.
    """
    values = as_floats(lpr, "lpr", ndim=2)
    if values.size == 0 or values.min() <= 0:
        raise InputError("lpr must have targets and be positive after every pick")
    picks = np.arange(len(values))
    color, marker = class_style(0)
    low, lower, upper, high = np.percentile(values, [0, 25, 75, 100], axis=1)
    ax.fill_between(picks, low, high, color=color, alpha=0.12, linewidth=0, label="range")
    ax.fill_between(picks, lower, upper, color=color, alpha=0.25, linewidth=0, label="quartiles")
    mean = np.exp(np.log(values).mean(axis=1))
    lines = ax.plot(picks, mean, color=color, marker=marker, markersize=4, label="geometric mean")
    weakest, marker = class_style(1)
    lines += ax.plot(picks, low, color=weakest, marker=marker, markersize=4, label="smallest")
    ax.set(yscale="log", xlabel="picks added to the training set", ylabel=f"target {LPR_LABEL}")
    ax.set_xticks(picks[:: max(1, len(picks) // 10)])
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return lines
