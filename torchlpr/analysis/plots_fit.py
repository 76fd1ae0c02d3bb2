"""How well a model fits: parity and residuals of the energy per atom, parity of forces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from torchlpr.analysis.arrays import Floats, Values, as_floats
from torchlpr.analysis.figures import class_style
from torchlpr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["parity", "residuals"]

UNITS = {"energy": "eV/atom", "force": "eV/Å"}


def parity(
    ax: Axes,
    sets: Mapping[str, tuple[Values, Values]],
    quantity: Literal["energy", "force"] = "energy",
) -> list[PathCollection]:
    """Predicted against reference energies or forces, with the line of a perfect fit.

    Args:
        ax: axes to draw on.
        sets: by name (train, validation, test), the reference and the predicted energies per atom
            in eV, each of shape (structures,), or components of forces in eV/Å. Later sets are
            drawn over earlier ones.
        quantity: which of the two, for labels and units.

    Returns:
        The points of each set; the corner holds the RMSE of each in meV per atom or meV/Å.

    Raises:
        InputError: if there is no set, shapes disagree or a value is not finite.
    """
    unit = UNITS[quantity]
    pairs = _pairs(sets)
    artists = _scatter(ax, {name: (x, y) for name, (x, y) in pairs.items()})
    everything = np.concatenate([np.concatenate(pair) for pair in pairs.values()])
    low, high = float(everything.min()), float(everything.max())
    margin = 0.05 * (high - low) or 0.1
    limits = (low - margin, high + margin)
    ax.axline((low, low), slope=1, color="0.4", linewidth=1, zorder=0.5)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.locator_params(nbins=5)
    ax.set(xlabel=f"reference {quantity} / ({unit})", ylabel=f"predicted {quantity} / ({unit})")
    lines = [
        f"{name}: {_three_digits(1000 * float(np.sqrt(np.mean((y - x) ** 2))))}"
        for name, (x, y) in pairs.items()
    ]
    # the points lie along the diagonal, so this corner and the legend's are free
    ax.text(
        0.97,
        0.03,
        "\n".join([f"RMSE / (m{unit})", *lines]),
        transform=ax.transAxes,
        ha="right",
        va="bottom",
        fontsize="small",
    )
    ax.legend(loc="upper left", frameon=False, handletextpad=0.2)
    return artists


def residuals(ax: Axes, sets: Mapping[str, tuple[Values, Values]]) -> list[PathCollection]:
    """Errors of the energies against the reference, where parity shows a line only.

    Args:
        ax: axes to draw on.
        sets: by name, the reference and the predicted energies per atom in eV, each of shape
            (structures,).

    Returns:
        The points of each set, predicted - reference in meV per atom.

    Raises:
        InputError: if there is no set, shapes disagree or an energy is not finite.
    """
    pairs = _pairs(sets)
    artists = _scatter(ax, {name: (x, 1000 * (y - x)) for name, (x, y) in pairs.items()})
    ax.axhline(0, color="0.4", linewidth=1, zorder=0.5)
    ax.set(xlabel="reference energy / (eV/atom)", ylabel="predicted − reference / (meV/atom)")
    # above the axes: errors may lie anywhere inside
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(pairs), frameon=False, handletextpad=0.2
    )
    return artists


def _scatter(ax: Axes, sets: Mapping[str, tuple[Floats, Floats]]) -> list[PathCollection]:
    """The points of each set in its own colour."""
    artists = []
    for number, (name, (x, y)) in enumerate(sets.items()):
        color, marker = class_style(number)
        artist = ax.scatter(
            x, y, s=14, color=color, marker=marker, alpha=0.7, linewidths=0, label=name
        )
        artist.set_rasterized(len(x) > 2000)
        artists.append(artist)
    return artists


def _three_digits(value: float) -> str:
    """As a person writes it, without a power of ten."""
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def _pairs(sets: Mapping[str, tuple[Values, Values]]) -> dict[str, tuple[Floats, Floats]]:
    """The checked energies of each set."""
    pairs = {}
    for name, (reference, predicted) in sets.items():
        x = as_floats(reference, f"reference energies of {name}")
        pairs[name] = (x, as_floats(predicted, f"predicted energies of {name}", length=len(x)))
    if not any(len(x) for x, _ in pairs.values()):
        raise InputError("there are no energies to compare")
    return pairs
