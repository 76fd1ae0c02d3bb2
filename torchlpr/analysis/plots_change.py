"""Change of the rigidity by class of atoms from one training set to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchlpr.analysis.arrays import Floats, Values, as_rigidity, class_members
from torchlpr.analysis.figures import LPR_LABEL, class_style
from torchlpr.analysis.statistics import ratio_by_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.text import Text

__all__ = ["lpr_before_after"]

PERCENT = (5, 25, 50, 75, 95)  # whisker, box, median, box, whisker


def lpr_before_after(
    ax: Axes,
    before: Values,
    after: Values,
    classes: Values,
    *,
    names: tuple[str, str] = ("before", "after"),
) -> list[Text]:
    """LPR of each class with two training sets: paired boxes, median ratios written above.

    Boxes span the quartiles, whiskers 5 to 95 % of the atoms.

    Args:
        ax: axes to draw on.
        before: LPR with the first training set in eV^-2, shape (atoms,).
        after: LPR of the same atoms with the second training set in eV^-2, shape (atoms,).
        classes: label of each atom, shape (atoms,).
        names: what the two training sets are called.

    Returns:
        The texts above the pairs, median after / median before.

    Raises:
        InputError: if shapes disagree or a rigidity is not finite and positive.
    """
    first = as_rigidity(before, "lpr before")
    second = as_rigidity(after, "lpr after", length=len(first))
    members = class_members(classes, len(first))
    places = np.arange(len(members), dtype=np.float64)
    handles = []
    for number, (values, shift) in enumerate(((first, -0.2), (second, 0.2))):
        color, _ = class_style(number)
        groups = [values[atoms] for _, atoms in members]
        handles.append(_boxes(ax, places + shift, groups, color))
    ax.set(yscale="log", ylabel=LPR_LABEL, xlim=(-0.6, len(members) - 0.4))
    _name_classes(ax, places, [(label, len(atoms)) for label, atoms in members])
    low, high = ax.dataLim.intervaly
    span = max(high / low, 1.5)
    ax.set_ylim(low / span**0.06, high * span**0.2)  # room for the ratios above
    ax.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    rows = ratio_by_class(first, second, classes)
    across = ax.get_xaxis_transform()
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": _font(len(rows))}
    return [
        ax.text(float(place), 0.97, _times(row.ratio_of_medians), transform=across, **style)
        for place, row in zip(places, rows, strict=True)
    ]


def _boxes(ax: Axes, places: Floats, groups: list[Floats], color: str) -> BarContainer:
    """One box for each group; Axes.boxplot would make pyplot choose its global backend."""
    low, lower, median, upper, high = np.array([np.percentile(g, PERCENT) for g in groups]).T
    width = 0.34
    ends = (places - width / 2, places + width / 2)
    boxes = ax.bar(
        places, upper - lower, width, bottom=lower, color=color, alpha=0.6, edgecolor="black"
    )
    ax.vlines(np.tile(places, 2), [*low, *upper], [*lower, *high], color="black", linewidth=1)
    ax.hlines(median, *ends, color="black", linewidth=1.5)
    return boxes


def _name_classes(ax: Axes, places: Floats, classes: list[tuple[str, int]]) -> None:
    """Write each class and its count below its boxes, slanted where names are long."""
    if max(len(label) for label, _ in classes) <= 8:
        labels = [f"{label}\n({count})" for label, count in classes]
        ax.set_xticks(places, labels, fontsize=_font(len(classes)))
        return
    labels = [f"{label} ({count})" for label, count in classes]
    ax.set_xticks(places, labels, rotation=30, ha="right", rotation_mode="anchor", fontsize="small")


def _font(classes: int) -> str:
    """Size at which texts of that many classes fit side by side in one panel."""
    return "medium" if classes <= 4 else "small" if classes <= 6 else "x-small"


def _times(ratio: float) -> str:
    """A ratio with two significant digits, or more where it is 100 and above."""
    return f"×{ratio:.0f}" if ratio >= 10 else f"×{ratio:.1f}" if ratio >= 1 else f"×{ratio:.2g}"
