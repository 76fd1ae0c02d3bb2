"""Maps of atomic environments, coloured by class: coordination, species, config_type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlpr.analysis.arrays import Values, as_coordinates, class_members
from torchlpr.analysis.figures import class_style
from torchlpr.analysis.plots_maps import label_axes, point_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["map_by_class"]


def map_by_class(
    ax: Axes,
    coordinates: Values,
    classes: Values,
    *,
    title: str | None = None,
    explained: Values | None = None,
) -> list[PathCollection]:
    """Draw one point for each atom, coloured by its class, rare classes on top.

    Args:
        ax: axes to draw on.
        coordinates: points of the map, shape (atoms, components).
        classes: label of each atom (coordination number, species, config_type), shape (atoms,).
        title: what the labels are, for the legend.
        explained: share of the variance along each component, for the axis labels.

    Returns:
        The points of each class, in ascending order of the labels, as the legend beside the axes
        has them, with counts.

    Raises:
        InputError: if shapes disagree.
    """
    points = as_coordinates(coordinates)
    members = class_members(classes, len(points))
    artists = []
    for number, (label, atoms) in enumerate(members):
        color, marker = class_style(number)
        artist = ax.scatter(
            points[atoms, 0],
            points[atoms, 1],
            color=color,
            marker=marker,
            s=point_size(len(points)),
            linewidths=0,
            rasterized=True,
            label=f"{label} ({len(atoms)})",
            # between the default of points and that of lines; rarer is higher
            zorder=2 - len(atoms) / len(points),
        )
        artists.append(artist)
    # beside the axes: inside it would hide atoms
    legend = ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), title=title, frameon=False, handletextpad=0.2
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set(sizes=[36])
    label_axes(ax, explained)
    return artists
