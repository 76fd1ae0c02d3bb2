"""``torchlpr calibrate``: from rigidities to standard deviations, on held-out structures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_calibration import confidence_curve, error_against_uncertainty
from torchlpr.analysis.statistics import format_table
from torchlpr.calibration import (
    Alpha,
    Calibration,
    Method,
    Reliability,
    calibrate,
    fit_alpha,
    reliability,
    single_environment,
    structure_groups,
)
from torchlpr.calibration.alpha import check_method
from torchlpr.calibration.calibration import MINIMUM
from torchlpr.errors import InputError
from torchlpr.export import Run, load
from torchlpr.export.run import checkpoint_of
from torchlpr.pipeline.rigidity import check_output
from torchlpr.structures.io import read, require_energies
from torchlpr.structures.validation import validate

__all__ = ["CalibrationReport", "calibrate_run"]

On = Literal["structures", "invariant"]


@dataclass(frozen=True)
class CalibrationReport:
    """The calibration and how well it holds, for a reader.

    Attributes:
        calibration: what the run keeps.
        scores: by group, "all" first: number of structures and their scores.
        invariant: alpha of the structures of a single environment, None if there are too few.
        trained: share of the structures that are as rigid as training structures must be.
        stored: whether the run has been given the calibration.
    """

    calibration: Calibration
    scores: dict[str, tuple[int, Reliability]]
    invariant: Alpha | None
    trained: float
    stored: bool

    def rows(self) -> list[tuple[object, ...]]:
        """One line a group, for a table."""
        table: list[tuple[object, ...]] = []
        for name, (count, score) in self.scores.items():
            alpha = self.calibration.groups.get(name, self.calibration.alpha)
            within = (100 * share for share in score.within)
            known = name, count, alpha.value, alpha.error, score.nll, score.crps, score.area
            table.append((*known, *within))
        return table

    def as_dict(self) -> dict[str, object]:
        """The figures as plain data."""
        return {
            **self.calibration.as_dict(),
            "scores": {
                name: {"structures": count, **score._asdict()}
                for name, (count, score) in self.scores.items()
            },
            "invariant_alpha": None if self.invariant is None else list(self.invariant),
            "share_as_rigid_as_training": self.trained,
            "stored": self.stored,
        }

    def __str__(self) -> str:
        """The report as text."""
        alpha = self.calibration.alpha
        headers = ("group", "structures", "alpha", "+-", "NLL", "CRPS/eV", "area",
                   "1 sigma/%", "2 sigma/%", "3 sigma/%")  # fmt: skip
        lines = [
            f"alpha = {alpha.value:.4g} +- {alpha.error:.2g} by {self.calibration.method}, from "
            f"{alpha.n} {'single-environment ' * (self.calibration.on == 'invariant')}structures",
            "",
            format_table(self.rows(), headers),
            "calibrated: area 0, and 68.3, 95.4, 99.7 % within 1, 2, 3 sigma",
            "",
        ]
        if self.invariant is not None and self.calibration.on != "invariant":
            lines.append(
                f"on the {self.invariant.n} structures of a single environment, where local "
                f"energies are known, alpha is {self.invariant.value:.4g} +- "
                f"{self.invariant.error:.2g}"
            )
        elif self.calibration.on != "invariant":
            lines.append(
                "energies of atoms take the alpha of totals: there are too few structures of a "
                "single environment to test that"
            )
        if self.trained:
            lines.append(
                f"{100 * self.trained:.0f} % of the structures are as rigid as training "
                "structures are; make sure that they were not trained on"
            )
        lines.append("stored in the run" if self.stored else "not stored")
        return "\n".join(lines)


def calibrate_run(
    run: str | Path,
    structures: str | Path,
    method: Method = "likelihood",
    group_key: str | None = None,
    on: On = "structures",
    plot: str | Path | None = None,
    energy_key: str = "energy",
    store: bool = True,
) -> CalibrationReport:
    """Find alpha in sigma = alpha/sqrt(rigidity) and keep it in the run.

    Args:
        run: folder that ``torchlpr fit`` wrote, or its checkpoint file.
        structures: file of structures with energies that the run was not trained on.
        method: see :func:`torchlpr.calibration.fit_alpha`.
        group_key: info entry, or array with one value a structure, by which to have alphas.
        on: "structures", or "invariant" for those of a single environment alone.
        plot: figure to write: errors against sigma, and the confidence curve.
        energy_key: name of the total energy in the file.
        store: replace the run's checkpoint by one with the calibration, in one step.

    Returns:
        The report.

    Raises:
        InputError: if there are too few structures, or a group key that none of them has.
    """
    check_method(method)
    check_output(plot, "matplotlib", (".png", ".pdf", ".svg"))
    opened, checkpoint = load(run), checkpoint_of(run)
    frames = read(structures, energy_key)
    require_energies(frames, str(structures))
    validate(frames, str(structures), types=opened.descriptor.types)
    labels = structure_groups(frames, group_key)
    if group_key is not None and not any(labels):
        raise InputError(
            f"no structure of {structures} has one value of {group_key!r}; name an info entry, "
            "or an array that is the same for all atoms of a structure"
        )
    opened.calibration = None
    prediction = opened.predict(frames)
    batch = prediction.batch
    errors = (prediction.energies - batch.labels()) / batch.counts
    invariant = single_environment(batch)
    chosen = invariant if on == "invariant" else torch.ones_like(invariant)
    if int(chosen.sum()) < MINIMUM:
        raise InputError(
            f"{int(chosen.sum())} {'single-environment ' * (on == 'invariant')}structures in "
            f"{structures} are too few to calibrate on; give at least {MINIMUM}, better 100"
        )
    names = [label for label, take in zip(labels, chosen.tolist(), strict=True) if take]
    r, pr = errors[chosen], prediction.pr[chosen]
    calibration = calibrate(r, pr, method, labels=names, group_key=group_key, on=on)
    sigma = calibration.alphas(names) * pr.rsqrt()
    local = None
    if int(invariant.sum()) >= MINIMUM and bool((errors[invariant] != 0).any()):
        local = fit_alpha(errors[invariant], prediction.pr[invariant], method)
    if plot is not None:
        fig, axes = figure(1, 2)
        error_against_uncertainty(axes[0, 0], sigma, r)
        confidence_curve(axes[0, 1], sigma, r)
        save_figure(fig, plot)
    if store:
        opened.calibration = calibration
        opened.save(checkpoint)
    trained = _as_rigid_as_training(opened, batch.counts[chosen], pr)
    return CalibrationReport(calibration, _scores(names, r, sigma), local, trained, store)


def _scores(
    names: list[str | None], r: Tensor, sigma: Tensor
) -> dict[str, tuple[int, Reliability]]:
    """Scores of all structures and of each group."""
    scores = {"all": (len(r), reliability(r, sigma))}
    for name in sorted({name for name in names if name}):
        chosen = torch.from_numpy(np.array([entry == name for entry in names]))
        scores[name] = int(chosen.sum()), reliability(r[chosen], sigma[chosen])
    return scores


def _as_rigid_as_training(run: Run, counts: Tensor, pr: Tensor) -> float:
    """Share of structures whose own row has a rigidity of one or more, as trained ones have."""
    row = run.rigidity.objective.row_scale(counts) * counts  # row = this times mean gradient
    return float((pr >= row.square()).to(torch.float64).mean())
