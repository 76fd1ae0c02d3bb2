"""Whether uncertainties mean what they say: errors against sigma, and confidence curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.arrays import Values, as_floats, as_rigidity
from torchlpr.analysis.figures import class_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["confidence_curve", "error_against_uncertainty"]

MAX_BINS = 12
PER_BIN = 10  # the standard error of an RMS is then a fifth to a quarter of it
SHARES = (68.3, 95.4, 99.7)


def error_against_uncertainty(ax: Axes, sigma: Values, errors: Values) -> list[Line2D]:
    """Errors against predicted standard deviations, with lines at one, two and three sigma.

    Of calibrated uncertainties 68.3, 95.4 and 99.7 % of the points lie below the lines, at any
    sigma, and the root mean square of each bin lies on the first. Errors of exactly zero have no
    place on the logarithmic axis.

    Args:
        ax: axes to draw on.
        sigma: predicted standard deviations, positive, shape (N,), eV.
        errors: predicted minus reference, shape (N,), eV.

    Returns:
        The lines of one, two and three sigma.
    """
    s = as_rigidity(sigma, "sigma")
    r = np.abs(as_floats(errors, "errors", length=len(s)))
    color, marker = class_style(0)
    shown = r > 0
    ax.plot(s[shown], r[shown], marker, color=color, markersize=3, alpha=0.4, markeredgewidth=0)
    order = np.argsort(s, kind="stable")
    bins = np.array_split(order, max(1, min(MAX_BINS, len(s) // PER_BIN)))
    rms = [(np.sqrt(np.mean(s[b] ** 2)), np.sqrt(np.mean(r[b] ** 2))) for b in bins]
    weak, marker = class_style(1)
    ax.plot(*np.array(rms).T, marker, color=weak, markersize=6, label="RMS in a bin")
    # one sigma at both ends would be a point
    ends = np.array([s.min() / 1.1, s.max() * 1.1])
    lines = []
    for n, (share, style) in enumerate(zip(SHARES, ("-", "--", ":"), strict=True), start=1):
        label = f"{n} σ ({share} %)"
        lines += ax.plot(ends, n * ends, color="0.3", linestyle=style, linewidth=1.2, label=label)
    ax.set(
        xscale="log", yscale="log", xlabel="predicted σ / (eV/atom)", ylabel="|error| / (eV/atom)"
    )
    floor = min(s.min(), r[shown].min()) if shown.any() else s.min()
    ax.set_ylim(max(floor, 1e-3 * s.min()) / 1.5, max(3 * ends[1], r.max()) * 1.5)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return lines


def confidence_curve(ax: Axes, sigma: Values, errors: Values) -> Line2D:
    """Share of errors inside the central interval that should hold a given share.

    Above the diagonal uncertainties are too large, below it too small; the shaded area is the
    miscalibration area.

    Args:
        ax: axes to draw on.
        sigma: predicted standard deviations, positive, shape (N,), eV.
        errors: predicted minus reference, shape (N,), eV.

    Returns:
        The curve.
    """
    from torch import erf, from_numpy

    s = as_rigidity(sigma, "sigma")
    z = np.abs(as_floats(errors, "errors", length=len(s))) / s
    inside = np.sort(erf(from_numpy(z / np.sqrt(2))).numpy())
    expected = np.concatenate([[0.0], inside, [1.0]])
    observed = np.concatenate([[0.0], np.arange(1, len(z) + 1) / len(z), [1.0]])
    color, _ = class_style(0)
    # corners of the staircase, so that the other edge of the shade is the diagonal itself
    x, y = np.repeat(expected, 2)[1:], np.repeat(observed, 2)[:-1]
    ax.fill_between(x, y, x, color=color, alpha=0.2, linewidth=0)
    ax.plot([0, 1], [0, 1], color="0.3", linewidth=1.2)
    curve: Line2D = ax.step(expected, observed, where="post", color=color)[0]
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="expected share", ylabel="observed share")
    ax.set_aspect("equal")
    return curve
