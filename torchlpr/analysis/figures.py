"""Figures without pyplot: nothing global is set, and files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torchlpr.errors import InputError
from torchlpr.extras import require
from torchlpr.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LPR_LABEL", "class_style", "figure", "figure_of_rows", "save_figure"]

LPR_LABEL = "LPR / eV$^{-2}$"

# Okabe and Ito's colours, safe for the colour-blind (jfly.uni-koeln.de/color); yellow, weak on
# white, comes last
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D")


def class_style(number: int) -> tuple[str, str]:
    """Colour and marker of the class with this number, distinct for the first 32.

    Args:
        number: 0, 1, 2, ...

    Returns:
        Colour as hexadecimal text, marker of matplotlib.
    """
    cycle, color = divmod(number, len(COLORS))
    return COLORS[color], MARKERS[cycle % len(MARKERS)]


def figure(
    nrows: int = 1, ncols: int = 1, *, panel: tuple[float, float] = (4.4, 3.5)
) -> tuple[Figure, npt.NDArray[Any]]:
    """Make a figure with its axes; fonts stay readable at README width for up to two columns.

    Args:
        nrows: rows of panels.
        ncols: columns of panels.
        panel: width and height of a panel in inches.

    Returns:
        The figure, laid out so that labels do not overlap, and its axes, shape (nrows, ncols).

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    owner = require("matplotlib.figure")
    agg = require("matplotlib.backends.backend_agg")
    fig: Figure = owner.Figure(figsize=(panel[0] * ncols, panel[1] * nrows), layout="constrained")
    agg.FigureCanvasAgg(fig)
    return fig, np.asarray(fig.subplots(nrows, ncols, squeeze=False))


def figure_of_rows(
    nrows: int, ncols: int, *, panel: tuple[float, float] = (4.4, 3.5)
) -> tuple[Figure, npt.NDArray[Any]]:
    """Make a figure whose rows are laid out one by one: a legend in one leaves others alone.

    Args:
        nrows: rows of panels.
        ncols: columns of panels.
        panel: width and height of a panel in inches.

    Returns:
        The figure and its axes, shape (nrows, ncols).

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    owner = require("matplotlib.figure")
    agg = require("matplotlib.backends.backend_agg")
    fig: Figure = owner.Figure(figsize=(panel[0] * ncols, panel[1] * nrows), layout="constrained")
    agg.FigureCanvasAgg(fig)
    rows = fig.subfigures(nrows, 1, squeeze=False)[:, 0]
    return fig, np.asarray([row.subplots(1, ncols, squeeze=False)[0] for row in rows])


def save_figure(fig: Figure, path: str | Path) -> Path:
    """Write a figure; a reader never sees half a file.

    Args:
        fig: the figure.
        path: name that ends in .png (150 dots an inch), .pdf or .svg.

    Returns:
        The path.

    Raises:
        InputError: if the ending is another.
    """
    final = Path(path)
    if final.suffix.lower() not in {".png", ".pdf", ".svg"}:
        raise InputError(f"a figure is written as .png, .pdf or .svg, not as {final.name!r}")
    with atomic_path(final) as temporary:
        fig.savefig(temporary, dpi=150)
    return final
