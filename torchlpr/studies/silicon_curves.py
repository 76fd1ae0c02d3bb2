"""Curves of the study of silicon: against epochs, training structures and crystals added."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.studies.silicon_convergence import KINDS, SizeResult
from torchlpr.studies.silicon_dft import DFTStage
from torchlpr.studies.silicon_network import NetworkRun

__all__ = ["convergence_figure", "dft_figure", "network_figure"]

MEV = 1000.0


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
            label = {"label": f"crystals, after {trained}"} if k == 0 else {}
            errors = [MEV * e for e in run.crystal_errors]
            left.plot(x, errors, marker=marker, markersize=4, **style, **label)
            label = {"label": f"training set, {trained}"} if k == 0 else {}
            left.plot(x, [MEV * r.rmse for r in run.reports], linestyle="--", **style, **label)
            label = {"label": trained} if k == 0 else {}
            right.plot(
                x, [r.offset for r in run.reports], marker=marker, markersize=4, **style, **label
            )
    left.set(yscale="log", ylabel="error of energies / (meV/atom)")
    adam = runs[0].reports[-2].epoch
    for ax in (left, right):
        ax.set(xlabel="epoch of Adam, then step of Levenberg-Marquardt")
        ax.axvline(adam, color="0.6", linestyle=":", linewidth=1)
    left.set_ylim(top=30 * left.get_ylim()[1])  # room for the legend
    left.legend(frameon=False, fontsize="small", loc="upper left")
    right.set(yscale="log", ylabel="rigidity of the offset / eV$^{-2}$")
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
