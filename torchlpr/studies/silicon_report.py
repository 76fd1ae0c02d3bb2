"""Tables, figures and the chemiscope file of the study of silicon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.files import atomic_path
from torchlpr.pipeline.figures import have_chemiscope, have_plots
from torchlpr.studies.report import write_table
from torchlpr.studies.silicon_convergence import SizeResult
from torchlpr.studies.silicon_curves import convergence_figure, dft_figure, network_figure
from torchlpr.studies.silicon_dft import DFTStage
from torchlpr.studies.silicon_figures import cluster_figure, mapping_figure, ratio_figure
from torchlpr.studies.silicon_network import NetworkRun
from torchlpr.studies.silicon_slabs import SlabSets
from torchlpr.studies.silicon_stage import SlabStage

__all__ = ["write_silicon"]


def write_silicon(
    folder: Path,
    sets: SlabSets,
    stages: Sequence[SlabStage],
    networks: Sequence[NetworkRun],
    sizes: Sequence[SizeResult],
    dft: Sequence[DFTStage],
) -> None:
    """Write everything but the claims.

    Args:
        folder: where to.
        sets: the slabs of the kernel head.
        stages: of all heads.
        networks: watched while they trained, empty where there are none.
        sizes: errors against the number of structures.
        dft: the part on real data, empty where it was skipped.
    """
    _table(folder / "slabs.csv", [_slab_row(s) for s in stages])
    _table(folder / "sizes.csv", [asdict(r) for r in sizes])
    if networks:
        _table(folder / "networks.csv", [row for run in networks for row in _network_rows(run)])
    if dft:
        _table(folder / "dft.csv", [_dft_row(s) for s in dft])
    with atomic_path(folder / "monitor.txt") as temporary:
        lines = [f"{s.head} on {s.loss}, {s.trained}:\n  {s.words}" for s in stages]
        lines += [
            f"network of seed {r.seed} on energies and forces, {r.trained}:\n  {r.reports[-1]}"
            for r in networks
        ]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if have_plots():
        local = [s for s in stages if s.head == "kernel" and s.force_weight]
        mapping_figure(folder / "mapping.png", sets, local[:3])
        ratio_figure(folder / "ratio.png", sets, stages)
        cluster_figure(folder / "clusters.png", sets)
        if networks:
            network_figure(folder / "networks.png", networks)
        convergence_figure(folder / "convergence.png", sizes)
        if dft:
            dft_figure(folder / "dft.png", dft)
    if have_chemiscope():
        _chemiscope(folder / "atoms.json.gz", sets, stages)


def _table(path: Path, rows: Sequence[dict[str, object]]) -> None:
    write_table(path, {name: [str(row[name]) for row in rows] for name in rows[0]})


def _slab_row(stage: SlabStage) -> dict[str, object]:
    """One line of the table."""
    return {
        "head": stage.head,
        "loss": stage.loss,
        "trained on": stage.trained,
        "structures": stage.n_structures,
        "RMSE slabs / (meV/atom)": f"{1e3 * stage.slab_rmse:.3g}",
        "RMSE forces / (meV/Å)": f"{1e3 * stage.slab_force_rmse:.3g}",
        "crystal error / (meV/atom)": f"{1e3 * stage.crystal_error:.3g}",
        "bulk-like atoms / meV": f"{1e3 * stage.bulk_error:.3g}",
        "surface atoms / meV": f"{1e3 * stage.surface_error:.3g}",
        "LPR crystals / eV^-2": f"{float(stage.crystal_lpr[1:].median()):.3g}",
        "rigidity slabs / eV^-2": f"{stage.slab_rigidity:.3g}",
        "rigidity offset / eV^-2": f"{stage.offset:.3g}",
        "its mu-fraction": f"{stage.offset_floor:.2g}",
        "ad hoc": "yes" if stage.ad_hoc else "no",
        "wall time / s": f"{stage.seconds:.3g}",
    }


def _network_rows(run: NetworkRun) -> list[dict[str, object]]:
    """One line a report of the monitor."""
    return [
        {
            "trained on": run.trained,
            "seed": run.seed,
            "epoch": report.epoch,
            "training RMSE / (meV/atom)": f"{1e3 * report.rmse:.3g}",
            "crystal error / (meV/atom)": f"{1e3 * error:.3g}",
            "lowest rigidity of a crystal / eV^-2": f"{min(report.rigidity):.3g}",
            "rigidity offset / eV^-2": f"{report.offset:.3g}",
            "its mu-fraction": f"{report.offset_floor:.2g}",
            "ad hoc": "yes" if report.ad_hoc else "no",
            "RMSE slabs / (meV/atom)": f"{1e3 * run.slab_rmse:.3g}",
            "RMSE forces / (meV/Å)": f"{1e3 * run.slab_force_rmse:.3g}",
        }
        for report, error in zip(run.reports, run.crystal_errors, strict=True)
    ]


def _dft_row(stage: DFTStage) -> dict[str, object]:
    return {
        "seed": stage.seed,
        "ordinary structures": stage.n_train,
        "crystals added": stage.added,
        "invariant RMSE / (meV/atom)": f"{1e3 * stage.invariant_rmse:.3g}",
        "largest / (meV/atom)": f"{1e3 * float(stage.errors.abs().max()):.3g}",
        "median LPR / eV^-2": f"{float(stage.lpr.median()):.3g}",
        "test RMSE / (meV/atom)": f"{1e3 * stage.test_rmse:.3g}",
        "training RMSE / (meV/atom)": f"{1e3 * stage.train_rmse:.3g}",
    }


def _chemiscope(path: Path, sets: SlabSets, stages: Sequence[SlabStage]) -> None:
    """Some held-out slabs, before and after."""
    frames = sets.test_frames[:3]
    n = sum(map(len, frames))
    kernel = [s for s in stages if s.head == "kernel" and s.force_weight]
    write_chemiscope(
        path,
        frames,
        {
            "local_energy": kernel[0].site_energies[:n],
            "local_energy with a crystal": kernel[1].site_energies[:n],
            "teacher": sets.site_energies[:n],
            "lpr": kernel[1].slab_lpr[:n],
            "lpr of slabs only": kernel[0].slab_lpr[:n],
            "class": np.where(sets.surface[:n].numpy(), "surface", "bulk-like"),
        },
        cutoff=4.0,
        name="silicon_mapping",
        description="held-out slabs; kernel head on energies and forces of slabs only, and with "
        "one crystal",
    )
