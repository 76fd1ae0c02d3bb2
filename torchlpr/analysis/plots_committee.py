"""What a committee says beside the rigidity: its scatter, and how it changes with the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.arrays import Values, as_floats, as_rigidity, class_members
from torchlpr.analysis.figures import class_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["committee_parity", "variance_ratio"]


def variance_ratio(
    ax: Axes, lpr_ratio: Values, variances: Values, classes: Values
) -> list[PathCollection]:
    """Ratio of committee variances against ratio of rigidities, on log scales.

    The line is that of variances which go as 1/LPR, to be read beside the scatter that a committee
    of few members has of itself (ten: a third of a decade).

    Args:
        ax: axes to draw on.
        lpr_ratio: LPR after over before, shape (atoms,).
        variances: variance of the atomic energies after over before, shape (atoms,).
        classes: label of each atom, shape (atoms,).

    Returns:
        The points of each class.

    Raises:
        InputError: if shapes disagree or a ratio is not finite and positive.
    """
    x = as_rigidity(lpr_ratio, "the ratio of LPR")
    y = as_rigidity(variances, "the ratio of variances", length=len(x))
    artists = []
    for number, (label, atoms) in enumerate(class_members(classes, len(x))):
        color, marker = class_style(number)
        artists.append(
            ax.scatter(
                x[atoms],
                y[atoms],
                color=color,
                marker=marker,
                s=8,
                linewidths=0,
                alpha=0.7,
                rasterized=True,
                label=label,
                zorder=2 - len(atoms) / len(x),
            )
        )
    ends = np.array([x.min(), x.max()])
    ax.plot(ends, 1 / ends, color="black", linewidth=1.2, label="slope −1", zorder=3)
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="LPR after / before", ylabel="committee variance after / before")
    legend = ax.legend(
        loc="lower left", framealpha=0.9, edgecolor="none", handletextpad=0.4, fontsize="small"
    )
    for handle in legend.legend_handles[:-1]:
        if handle is not None:
            handle.set(sizes=[25], alpha=1)
    return artists


def committee_parity(
    ax: Axes,
    members: Values,
    lpr: Values,
    *,
    limits: tuple[float, float] | None = None,
    label: str = "atomic energy",
    span: tuple[float, float] | None = None,
) -> PathCollection:
    """Atomic energies of every member against their mean, coloured by log10 LPR.

    Args:
        ax: axes to draw on.
        members: atomic energies of each member in eV, shape (members, atoms).
        lpr: local prediction rigidity in eV^-2, shape (atoms,).
        limits: log10 LPR at the ends of the colour bar, None takes the extremes.
        label: what the energies are, for both axes.
        span: ends of both axes in eV, None takes the extremes.

    Returns:
        The points, rigid atoms drawn last.

    Raises:
        InputError: if shapes disagree or a number is not finite.
    """
    values = as_floats(members, "energies of the members", ndim=2)
    logs = np.log10(as_rigidity(lpr, length=values.shape[1]))
    order = np.argsort(logs, kind="stable")
    mean = values.mean(0)
    low, high = (logs.min(), logs.max()) if limits is None else limits
    artist = ax.scatter(
        np.tile(mean[order], len(values)),
        values[:, order].ravel(),
        c=np.tile(logs[order], len(values)),
        vmin=low,
        vmax=high,
        s=5,
        linewidths=0,
        rasterized=True,
    )
    below, above = bool(logs.min() < low), bool(logs.max() > high)
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
    ax.figure.colorbar(artist, ax=ax, label="log$_{10}$ (LPR / eV$^{-2}$)", extend=extend)
    ends = (float(values.min()), float(values.max())) if span is None else span
    ax.axline((ends[0], ends[0]), slope=1, color="0.4", linewidth=1, zorder=0.5)
    ax.set(xlim=ends, ylim=ends)
    ax.set(xlabel=f"{label}, mean / eV", ylabel=f"{label}, members / eV")
    ax.locator_params(nbins=5)
    return artist
