"""The figures of the toy study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torchlpr.analysis.figures import LPR_LABEL, class_style, figure, save_figure
from torchlpr.studies.toy_data import GRID, Floats, ToyData, truth
from torchlpr.studies.toy_results import Perturbation, Rise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["perturbation_figure", "profile_figure", "rise_figure"]


def perturbation_figure(path: Path, data: ToyData, moved: Perturbation) -> None:
    """The model before and after, with groups in colours, as figure S1 of the paper.

    Args:
        path: of the figure.
        data: the groups.
        moved: the perturbation.
    """
    fig, axes = figure(1, 2, panel=(5.0, 3.8))
    lines = np.concatenate([moved.before, moved.after, truth(GRID)])
    low, high = float(lines.min()), float(lines.max())
    room = 0.06 * (high - low)
    for ax, values, known, title in (
        (axes[0, 0], moved.before, moved.locals[0], "(a) trained on the group means"),
        (axes[0, 1], moved.after, moved.locals[1], "(b) one local prediction moved"),
    ):
        ax.plot(GRID, truth(GRID), color="0.75", linewidth=1.2, label="truth")
        ax.plot(GRID, values, color="black", linestyle="--", linewidth=1.2, label="model")
        _groups(ax, data, known)
        _moved_input(ax, data, known, moved.x)
        ax.set(title=title, xlabel="x", xlim=(GRID[0], GRID[-1]), ylim=(low - room, high + room))
    axes[0, 0].set_ylabel("prediction / eV")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    save_figure(fig, path)


def _groups(ax: Axes, data: ToyData, known: Floats) -> None:
    """Local predictions, group means of the labels (stars) and of the model (crosses)."""
    for group, (x, y) in enumerate(zip(data.x, known, strict=True)):
        color = _color(group)
        first = group == 0
        ax.plot(x, y, "o", color=color, markersize=5, alpha=0.8, label="local" if first else None)
        ax.plot(
            x.mean(),
            truth(x).mean(),
            "*",
            color=color,
            markersize=13,
            markeredgecolor="black",
            markeredgewidth=0.6,
            label="target of a group, per input" if first else None,
        )
        ax.plot(
            x.mean(),
            y.mean(),
            "x",
            color="black",
            markersize=6,
            label="prediction of a group, per input" if first else None,
        )


def _color(group: int) -> str:
    color, _ = class_style(group)
    return "#777777" if color == "#000000" else color  # black crosses stand on these stars


def _moved_input(ax: Axes, data: ToyData, known: Floats, x: float) -> None:
    y = float(known.ravel()[int(np.abs(data.x.ravel() - x).argmin())])
    style: dict[str, Any] = {
        "markersize": 11,
        "markerfacecolor": "none",
        "markeredgecolor": "black",
    }
    ax.plot([x], [y], "o", linestyle="none", label="moved", **style)


def profile_figure(path: Path, data: ToyData, profiles: Mapping[float, Floats]) -> None:
    """LPR over x for each mu, with the inputs and group means below, as figure S2.

    Args:
        path: of the figure.
        data: the groups.
        profiles: LPR on the grid by mu.
    """
    fig, axes = figure(2, 1, panel=(6.4, 2.9))
    upper, lower = axes[:, 0]
    for number, (mu, profile) in enumerate(profiles.items()):
        upper.plot(GRID, profile, color=class_style(number)[0], label=f"μ = {mu:g} eV$^2$")
    upper.set(yscale="log", ylabel=LPR_LABEL, xlim=(GRID[0], GRID[-1]))
    upper.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    upper.tick_params(labelbottom=False)
    for group, x in enumerate(data.x):
        color = _color(group)
        height = np.full(len(x), float(group + 1))
        edge: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 0.6}
        lower.plot(x, height, "o", color=color, label="input" if group == 0 else None)
        label = "mean of the group" if group == 0 else None
        lower.plot(x.mean(), group + 1, "*", color=color, markersize=14, label=label, **edge)
    lower.set(xlabel="x", ylabel="group", xlim=(GRID[0], GRID[-1]), ylim=(0.3, len(data.x) + 0.7))
    lower.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    save_figure(fig, path)


def rise_figure(path: Path, rises: Mapping[str, Rise]) -> None:
    """Rise of the loss with the shift against the parabola of the rigidity.

    Args:
        path: of the figure.
        rises: by model.
    """
    fig, axes = figure(1, len(rises), panel=(4.6, 3.6))
    for ax, (name, found) in zip(axes[0], rises.items(), strict=True):
        eps: npt.NDArray[np.float64] = np.geomspace(found.shifts[0], found.shifts[-1], 50)
        ax.plot(eps, 0.5 * found.full * eps**2, color="black", label="½ LPR ε², full Hessian")
        color = class_style(1)[0]
        ax.plot(
            eps,
            0.5 * found.gauss_newton * eps**2,
            color=color,
            linestyle="--",
            label="½ LPR ε², Gauss–Newton",
        )
        ax.plot(found.shifts, found.rises, "o", color=class_style(0)[0], label="trained again")
        ax.set(xscale="log", yscale="log", title=name, xlabel="shift ε / eV")
        ax.legend(frameon=False, fontsize="small")
    axes[0, 0].set_ylabel("rise of the loss / eV$^2$")
    save_figure(fig, path)
