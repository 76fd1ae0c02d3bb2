"""``torchlpr rigidity``: a run and structures in, a rigidity for every atom out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.maps import principal_components
from torchlpr.analysis.plots_maps import map_by_lpr
from torchlpr.analysis.plots_rigidity import lpr_histogram
from torchlpr.curvature.gauss_newton import Shape
from torchlpr.errors import InputError
from torchlpr.export import Run, load
from torchlpr.extras import require
from torchlpr.pipeline.rigidity_report import Report
from torchlpr.ranks import ALONE, Ranks
from torchlpr.structures.io import read, write
from torchlpr.structures.validation import validate

__all__ = ["check_output", "rigidity_run"]


def rigidity_run(
    run: str | Path,
    structures: str | Path,
    out: str | Path,
    chemiscope: str | Path | None = None,
    plot: str | Path | None = None,
    energy_key: str = "energy",
    ranks: Ranks = ALONE,
    shape: Shape = "auto",
    parameters: Sequence[str] | None = None,
) -> Report:
    """Rigidity of every atom in a file.

    Args:
        run: folder that ``torchlpr fit`` wrote.
        structures: file of structures; energies are welcome but not needed.
        out: extended XYZ file to write, with the arrays lpr, lpr_mu_fraction and
            local_energy, and energy_uncertainty where the run is calibrated; each structure has
            the weights and the algorithm as lpr_parameters and lpr_shape.
        chemiscope: chemiscope file to write as well.
        plot: figure to write as well: map and histogram of LPR.
        energy_key: name of the total energy in the file.
        ranks: processes that share the work; the first of them writes.
        shape: the algorithm, see :meth:`torchlpr.Rigidity.recast`.
        parameters: the weights that count, None for those of the run. A calibration is of the
            latter: by other weights there are no uncertainties.

    Returns:
        The report.
    """
    with ranks.agreed():
        check_output(chemiscope, "chemiscope", (".json", ".json.gz"))
        check_output(plot, "matplotlib", (".png", ".pdf", ".svg"))
        opened = _recast(load(run, ranks), shape, parameters)
        frames = read(structures, energy_key)
        validate(frames, str(structures), types=opened.descriptor.types)
    prediction = opened.predict(frames)
    written = {"out": out, "chemiscope": chemiscope, "plot": plot}
    files = {kind: str(path) for kind, path in written.items() if path is not None}
    report = Report(frames, prediction, opened, files)
    for atoms in frames:
        atoms.info["lpr_parameters"] = " ".join(opened.rigidity.parameters)
        atoms.info["lpr_shape"] = opened.rigidity.factor.shape_name
    with ranks.agreed():
        if ranks.first:
            write(out, frames, **prediction.per_atom())
            _draw(report, opened.descriptor.cutoff, chemiscope, plot)
    return report


def _recast(run: Run, shape: Shape, parameters: Sequence[str] | None) -> Run:
    """The run with another rigidity; without its calibration where that is of other weights."""
    rigidity = run.rigidity.recast(shape, parameters)
    same = len(rigidity.subset) == len(run.rigidity.subset)
    return replace(run, rigidity=rigidity, calibration=run.calibration if same else None)


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
