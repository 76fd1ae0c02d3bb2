"""Tables and figures of the study of the neural network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ase
import numpy as np

from torchlpr.analysis.arrays import Floats, Values
from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.analysis.figures import LPR_LABEL, class_style, figure, save_figure
from torchlpr.analysis.rank_statistics import spearman
from torchlpr.pipeline.figures import have_chemiscope, have_plots
from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.disorder_protocol import BONDED
from torchlpr.studies.carbon_data import slab_heights
from torchlpr.studies.network_variants import DRAWN, SUBSAMPLED, Variant
from torchlpr.studies.report import write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_figures", "write_tables"]


def write_tables(
    folder: Path,
    variants: Sequence[Variant],
    film: ase.Atoms,
    baseline: float,
    kernel: tuple[float, float],
    spread: float,
    data: str,
) -> None:
    """Write results.csv, a row for each variant, and atoms.csv, one for each atom of the film.

    Args:
        folder: where to.
        variants: of the network.
        film: the large structure.
        baseline: energy of an atom that was subtracted, eV.
        kernel: test error of the sparse kernel in eV, and seconds of processor time.
        spread: standard deviation of the test energies per atom, eV.
        data: what the study ran on.
    """
    rows = [_row(variant, spread) | {"data": data} for variant in variants]
    error, seconds = kernel
    last = dict.fromkeys(rows[0], "") | {"variant": "sparse kernel", "data": data}
    last["RMSE test / (meV/atom)"] = f"{1000 * error:.3g}"
    last["%RMSE test"] = f"{100 * error / spread:.3g}"
    last["processor time / s"] = f"{seconds:.1f}"
    rows.append(last)
    write_table(folder / "results.csv", {key: [row[key] for row in rows] for key in rows[0]})
    columns = {name: film.positions[:, k].tolist() for k, name in enumerate("xyz")}
    columns["coordination"] = coordination_numbers(film, BONDED).tolist()
    for variant in variants:
        columns[f"{variant.name} LPR"] = variant.lpr.tolist()
        columns[f"{variant.name} mu-fraction"] = variant.mu_fraction.tolist()
        mean = variant.committees[SUBSAMPLED].mean(0) + baseline
        columns[f"{variant.name} mean"] = mean.tolist()
        for kind, energies in variant.committees.items():
            columns[f"{variant.name} {kind} variance"] = energies.var(0).tolist()
    write_table(folder / "atoms.csv", columns)


def _row(variant: Variant, spread: float) -> dict[str, str]:
    reached, rmse = variant.reached, variant.test_rmse
    row = {
        "variant": variant.name,
        "optimizer": variant.fit.optimizer,
        "epochs or steps": str(len(variant.fit.epochs) + len(variant.fit.steps)),
        "RMSE train / (meV/atom)": f"{1000 * variant.fit.rmse:.3g}",
        "RMSE test / (meV/atom)": f"{1000 * rmse:.3g}",
        "%RMSE test": f"{100 * rmse / spread:.3g}",
        "|grad L| / mu|w|": f"{reached.relative_gradient:.2g}",
        "Newton decrement / eV^2": f"{reached.newton_decrement:.2g}",
        "vertex shift / eV": f"{reached.vertex_shift:.2g}",
        "std of atomic energies / eV": f"{reached.local_std:.3g}",
        "lowest curvature": f"{reached.smallest_curvature:.2g}",
        "highest curvature": f"{reached.largest_curvature:.3g}",
        "effective dof": f"{reached.effective_dof:.1f}",
        "median LPR / eV^-2": f"{float(variant.lpr.median()):.3g}",
        "median mu-fraction": f"{float(variant.mu_fraction.median()):.3g}",
    }
    for kind in (SUBSAMPLED, DRAWN):
        there = kind in variant.committees
        row[f"slope, {kind}"] = f"{variant.slope(kind):.2f}" if there else ""
        row[f"Spearman, {kind}"] = f"{variant.rank(kind):.2f}" if there else ""
    return row | {"processor time / s": f"{variant.seconds:.1f}"}


def write_figures(
    folder: Path,
    variants: Sequence[Variant],
    film: ase.Atoms,
    baseline: float,
    cutoff: float,
) -> None:
    """Draw variance.png and film.png, and write atoms.json.gz for chemiscope.

    Args:
        folder: where to.
        variants: of the network, the converged one first.
        film: the large structure.
        baseline: energy of an atom that was subtracted, eV.
        cutoff: of the descriptor, Å.
    """
    if have_plots():
        _draw_variances(folder / "variance.png", variants)
        _draw_film(folder / "film.png", variants, film)
    if not have_chemiscope():
        return
    first = variants[0]
    quantities: dict[str, Values] = {"lpr": first.lpr, "mu_fraction": first.mu_fraction}
    quantities["coordination"] = coordination_numbers(film, BONDED)
    quantities["local_energy"] = first.committees[SUBSAMPLED].mean(0) + baseline
    for variant in variants:
        quantities[f"log10 LPR, {variant.name}"] = variant.lpr.log10()
        variance = variant.committees[SUBSAMPLED].var(0)
        quantities[f"log10 variance, {variant.name}"] = variance.log10()
    write_chemiscope(
        folder / "atoms.json.gz",
        [film],
        quantities,
        cutoff=cutoff,
        name="Film of low density, neural network",
        description="rigidities and committee variances of three networks",
    )


def _draw_variances(path: Path, variants: Sequence[Variant]) -> None:
    """Committee variance against LPR as in Fig. S20, and LPR of two variants."""
    fig, axes = figure(2, 2, panel=(4.8, 3.9))
    for ax, variant in zip(axes.flat[:3], variants, strict=True):
        lpr = variant.lpr.numpy()
        for number, (kind, energies) in enumerate(variant.committees.items()):
            variance = energies.var(0).numpy()
            color, marker = class_style(number)
            label = f"{len(energies)} {kind}, ρ = {variant.rank(kind):.2f}"
            style = {"s": 12, "linewidths": 0, "alpha": 0.7, "marker": marker, "color": color}
            ax.scatter(lpr, variance, label=label, **style)
            _inverse(ax, lpr, variance, color)
        ax.set(xscale="log", yscale="log", title=variant.name)
        ax.set(xlabel=LPR_LABEL, ylabel="committee variance / eV$^2$")
        ax.legend(loc="lower left", framealpha=0.9, edgecolor="none", fontsize="small")
        low, high = ax.get_ylim()
        ax.set_ylim(low / (high / low) ** 0.25, high)  # room for the legend
    first, second = variants[0], variants[1]
    ax, color = axes[1, 1], class_style(2)[0]
    ax.scatter(first.lpr, second.lpr, s=12, linewidths=0, alpha=0.7, color=color)
    both = np.concatenate([first.lpr.numpy(), second.lpr.numpy()])
    ends = [both.min(), both.max()]
    ax.plot(ends, ends, color="0.4", linewidth=1, label="equal")
    ax.set(xscale="log", yscale="log", title=f"ρ = {spearman(first.lpr, second.lpr):.2f}")
    ax.set(xlabel=f"{LPR_LABEL}, {first.name}", ylabel=f"{LPR_LABEL}, {second.name}")
    ax.legend(loc="upper left", frameon=False)
    save_figure(fig, path)


def _inverse(ax: Axes, lpr: Floats, variance: Floats, color: str) -> None:
    """The line of slope -1 through the middle of the points."""
    middle = np.exp(np.mean(np.log(lpr * variance)))
    ends = np.array([lpr.min(), lpr.max()])
    ax.plot(ends, middle / ends, color=color, linewidth=1, linestyle="--")


def _draw_film(path: Path, variants: Sequence[Variant], film: ase.Atoms) -> None:
    """The film from its side, one panel a variant, coloured by log10 LPR."""
    fig, axes = figure(len(variants), 1, panel=(6.2, 3.0))
    height, axis = slab_heights(film)
    edge, other = (k for k in range(3) if k != axis)
    across, depth = film.get_positions(wrap=True).T[[edge, other]]
    order = np.argsort(depth, kind="stable")
    for ax, variant in zip(axes[:, 0], variants, strict=True):
        logs = variant.lpr.log10().numpy()
        low, high = np.percentile(logs, [1, 99])
        points = ax.scatter(
            height[order],
            across[order],
            c=logs[order],
            s=40 + 90 * (depth[order] - depth.min()) / np.ptp(depth),
            vmin=low,
            vmax=high,
            edgecolors="0.3",
            linewidths=0.4,
        )
        label = "log$_{10}$ (LPR / eV$^{-2}$)"
        fig.colorbar(points, ax=ax, label=label, extend="both")
        ax.set(aspect="equal", title=variant.name)
        ax.set(xlabel="height over the lowest atom / Å", ylabel=f"{'xyz'[edge]} / Å")
    save_figure(fig, path)
