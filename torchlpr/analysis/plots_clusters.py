"""Single-linkage clustering as a dendrogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.figures import class_style
from torchlpr.analysis.single_linkage import ClusterGap, SingleLinkage
from torchlpr.errors import InputError
from torchlpr.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection

__all__ = ["dendrogram"]


def dendrogram(
    ax: Axes, linkage: SingleLinkage, gap: ClusterGap | None = None, *, leaves: int = 30
) -> LineCollection:
    """Draw the last merges of a single-linkage clustering.

    Args:
        ax: axes to draw on.
        linkage: from :func:`torchlpr.analysis.single_linkage.single_linkage`.
        gap: the last merge of two big clusters, marked with its distance and the two sizes.
        leaves: clusters at the bottom; all merges above them are drawn, those within are not.
            More are taken where the gap lies below.

    Returns:
        The lines of the merges.

    Raises:
        InputError: if there are fewer than two leaves.
        MissingExtraError: if scipy is not installed (extra ``sklearn``).
    """
    if leaves < 2:
        raise InputError(f"a dendrogram has at least 2 leaves, not {leaves}")
    heights = linkage.merges[:, 2]
    if gap is not None:  # the two big clusters must be leaves or above
        leaves = max(leaves, len(linkage) - int(np.searchsorted(heights, gap.distance)) + 1)
    leaves = min(leaves, len(linkage))
    hierarchy = require("scipy.cluster.hierarchy", "sklearn")
    drawn = hierarchy.dendrogram(
        linkage.merges, p=leaves, truncate_mode="lastp", no_plot=True, show_leaf_counts=False
    )
    collections = require("matplotlib.collections")
    paths = [np.column_stack([x, y]) for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True)]
    lines: LineCollection = collections.LineCollection(paths, colors="0.3", linewidths=1.0)
    ax.add_collection(lines)
    if gap is not None:
        color, _ = class_style(1)
        larger, smaller = gap.sizes
        ax.axhline(
            gap.distance,
            color=color,
            linestyle="--",
            linewidth=1.2,
            label=f"$r_g$ = {gap.distance:.3g} ({larger} and {smaller} points)",
        )
        ax.legend(loc="upper right", frameon=False)
    ax.set(xlabel=f"{leaves} clusters", ylabel="distance of the merge", xticks=[])
    ax.set_xlim(0, 10 * leaves)
    ax.set_ylim(0, 1.25 * float(heights[-1]) or 1.0)
    return lines
