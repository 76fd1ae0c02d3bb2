"""``torchlpr design``: which candidates to label next, for the sake of some atoms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from ase import Atoms
from torch import Tensor

from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.maps import principal_components
from torchlpr.analysis.plots_design import gain_curve
from torchlpr.analysis.statistics import format_table
from torchlpr.design import (
    Criterion,
    Design,
    candidate_rows,
    greedy_design,
    target_gradients,
)
from torchlpr.design.criteria import check_criterion
from torchlpr.errors import InputError
from torchlpr.export import Run, load
from torchlpr.files import make_folder
from torchlpr.pipeline.data import described_chunks
from torchlpr.pipeline.figures import have_chemiscope, have_plots
from torchlpr.pipeline.fit import write_json
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.io import read, write
from torchlpr.structures.validation import validate

__all__ = ["DesignReport", "design_run"]

EXPLAINED = {
    "mean-log": "increase of the mean ln LPR of the targets",
    "min": "increase of the smallest LPR of the targets, eV^-2",
    "A": "decrease of the mean 1/LPR of the targets, eV^2",
    "D": "increase of ln det H, whatever the targets",
}


@dataclass(frozen=True)
class DesignReport:
    """The picks, for a reader.

    Attributes:
        design: what was chosen.
        candidates: number of candidates.
        out: folder of the files.
    """

    design: Design
    candidates: int
    out: Path

    def rows(self) -> list[tuple[object, ...]]:
        """Number, candidate, gain, geometric mean and minimum of the target LPR for each pick."""
        lpr = self.design.lpr
        mean, low = lpr.log().mean(1).exp().tolist(), lpr.amin(1).tolist()
        picks = zip(self.design.picks, self.design.gains, strict=True)
        return [
            (k, pick, gain, mean[k], low[k], mean[k] / mean[0])
            for k, (pick, gain) in enumerate(picks, start=1)
        ]

    def as_dict(self) -> dict[str, object]:
        """The curve as plain data."""
        names = ("pick", "candidate", "gain", "geometric_mean_lpr", "min_lpr", "factor")
        lpr = self.design.lpr
        return {
            "criterion": self.design.criterion,
            "gain_is": EXPLAINED[self.design.criterion],
            "candidates": self.candidates,
            "targets": lpr.shape[1],
            "geometric_mean_lpr": lpr.log().mean(1).exp().tolist(),
            "min_lpr": lpr.amin(1).tolist(),
            "mean_inverse_lpr": (1 / lpr).mean(1).tolist(),
            "picks": [dict(zip(names, row, strict=True)) for row in self.rows()],
        }

    def __str__(self) -> str:
        """The report as text."""
        headers = ("pick", "candidate", "gain", "mean LPR", "min LPR", "factor")
        lpr = self.design.lpr[0]
        return (
            f"{self.candidates} candidates, {len(lpr)} target atoms with a geometric mean LPR of "
            f"{float(lpr.log().mean().exp()):.4g} eV^-2 and a smallest of "
            f"{float(lpr.min()):.4g}\n"
            f"gain: {EXPLAINED[self.design.criterion]}\n\n{format_table(self.rows(), headers)}\n\n"
            "The gains are exact for linear and kernel models that are trained again with the "
            "same mu and reference environments, and hold at fixed weights for a network.\n"
            f"{self.out} holds picks.xyz, ready to be labelled, and design.json."
        )


def design_run(
    run: str | Path,
    candidates: str | Path,
    targets: str | Path,
    out: str | Path = "design",
    n: int = 10,
    criterion: Criterion = "mean-log",
    target_key: str | None = None,
    energy_key: str | None = "energy",
    progress: bool | None = None,
) -> DesignReport:
    """Choose the candidates that raise the rigidity of the targets most.

    Args:
        run: folder that ``torchlpr fit`` wrote.
        candidates: file of structures that could be labelled; their energies are not used.
        targets: file of structures with the atoms that matter.
        out: folder for picks.xyz, design.json and, where matplotlib and chemiscope are
            installed, gain.png and targets.json.gz.
        n: number of picks.
        criterion: see :func:`torchlpr.design.greedy_design`.
        target_key: name of an array of the targets that is not zero where an atom matters; all
            atoms if None.
        energy_key: name of the energy that picks.xyz keeps where candidates have one; None
            drops it.
        progress: whether to show bars; None shows them for long work.

    Returns:
        The report.

    Raises:
        InputError: if there are fewer candidates than picks, or an array or a file is not there.
    """
    check_criterion(criterion)
    opened = load(run)
    wanted = read(targets, None, None)
    validate(wanted, str(targets), types=opened.descriptor.types)
    mask = _mask(wanted, targets, target_key)
    pool = read(candidates, energy_key)
    validate(pool, str(candidates), types=opened.descriptor.types)
    if not 1 <= n <= len(pool):
        raise InputError(f"cannot choose {n} of {len(pool)} candidates; give 1 to {len(pool)}")
    batch = opened.descriptor(wanted, progress=progress)
    gradients = target_gradients(opened.rigidity, batch, mask)
    rows = candidate_rows(opened.rigidity, described_chunks(opened, pool, "candidates", progress))
    design = greedy_design(opened.rigidity.factor, rows, gradients, n, criterion, progress)
    folder = make_folder(out)
    report = DesignReport(design, len(pool), folder)
    write_json(folder / "design.json", report.as_dict())
    _write_picks(folder / "picks.xyz", pool, report)
    if have_plots():
        fig, axes = figure()
        gain_curve(axes[0, 0], design.lpr)
        save_figure(fig, folder / "gain.png")
    if have_chemiscope():
        _write_targets(folder / "targets.json.gz", wanted, batch, mask, design, opened)
    return report


def _mask(structures: list[Atoms], source: str | Path, key: str | None) -> Tensor:
    """Which atoms of the targets matter."""
    if key is None:
        return torch.ones(sum(len(atoms) for atoms in structures), dtype=torch.bool)
    for i, atoms in enumerate(structures):
        if key not in atoms.arrays or atoms.arrays[key].ndim != 1:
            there = ", ".join(sorted(set(atoms.arrays) - {"positions"}))
            raise InputError(
                f"structure {i} of {source} has no array {key!r} with one number an atom; "
                f"choose the target_key among: {there}"
            )
    return torch.cat([torch.from_numpy(atoms.arrays[key] != 0) for atoms in structures])


def _write_picks(path: Path, pool: list[Atoms], report: DesignReport) -> None:
    """The picks in their order, each with its candidate number and predicted gain."""
    picks = []
    for number, candidate, gain, *_ in report.rows():
        atoms = pool[int(str(candidate))].copy()
        atoms.calc = pool[int(str(candidate))].calc
        atoms.info |= {"pick": number, "candidate": candidate, "predicted_gain": gain}
        picks.append(atoms)
    write(path, picks)


def _write_targets(
    path: Path, structures: list[Atoms], batch: AtomBatch, mask: Tensor, design: Design, run: Run
) -> None:
    """The target structures with the LPR of the atoms meant, before and after."""
    before = run.rigidity.local(batch)
    after = before.clone()
    after[mask] = design.lpr[-1]
    factor = (after / before).log10()
    properties = {
        "lpr": before,
        "lpr_after_picks": after,
        "log10 gain": factor,
        "target": mask.int(),
    }
    coordinates, _ = principal_components(batch.features)
    write_chemiscope(
        path,
        structures,
        properties,
        map_coordinates=coordinates,
        cutoff=run.descriptor.cutoff,
        name="Dataset design",
        description=f"LPR of the targets before and after {len(design.picks)} picks; atoms that "
        "are no target keep the value before",
    )
