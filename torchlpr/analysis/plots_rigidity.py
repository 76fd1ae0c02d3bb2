"""Rigidity by class of atoms: its spread, and what the regulariser does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchlpr.analysis.arrays import Values, as_floats, as_rigidity, class_members
from torchlpr.analysis.figures import LPR_LABEL, class_style
from torchlpr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["lpr_against_mu", "lpr_histogram"]


def lpr_histogram(ax: Axes, lpr: Values, classes: Values, *, bins: int = 40) -> list[Line2D]:
    """Distribution of the LPR in each class, on a log scale.

    The histograms are shares of their class, so that a rare class is as tall as a common one. A
    class of fewer than ten atoms has no distribution to speak of and shows its median only.

    Args:
        ax: axes to draw on.
        lpr: local prediction rigidity in eV^-2, shape (atoms,).
        classes: label of each atom, shape (atoms,).
        bins: number of bins between the extremes, equally wide on the log scale.

    Returns:
        The line that marks the median of each class.

    Raises:
        InputError: if shapes disagree or a rigidity is not finite and positive.
    """
    values = as_rigidity(lpr)
    members = class_members(classes, len(values))
    low, high = values.min(), values.max()
    edges = np.geomspace(low, high if high > low else 1.01 * low, bins + 1)
    # rounding must not lose the extremes
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    enough = min(10, max(len(atoms) for _, atoms in members))
    medians = []
    for number, (label, atoms) in enumerate(members):
        color, _ = class_style(number)
        chosen = values[atoms]
        median = float(np.median(chosen))
        text = f"{label} ({len(atoms)})"
        medians.append(ax.axvline(median, color=color, linestyle="--", linewidth=1.2, label=text))
        if len(chosen) >= enough:
            weights = np.full(len(chosen), 1 / len(chosen))
            common: dict[str, Any] = {"bins": edges, "weights": weights, "color": color}
            ax.hist(chosen, histtype="stepfilled", alpha=0.2, **common)
            ax.hist(chosen, histtype="step", linewidth=1.2, **common)
    ax.set(xscale="log", xlabel=LPR_LABEL, ylabel="share of the class")
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        title="median",
        handlelength=1.5,
    )
    return medians


def lpr_against_mu(
    ax: Axes, mus: Values, lpr: Values, classes: Values, *, chosen: float | None = None
) -> list[Line2D]:
    """LPR of each class against the strength of the regulariser, on log scales.

    Args:
        ax: axes to draw on.
        mus: strengths of the L2 term, positive, in eV^2 per squared weight unit, shape (mus,).
        lpr: local prediction rigidity in eV^-2, shape (mus, atoms).
        classes: label of each atom, shape (atoms,).
        chosen: the strength in use, marked by a line.

    Returns:
        The median of each class; the band around it spans the quartiles.

    Raises:
        InputError: if shapes disagree, or a strength or rigidity is not finite and positive.
    """
    strengths = as_rigidity(mus, "mu")
    values = as_floats(lpr, "lpr", length=len(strengths), ndim=2)
    if values.size == 0 or values.min() <= 0:
        raise InputError("lpr must have atoms and be positive for every mu")
    order = np.argsort(strengths)
    lines = []
    for number, (label, atoms) in enumerate(class_members(classes, values.shape[1])):
        color, marker = class_style(number)
        lower, median, upper = np.percentile(values[order][:, atoms], [25, 50, 75], axis=1)
        ax.fill_between(strengths[order], lower, upper, color=color, alpha=0.2, linewidth=0)
        text = f"{label} ({len(atoms)})"
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4, "label": text}
        lines += ax.plot(strengths[order], median, **style)
    if chosen is not None:
        label = f"chosen μ = {chosen:.3g}"
        ax.axvline(chosen, color="0.4", linestyle="--", linewidth=1.2, label=label)
    ax.set(xscale="log", yscale="log", xlabel="μ / eV$^2$", ylabel=LPR_LABEL)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return lines
