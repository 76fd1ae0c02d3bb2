"""Figures of the slabs of the study of silicon: atomic energies, ratios, clusters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.analysis.maps import principal_components
from torchlpr.analysis.plots_clusters import dendrogram
from torchlpr.analysis.plots_maps import map_by_value
from torchlpr.studies.silicon_slabs import SlabSets
from torchlpr.studies.silicon_stage import SlabStage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "cluster_figure",
    "mapping_figure",
    "ratio_figure",
]

MEV = 1000.0


def mapping_figure(path: Path, sets: SlabSets, stages: Sequence[SlabStage]) -> None:
    """Atomic energies of held-out slabs: against the teacher's, and their errors on a map.

    Args:
        path: of the figure.
        sets: the slabs.
        stages: of one head.
    """
    fig, axes = figure(2, len(stages), panel=(3.9, 3.4))
    plane, shares = principal_components(sets.test.features)
    errors = [(s.site_energies - sets.site_energies).numpy() for s in stages]
    limit = max(float(np.abs(e).max()) for e in errors)
    truth = sets.site_energies.numpy()
    span = _span([s.site_energies.numpy() for s in stages] + [truth])
    for stage, error, (top, bottom) in zip(stages, errors, axes.T, strict=True):
        for number, (name, which) in enumerate((
            ("bulk-like", ~sets.surface.numpy()),
            ("surface", sets.surface.numpy()),
        )):
            color, marker = class_style(number)
            y = stage.site_energies.numpy()[which]
            top.plot(truth[which], y, marker, color=color, markersize=3, alpha=0.5, label=name)
        top.axline((float(truth.mean()),) * 2, slope=1, color="0.4", linewidth=1, zorder=0.5)
        top.set(xlabel="teacher's atomic energy / eV", ylabel="predicted / eV", ylim=span)
        top.set_title(
            f"{stage.trained}\nerror / (meV/atom): slabs {MEV * stage.slab_rmse:.2f}, "
            f"crystals {MEV * stage.crystal_error:.3g}",
            fontsize="medium",
        )
        label = "error of atomic energy / eV"
        limits = (-limit, limit)
        map_by_value(bottom, plane, error, label, cmap="RdBu_r", limits=limits, explained=shares)
    axes[0, 0].legend(loc="upper left", frameon=False)
    save_figure(fig, path)


def _span(energies: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits that hold all of them, with some room."""
    low, high = (f([f(e) for e in energies]) for f in (min, max))
    return float(low - 0.1 * (high - low)), float(high + 0.35 * (high - low))


def ratio_figure(path: Path, sets: SlabSets, stages: Sequence[SlabStage]) -> None:
    """Error of crystals against their rigidity, and the offset's rigidity against the ratio.

    Args:
        path: of the figure.
        sets: the slabs.
        stages: of all heads.
    """
    fig, ((left, right),) = figure(1, 2, panel=(4.6, 3.8))
    kinds = list(dict.fromkeys((s.head, s.loss) for s in stages))
    for number, kind in enumerate(kinds):
        mine = [s for s in stages if (s.head, s.loss) == kind]
        color, marker = class_style(number)
        x = [float(s.crystal_lpr[1:].median()) for s in mine]
        y = [MEV * s.crystal_error for s in mine]
        label = f"{kind[0]}, {kind[1]}"
        left.plot(x[1:], y[1:], marker, color=color, label=label)
        left.plot(x[:1], y[:1], marker, color=color, markerfacecolor="none")
    left.set(xscale="log", yscale="log", xlabel="median LPR of crystals / eV$^{-2}$")
    left.set(ylabel="error of crystals / (meV/atom)")
    left.axhline(5, color="0.6", linestyle="--", linewidth=1)
    left.legend(frameon=False, fontsize="small", title="open: trained on slabs only")
    _offsets(right, sets, [s for s in stages if (s.head, s.loss) == kinds[-1]])
    save_figure(fig, path)


def _offsets(ax: Axes, sets: SlabSets, stages: Sequence[SlabStage]) -> None:
    """Rigidity of the offset against the surface share of the one structure that differs."""
    color, _ = class_style(0)
    surface = sets.gap.sizes[1] / sets.train.n_structures
    usual = surface / int(sets.train.counts[0])
    n = stages[0].n_structures
    x = np.linspace(0, 0.27, 400)
    ax.plot(
        x, (x - usual) ** 2 / (1 / (n - 1) + 1), color="0.4", linewidth=1, label="two environments"
    )
    for stage in stages[1:]:
        layers = stage.trained.split()
        share = surface / len(sets.others[int(layers[-2])]) if "layers" in layers else 0.0
        ax.plot(share, stage.offset, "o", color=color)
        name = layers[-2] if "layers" in layers else "crystal"
        ax.annotate(
            name, (share, stage.offset), xytext=(5, 4), textcoords="offset points", fontsize="small"
        )
    ax.plot(usual, stages[0].offset, "o", color=color, markerfacecolor="none")
    ax.annotate(
        "slabs only",
        (usual, stages[0].offset),
        xytext=(5, 4),
        textcoords="offset points",
        fontsize="small",
    )
    ax.set(
        yscale="log",
        xlabel="share of surface atoms in the one structure",
        ylabel="rigidity of the offset / eV$^{-2}$",
    )
    ax.set_ylim(0.3 * stages[0].offset, 0.2)
    ax.legend(frameon=False, loc="lower right")


def cluster_figure(path: Path, sets: SlabSets) -> None:
    """The environments of the training slabs: their clusters, and the last merges.

    Args:
        path: of the figure.
        sets: the slabs.
    """
    fig, ((left, right),) = figure(1, 2, panel=(4.6, 3.8))
    plane, shares = principal_components(sets.train.features)
    names = [
        f"{n} {what}" for n, what in zip(sets.gap.sizes, ("bulk-like", "surface"), strict=True)
    ]
    for number, name in enumerate(names):
        color, marker = class_style(number)
        points = plane[sets.labels == number]
        left.plot(
            points[:, 0], points[:, 1], marker, color=color, markersize=3, alpha=0.4, label=name
        )
    left.set(
        xlabel=f"PC 1 ({100 * float(shares[0]):.0f} %)",
        ylabel=f"PC 2 ({100 * float(shares[1]):.0f} %)",
    )
    left.legend(frameon=False)
    dendrogram(right, sets.linkage, sets.gap)
    right.set_ylabel("distance of the merge, normalised features")
    save_figure(fig, path)
