"""Maps of atomic environments, coloured by a number: a rigidity or an energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from torchlpr.analysis.arrays import (
    Floats,
    Values,
    as_coordinates,
    as_floats,
    as_rigidity,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["label_axes", "map_by_energy", "map_by_lpr", "map_by_value", "point_size"]


def map_by_value(
    ax: Axes,
    coordinates: Values,
    values: Values,
    label: str,
    *,
    cmap: str = "viridis",
    limits: tuple[float, float] | None = None,
    on_top: Literal["high", "low"] = "high",
    explained: Values | None = None,
) -> PathCollection:
    """Draw one point for each atom, coloured by a number.

    Args:
        ax: axes to draw on.
        coordinates: points of the map, shape (atoms, components); the first two are drawn.
        values: numbers, shape (atoms,).
        label: name and unit of the numbers, for the colour bar.
        cmap: name of a colour map of matplotlib.
        limits: numbers at the ends of the colour bar, None takes the extremes; give the same to
            maps that are to be compared.
        on_top: which numbers are drawn last and so cover the others.
        explained: share of the variance along each component, for the axis labels.

    Returns:
        The points, in the order in which they are drawn.

    Raises:
        InputError: if shapes disagree or a number is not finite.
    """
    points = as_coordinates(coordinates)
    numbers = as_floats(values, label, length=len(points))
    order = np.argsort(numbers if on_top == "high" else -numbers, kind="stable")
    low, high = (numbers.min(), numbers.max()) if limits is None else limits
    artist = ax.scatter(
        points[order, 0],
        points[order, 1],
        c=numbers[order],
        cmap=cmap,
        vmin=low,
        vmax=high,
        s=point_size(len(points)),
        linewidths=0,
        rasterized=True,
    )
    below, above = bool(numbers.min() < low), bool(numbers.max() > high)
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
    ax.figure.colorbar(artist, ax=ax, label=label, extend=extend)
    label_axes(ax, explained)
    return artist


def map_by_lpr(
    ax: Axes,
    coordinates: Values,
    lpr: Values,
    *,
    limits: tuple[float, float] | None = None,
    on_top: Literal["high", "low"] = "high",
    explained: Values | None = None,
) -> PathCollection:
    """Draw one point for each atom, coloured by the decimal logarithm of its LPR.

    Args:
        ax: axes to draw on.
        coordinates: points of the map, shape (atoms, components).
        lpr: local prediction rigidity in eV^-2, shape (atoms,).
        limits: log10 LPR at the ends of the colour bar, None takes the extremes.
        on_top: "high" draws from low to high LPR, "low" the other way round.
        explained: share of the variance along each component, for the axis labels.

    Returns:
        The points, in the order in which they are drawn.

    Raises:
        InputError: if shapes disagree or a rigidity is not finite and positive.
    """
    label = "log$_{10}$ (LPR / eV$^{-2}$)"
    logs = np.log10(as_rigidity(lpr))
    return map_by_value(
        ax, coordinates, logs, label, limits=limits, on_top=on_top, explained=explained
    )


def map_by_energy(
    ax: Axes,
    coordinates: Values,
    energies: Values,
    *,
    clip: float = 1.0,
    explained: Values | None = None,
) -> PathCollection:
    """Draw one point for each atom, coloured by its energy, high energies on top.

    Args:
        ax: axes to draw on.
        coordinates: points of the map, shape (atoms, components).
        energies: energies of the atoms in eV, shape (atoms,).
        clip: percentage of atoms at either end that do not stretch the colours.
        explained: share of the variance along each component, for the axis labels.

    Returns:
        The points, in the order in which they are drawn.

    Raises:
        InputError: if shapes disagree or an energy is not finite.
    """
    points = as_coordinates(coordinates)
    numbers = as_floats(energies, "energies", length=len(points))
    low, high = (float(x) for x in np.percentile(numbers, [clip, 100 - clip]))
    label = "atomic energy / eV"
    return map_by_value(
        ax, points, numbers, label, cmap="cividis", limits=(low, high), explained=explained
    )


def point_size(atoms: int) -> float:
    """Area of a point on a map.

    Args:
        atoms: number of points.

    Returns:
        Area in square typographic points, 20 for few atoms, 4 for very many.
    """
    return float(np.clip(20 * (500 / atoms) ** 0.5, 4, 20))


def label_axes(ax: Axes, explained: Values | None) -> None:
    """Name the components and thin out their ticks, whose numbers matter little.

    Args:
        ax: axes of a map.
        explained: share of the variance along each component, or None.
    """
    shares: Floats | list[None] = (
        [None, None] if explained is None else as_floats(explained, "explained")
    )
    for axis, name, share in zip((ax.xaxis, ax.yaxis), ("PC 1", "PC 2"), shares, strict=False):
        axis.set_label_text(name if share is None else f"{name} ({100 * share:.0f} %)")
    # half steps such as -0.25 would be wide enough to run into each other
    ax.locator_params(nbins=5, steps=[1, 2, 5, 10])
