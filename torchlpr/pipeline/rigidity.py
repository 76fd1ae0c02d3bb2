"""``torchlpr rigidity``: a run and structures in, a rigidity for every atom out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.maps import principal_components
from torchlpr.analysis.plots_maps import map_by_lpr
from torchlpr.analysis.plots_rigidity import lpr_histogram
from torchlpr.analysis.statistics import format_table, lpr_by_class
from torchlpr.errors import InputError
from torchlpr.export import Prediction, load
from torchlpr.extras import require
from torchlpr.ranks import ALONE, Ranks
from torchlpr.structures.io import read, write
from torchlpr.structures.validation import validate

__all__ = ["Report", "check_output", "rigidity_run"]

WEAKEST = 10


class Report:
    """What a run says about a file of structures, for a reader.

    Args:
        structures: the structures.
        prediction: of the run.
        verdict: whether the run's weights are at a minimum.
        files: what was written, by kind.
    """

    def __init__(
        self,
        structures: list[Atoms],
        prediction: Prediction,
        verdict: str,
        files: dict[str, str] | None = None,
    ) -> None:
        self.structures, self.prediction, self.verdict = structures, prediction, verdict
        self.files = files or {}

    def by_species(self) -> str:
        """Table of LPR quartiles for each species."""
        headers = ("species", "atoms", "min", "quartile", "median", "quartile", "max")
        rows = lpr_by_class(self.prediction.lpr, self.species())
        return format_table(rows, headers)

    def weakest(self) -> str:
        """Table of the atoms that the training set pins down least."""
        lpr = self.prediction.lpr
        owner = self.prediction.batch.structure
        first = np.cumsum([0, *self.prediction.batch.counts.tolist()])
        rows = []
        for k in lpr.argsort()[:WEAKEST].tolist():
            structure = int(owner[k])
            rows.append((
                structure,
                k - int(first[structure]),
                self.species()[k],
                float(lpr[k]),
                float(self.prediction.lpr_mu_fraction[k]),
            ))
        return format_table(rows, ("structure", "atom", "species", "LPR / eV^-2", "mu-fraction"))

    def by_structure(self) -> list[dict[str, object]]:
        """Rigidity of each structure's energy per atom, and quartiles of the LPR of its atoms."""
        levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
        names = ("min", "lower_quartile", "median", "upper_quartile", "max")
        parts = self.prediction.lpr.split(self.prediction.batch.counts.tolist())
        return [
            {
                "structure": number,
                "atoms": len(lpr),
                "pr": float(self.prediction.pr[number]),
                "lpr": dict(zip(names, lpr.cpu().quantile(levels).tolist(), strict=True)),
            }
            for number, lpr in enumerate(parts)
        ]

    def species(self) -> list[str]:
        """Chemical symbol of every atom."""
        return [chemical_symbols[z] for z in self.prediction.batch.types.tolist()]

    @property
    def blind(self) -> float:
        """Share of the atoms whose LPR is the regulariser's alone."""
        return float((self.prediction.lpr_mu_fraction > 0.9).double().mean())

    def as_dict(self) -> dict[str, object]:
        """The figures as plain data."""
        table = [row._asdict() for row in lpr_by_class(self.prediction.lpr, self.species())]
        return {
            "structures": len(self.structures),
            "atoms": len(self.prediction.lpr),
            "rmse": self.prediction.rmse(),
            "lpr_by_species": table,
            "share_with_mu_fraction_over_0.9": self.blind,
            "largest_energy_uncertainty": (
                None
                if self.prediction.local_uncertainty is None
                else float(self.prediction.local_uncertainty.max())
            ),
            "verdict": self.verdict,
            "by_structure": self.by_structure(),
            "files": self.files,
        }

    def __str__(self) -> str:
        """The report as text."""
        rmse = self.prediction.rmse()
        error = "" if rmse is None else f"RMSE of the energy: {rmse:.3e} eV/atom\n"
        sigma = self.prediction.local_uncertainty
        if sigma is not None:
            error += (
                f"uncertainty of the energy of an atom: median {float(sigma.median()):.3e}, "
                f"largest {float(sigma.max()):.3e} eV (calibrated)\n"
            )
        return (
            f"{len(self.structures)} structures, {len(self.prediction.lpr)} atoms\n{error}"
            f"\nLPR in eV^-2 by species\n{self.by_species()}\n"
            f"\nthe atoms that the training set pins down least\n{self.weakest()}\n"
            f"\n{100 * self.blind:.1f} % of the atoms have a mu-fraction over 0.9: there the LPR "
            f"is the regulariser's alone and the training set says nothing.\n{self.verdict}"
        )


def rigidity_run(
    run: str | Path,
    structures: str | Path,
    out: str | Path,
    chemiscope: str | Path | None = None,
    plot: str | Path | None = None,
    energy_key: str = "energy",
    ranks: Ranks = ALONE,
) -> Report:
    """Rigidity of every atom in a file.

    Args:
        run: folder that ``torchlpr fit`` wrote.
        structures: file of structures; energies are welcome but not needed.
        out: extended XYZ file to write, with the arrays lpr, lpr_mu_fraction and
            local_energy, and energy_uncertainty where the run is calibrated.
        chemiscope: chemiscope file to write as well.
        plot: figure to write as well: map and histogram of LPR.
        energy_key: name of the total energy in the file.
        ranks: processes that share the work; the first of them writes.

    Returns:
        The report.
    """
    with ranks.agreed():
        check_output(chemiscope, "chemiscope", (".json", ".json.gz"))
        check_output(plot, "matplotlib", (".png", ".pdf", ".svg"))
        opened = load(run, ranks)
        frames = read(structures, energy_key)
        validate(frames, str(structures), types=opened.descriptor.types)
    prediction = opened.predict(frames)
    written = {"out": out, "chemiscope": chemiscope, "plot": plot}
    files = {kind: str(path) for kind, path in written.items() if path is not None}
    report = Report(frames, prediction, opened.stationarity.sentence(), files)
    with ranks.agreed():
        if ranks.first:
            write(out, frames, **prediction.per_atom())
            _draw(report, opened.descriptor.cutoff, chemiscope, plot)
    return report


def _draw(
    report: Report, cutoff: float, chemiscope: str | Path | None, plot: str | Path | None
) -> None:
    """Write the chemiscope file and the figure, where they are asked for."""
    if chemiscope is None and plot is None:
        return
    prediction = report.prediction
    coordinates, explained = principal_components(prediction.batch.features)
    if chemiscope is not None:
        write_chemiscope(
            chemiscope,
            report.structures,
            prediction.per_atom(),
            map_coordinates=coordinates,
            cutoff=cutoff,
        )
    if plot is not None:
        fig, axes = figure(1, 2)
        map_by_lpr(axes[0, 0], coordinates, prediction.lpr, explained=explained)
        lpr_histogram(axes[0, 1], prediction.lpr, report.species())
        save_figure(fig, plot)


def check_output(path: str | Path | None, package: str, endings: tuple[str, ...]) -> None:
    """Refuse an output that cannot be written, before another one is.

    Args:
        path: the file, None for no output.
        package: what writes it.
        endings: what its name may end in.

    Raises:
        InputError: if it ends otherwise.
    """
    if path is None:
        return
    require(package)
    if not str(path).lower().endswith(endings):
        raise InputError(f"{path} must end in {' or '.join(endings)}; choose another name")
