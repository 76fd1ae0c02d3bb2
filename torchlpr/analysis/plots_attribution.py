"""What a rigidity is made of: shares of training structures, energies, forces, regulariser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.arrays import Values, as_floats
from torchlpr.analysis.figures import class_style
from torchlpr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attribution_bars"]

KINDS = ("energy", "forces", "regulariser")


def attribution_bars(ax: Axes, labels: Sequence[str], shares: Values) -> None:
    """Bars of shares, the first on top.

    Args:
        ax: axes to draw on.
        labels: what each bar is: a structure, all others, the regulariser.
        shares: of energy, forces and regulariser in each bar, shape (bars, 3), none negative.

    Raises:
        InputError: if labels and shares are not as many, or a share is negative.
    """
    values = as_floats(shares, "shares", ndim=2)
    if values.shape != (len(labels), len(KINDS)) or values.min(initial=0) < 0:
        raise InputError(
            f"shares must be {len(labels)} x {len(KINDS)}, one row a label, and not negative, "
            f"not of shape {values.shape}"
        )
    left, places = np.zeros(len(values)), np.arange(len(values))
    for number, kind in enumerate(KINDS):
        if values[:, number].any():
            color = class_style(number)[0]
            ax.barh(places, 100 * values[:, number], left=100 * left, color=color, label=kind)
        left += values[:, number]
    ax.set_xlim(0, 105 * left.max(initial=1e-9))
    ax.set_yticks(places, labels)
    ax.invert_yaxis()
    ax.set_xlabel("share of the rigidity / %")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
