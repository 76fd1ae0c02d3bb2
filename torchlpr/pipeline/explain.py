"""``torchlpr explain``: which training structures make up the rigidity of an atom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from ase import Atoms

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_attribution import attribution_bars
from torchlpr.analysis.statistics import format_table
from torchlpr.errors import InputError
from torchlpr.export import load
from torchlpr.export.run import checkpoint_of
from torchlpr.files import write_table
from torchlpr.pipeline.claim import CONFIG
from torchlpr.pipeline.config import DataConfig
from torchlpr.pipeline.data import Parts, described_chunks, read_parts
from torchlpr.pipeline.rigidity import check_output
from torchlpr.rigidity import Attribution, attribute
from torchlpr.structures.io import read
from torchlpr.structures.validation import validate

__all__ = ["ExplainReport", "explain_run"]

BAR_HEIGHT = 0.28  # inches


@dataclass(frozen=True)
class ExplainReport:
    """The shares of one atom's rigidity, for a reader.

    Attributes:
        atom: its number in the structure.
        species: its symbol.
        attribution: the shares, one for each training structure.
        indices: place of each training structure in its file.
        formulas: of the training structures.
        file: the training file.
        top: number of structures to show.
    """

    atom: int
    species: str
    attribution: Attribution
    indices: list[int]
    formulas: list[str]
    file: str
    top: int

    def order(self) -> list[int]:
        """Training structures by decreasing share, those to show."""
        ordered = self.attribution.structures.argsort(descending=True, stable=True)
        return [int(i) for i in ordered[: self.top]]

    def rows(self) -> list[tuple[object, ...]]:
        """Place in the file, formula, shares of energy, of forces and of both in per cent."""
        found = self.attribution
        columns = (found.energies, found.forces, found.structures)
        return [
            (self.indices[i], self.formulas[i], *(100 * float(column[i]) for column in columns))
            for i in self.order()
        ]

    def as_dict(self) -> dict[str, object]:
        """The shares as plain data, fractions of one."""
        found = self.attribution
        structures = [
            {
                "structure": self.indices[i],
                "formula": self.formulas[i],
                "energy": float(found.energies[i]),
                "forces": float(found.forces[i]),
            }
            for i in self.order()
        ]
        return {
            "atom": self.atom,
            "species": self.species,
            "lpr": found.rigidity,
            "share_of_energies": float(found.energies.sum()),
            "share_of_forces": float(found.forces.sum()),
            "share_of_regulariser": found.regulariser,
            "training_file": self.file,
            "training_structures": len(found.energies),
            "structures_for_half_of_the_data": found.half(),
            "structures": structures,
        }

    def __str__(self) -> str:
        """The report as text."""
        found = self.attribution
        headers = ("structure", "formula", "energy / %", "forces / %", "both / %")
        shares = (float(found.energies.sum()), float(found.forces.sum()), found.regulariser)
        energies, forces, regulariser = (f"{100 * share:.4g} %" for share in shares)
        return (
            f"atom {self.atom} ({self.species}): LPR {found.rigidity:.4g} eV^-2, made up of\n"
            f"  {energies} energies and {forces} forces of {len(found.energies)} training "
            f"structures,\n  {regulariser} the regulariser (the mu-fraction).\n"
            f"Half of what the data contribute is from {found.half()} of them.\n\n"
            f"structures of {self.file} (numbers from 0) with the largest shares of the LPR\n"
            f"{format_table(self.rows(), headers)}"
        )


def explain_run(
    run: str | Path,
    structure: str | Path,
    atom: int,
    index: int | None = None,
    train: str | Path | None = None,
    top: int = 10,
    plot: str | Path | None = None,
    csv: str | Path | None = None,
    progress: bool | None = None,
) -> ExplainReport:
    """Find the shares of training structures, energies, forces and regulariser in an atom's LPR.

    The run keeps no training structures: their file is read again, as its config.yaml says, and
    the shares have to add up to one.

    Args:
        run: folder that ``torchlpr fit`` wrote.
        structure: file with the structure of the atom.
        atom: number of the atom in it, from 0.
        index: number of the structure, from 0, where the file has several.
        train: the training file, where it is no longer where the run's config.yaml says.
        top: number of training structures to show.
        plot: figure to write: bars.
        csv: table to write: the shares of all training structures.
        progress: whether to show a bar; None shows it for long work.

    Returns:
        The report.

    Raises:
        InputError: if there is no such atom, structure, run or training file.
    """
    check_output(plot, "matplotlib", (".png", ".pdf", ".svg"))
    check_output(csv, "csv", (".csv",))
    if top < 1:
        raise InputError(f"top is a number of structures to show, at least 1, not {top}")
    opened = load(run)
    asked = _the_structure(structure, index)
    validate([asked], str(structure), types=opened.descriptor.types)
    if not 0 <= atom < len(asked):
        raise InputError(
            f"the structure has no atom {atom}: its {len(asked)} atoms have the numbers 0 to "
            f"{len(asked) - 1}"
        )
    parts, file = _training(run, train, opened.rigidity.objective.force_weight > 0)
    batch = opened.descriptor([asked], progress=progress)
    chunks = described_chunks(opened, parts.train, "training structures", progress)
    found = attribute(opened.rigidity, batch, atom, chunks)
    formulas = [atoms.get_chemical_formula() for atoms in parts.train]
    species = str(asked.symbols[atom])
    report = ExplainReport(atom, species, found, parts.train_indices, formulas, file, top)
    if csv is not None:
        columns = {
            "structure": report.indices,
            "formula": formulas,
            "energy": found.energies.tolist(),
            "forces": found.forces.tolist(),
        }
        write_table(csv, columns)
    if plot is not None:
        _draw(report, plot)
    return report


def _the_structure(path: str | Path, index: int | None) -> Atoms:
    frames = read(path, None, None)
    if index is None:
        if len(frames) > 1:
            raise InputError(
                f"{path} holds {len(frames)} structures: say which one with index 0 to "
                f"{len(frames) - 1}"
            )
        index = 0
    if not 0 <= index < len(frames):
        raise InputError(
            f"{path} has no structure {index}: its {len(frames)} structures have the numbers 0 "
            f"to {len(frames) - 1}"
        )
    return frames[index]


def _training(run: str | Path, train: str | Path | None, forces: bool) -> tuple[Parts, str]:
    """The training structures as the fit read and split them, and their file."""
    path = checkpoint_of(run).with_name(CONFIG)
    if not path.exists():
        raise InputError(
            f"{path} does not exist, which says what the run was trained on; give the folder "
            "that torchlpr fit wrote"
        )
    config = DataConfig(**yaml.safe_load(path.read_text())["data"])
    file = config.train if train is None else str(train)
    if not Path(file).exists():
        raise InputError(
            f"the training file {file} does not exist, and the run keeps no structures; say "
            "where it is now with train"
        )
    config.train = file
    # validation and test sets of their own files play no part
    for name in ("validation", "test"):
        if isinstance(getattr(config, name), str):
            setattr(config, name, 0.0)
    return read_parts(config, forces), file


def _draw(report: ExplainReport, plot: str | Path) -> None:
    found, order = report.attribution, report.order()
    shown = torch.stack([found.energies, found.forces, torch.zeros_like(found.energies)], dim=1)
    rows = shown[order].tolist()
    labels = [f"{report.indices[i]}: {report.formulas[i]}" for i in order]
    if len(order) < len(shown):
        rest = shown.sum(0) - shown[order].sum(0)
        rows.append(rest.clamp(min=0).tolist())
        labels.append(f"{len(shown) - len(order)} others")
    rows.append([0.0, 0.0, found.regulariser])
    labels.append("regulariser")
    fig, axes = figure(panel=(5.5, 1.0 + BAR_HEIGHT * len(rows)))
    attribution_bars(axes[0, 0], labels, rows)
    axes[0, 0].set_title(f"atom {report.atom} ({report.species}), {found.rigidity:.3g} eV$^{{-2}}$")
    save_figure(fig, plot)
