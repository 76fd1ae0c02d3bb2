"""From the results of a study that replaces structures to its figures, tables and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchlpr.analysis.arrays import Values
from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.pipeline.figures import have_chemiscope, have_plots
from torchlpr.studies.exchange import ExchangeBatches
from torchlpr.studies.exchange_figures import exchange_figure
from torchlpr.studies.exchange_results import HeadResult, write_results
from torchlpr.studies.report import Claim, StudyReport

__all__ = ["write_exchange"]


def write_exchange(
    name: str,
    data: str,
    folder: Path,
    batches: ExchangeBatches,
    results: list[HeadResult],
    claims: Sequence[Claim],
    zero: str,
) -> StudyReport:
    """Write a figure for each head and training set, the tables, and a chemiscope file.

    Args:
        name: of the study.
        data: what it ran on.
        folder: where to.
        batches: the structures.
        results: of all heads.
        claims: what had to be shown.
        zero: what local energies are relative to, for the figures.

    Returns:
        The report.
    """
    write_results(folder, results, data)
    for result in results:
        for variant in result.variants:
            if have_plots():
                file = f"{result.head}_{variant.replace(' ', '_')}.png"
                exchange_figure(folder / file, result, variant, zero)
    if have_chemiscope():
        first = results[0]
        last = first.stages[first.variants[-1]]
        quantities: dict[str, Values] = {"lpr": last.lpr, "class": first.classes}
        quantities["lpr_before"] = first.before.lpr
        quantities["local_energy"] = first.before.members.mean(0)
        write_chemiscope(
            folder / "atoms.json.gz",
            batches.frames,
            quantities,
            map_coordinates=first.coordinates,
            cutoff=batches.soap.cutoff,
            name=f"{name}, {first.head} head",
            description=f"before, and after: {first.variants[-1]}; {data}",
        )
    return StudyReport(name, data, tuple(claims), folder)
