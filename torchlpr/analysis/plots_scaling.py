"""Cost against size on log scales, with the exponent of the power law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.arrays import Values, as_floats
from torchlpr.analysis.figures import class_style
from torchlpr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["power_law", "scaling"]

FITTED = 3


def power_law(sizes: Values, costs: Values, last: int = FITTED) -> float | None:
    """Exponent b of the power law cost = a size^b, by least squares in the logarithms.

    Args:
        sizes: positive, ascending, shape (points,).
        costs: positive, shape (points,).
        last: how many of the largest sizes are fitted; small ones cost what every call costs.

    Returns:
        The exponent, or None where there are fewer than two sizes.

    Raises:
        InputError: if shapes disagree or a number is not positive.
    """
    x, y = as_floats(sizes, "sizes"), as_floats(costs, "costs")
    if x.shape != y.shape:
        raise InputError(f"there are {len(x)} sizes for {len(y)} costs; give one cost a size")
    if len(x) < 2:
        return None
    if min(x.min(), y.min()) <= 0:
        raise InputError("sizes and costs must be positive: their logarithms are fitted")
    x, y = np.log(x[-last:]), np.log(y[-last:])
    x = x - x.mean()
    return float(x @ y / (x @ x))


def scaling(
    ax: Axes,
    curves: Mapping[str, tuple[Values, Values]],
    *,
    xlabel: str,
    ylabel: str,
    styles: Mapping[str, int] | None = None,
) -> list[Line2D]:
    """Cost of several methods against size; the corner holds the exponent of each.

    Args:
        ax: axes to draw on.
        curves: by name, sizes and costs, of equal shape (points,).
        xlabel: what the size is.
        ylabel: what the cost is.
        styles: number of the colour and marker of each name (see
            :func:`torchlpr.analysis.figures.class_style`), in order by default.

    Returns:
        One line a method, labelled by its name.

    Raises:
        InputError: if there is nothing to draw.
    """
    if not curves:
        raise InputError(f"there is no method to draw over {xlabel}")
    lines, exponents = [], []
    for number, (name, (sizes, costs)) in enumerate(curves.items()):
        color, _ = class_style(number if styles is None else styles[name])
        marker = "osD^vPX*"[(number if styles is None else styles[name]) % 8]
        x, y = as_floats(sizes, f"sizes of {name}"), as_floats(costs, f"costs of {name}")
        exponent = power_law(x, y)
        lines += ax.plot(x, y, marker=marker, color=color, markersize=4, linewidth=1.2, label=name)
        exponents.append("–" if exponent is None else f"{round(exponent, 1) + 0.0:.1f}")
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    ticks = sorted({float(s) for sizes, _ in curves.values() for s in as_floats(sizes, "sizes")})
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    low, high = (np.log10(limit) for limit in ax.get_ylim())
    ax.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))  # whole decades have labels
    ax.grid(which="major", color="0.92", linewidth=0.6)
    ax.legend(
        lines,
        exponents,
        title="exponent",
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        handlelength=1.5,
    )
    return lines
