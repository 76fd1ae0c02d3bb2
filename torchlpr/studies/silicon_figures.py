"""The figures of the study of silicon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.analysis.maps import principal_components
from torchlpr.analysis.plots_clusters import dendrogram
from torchlpr.analysis.plots_maps import map_by_value
from torchlpr.studies.silicon_convergence import KINDS, SizeResult
from torchlpr.studies.silicon_dft import DFTStage
from torchlpr.studies.silicon_network import NetworkRun
from torchlpr.studies.silicon_slabs import SlabSets, SlabStage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "cluster_figure",
    "convergence_figure",
    "dft_figure",
    "mapping_figure",
    "network_figure",
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
    left.legend(frameon=False, fontsize="small")
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


def network_figure(path: Path, runs: Sequence[NetworkRun]) -> None:
    """What the monitor sees while networks train.

    Args:
        path: of the figure.
        runs: of all seeds.
    """
    fig, ((left, right),) = figure(1, 2, panel=(4.6, 3.8))
    for number, trained in enumerate(dict.fromkeys(run.trained for run in runs)):
        color, marker = class_style(number)
        for k, run in enumerate(r for r in runs if r.trained == trained):
            x = [report.epoch for report in run.reports]
            style = {"color": color, "alpha": 0.7, "linewidth": 1.2}
            label = {"label": f"crystals; {trained}"} if k == 0 else {}
            errors = [MEV * e for e in run.crystal_errors]
            left.plot(x, errors, marker=marker, markersize=4, **style, **label)
            label = {"label": f"training set; {trained}"} if k == 0 else {}
            left.plot(x, [MEV * r.rmse for r in run.reports], linestyle="--", **style, **label)
            label = {"label": trained} if k == 0 else {}
            right.plot(
                x, [r.offset for r in run.reports], marker=marker, markersize=4, **style, **label
            )
    left.set(yscale="log", xlabel="epoch", ylabel="error of energies / (meV/atom)")
    left.set_ylim(top=30 * left.get_ylim()[1])  # room for the legend
    left.legend(frameon=False, fontsize="small", loc="upper right")
    right.set(yscale="log", xlabel="epoch", ylabel="rigidity of the offset / eV$^{-2}$")
    right.legend(frameon=False, title="trained on")
    save_figure(fig, path)


def convergence_figure(path: Path, results: Sequence[SizeResult]) -> None:
    """Errors of forces and energies against the number of structures, as in Fig. S3.

    Args:
        path: of the figure.
        results: of all kinds, sizes and seeds.
    """
    fig, axes = figure(1, 3, panel=(3.9, 3.5))
    sizes = sorted({r.size for r in results})
    quantities = (
        ("force", "RMSE of forces / (meV/Å)"),
        ("energy", "RMSE of energies / (meV/atom)"),
    )
    for number, kind in enumerate(KINDS):
        color, marker = class_style(number)
        for ax, (name, _) in zip(axes[0], quantities, strict=False):
            for part, style in (("train", "--"), ("test", "-")):
                y = [_median(results, kind, n, f"{name}_{part}") for n in sizes]
                label = kind if part == "test" else None
                ax.plot(sizes, y, style, color=color, marker=marker, markersize=4, label=label)
        y = [_median(results, kind, n, "crystal_error") for n in sizes]
        axes[0, 2].plot(sizes, y, color=color, marker=marker, markersize=4, label=kind)
    for ax, label in zip(
        axes[0],
        [label for _, label in quantities] + ["error of crystals / (meV/atom)"],
        strict=True,
    ):
        ax.set(xscale="log", yscale="log", xlabel="training structures", ylabel=label)
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
    axes[0, 0].legend(frameon=False, title="held out (dashed: trained on)")
    axes[0, 2].legend(frameon=False, title="trained on")
    save_figure(fig, path)


def _median(results: Sequence[SizeResult], kind: str, size: int, name: str) -> float:
    """Of the seeds, in thousandths."""
    return MEV * float(
        np.median([getattr(r, name) for r in results if (r.kind, r.size) == (kind, size)])
    )


def dft_figure(path: Path, stages: Sequence[DFTStage]) -> None:
    """Errors of invariant points, and of ordinary structures, as crystals are added.

    Args:
        path: of the figure.
        stages: of all seeds and numbers.
    """
    fig, ((left, right),) = figure(1, 2, panel=(4.6, 3.8))
    added = sorted({s.added for s in stages})
    for number, n in enumerate((added[0], added[-1])):
        color, marker = class_style(number)
        mine = [s for s in stages if s.added == n]
        x = np.concatenate([s.lpr for s in mine])
        y = MEV * np.abs(np.concatenate([s.errors for s in mine]))
        left.plot(x, y, marker, color=color, markersize=4, alpha=0.6, label=f"{n} crystals added")
    left.set(xscale="log", yscale="log", xlabel="LPR of invariant points / eV$^{-2}$")
    left.set(ylabel="|error| of invariant points / (meV/atom)")
    left.legend(frameon=False)
    for number, (name, label) in enumerate((
        ("invariant_rmse", "invariant points"),
        ("test_rmse", "held-out ordinary structures"),
    )):
        color, marker = class_style(number + 2)
        for seed in sorted({s.seed for s in stages}):
            mine = sorted((s for s in stages if s.seed == seed), key=lambda s: s.added)
            y = [MEV * getattr(s, name) for s in mine]
            only = label if seed == min(s.seed for s in stages) else None
            right.plot(added, y, marker=marker, markersize=4, color=color, alpha=0.7, label=only)
    right.set(yscale="log", xlabel="crystals added", ylabel="RMSE / (meV/atom)")
    right.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    right.minorticks_off()
    right.legend(frameon=False)
    save_figure(fig, path)
