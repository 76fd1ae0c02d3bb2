"""What a study that replaces structures finds, as its figures, tables and claims read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from torchlpr.analysis.rank_statistics import log_slope, spearman
from torchlpr.analysis.statistics import ClassRatio, lpr_by_class, ratio_by_class
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.report import write_table
from torchlpr.training.grid_search import GridSearch

__all__ = ["Agreement", "HeadResult", "Stage", "write_results"]

KINDS = (
    ("members", False, "subsampled, few"),
    ("subsampled", False, "subsampled, many"),
    ("subsampled", True, "subsampled, many, against LPR/(1 - mu-fraction)"),
    ("white", True, "subsampled, noise as labels, against LPR/(1 - mu-fraction)"),
    ("drawn", False, "sample-then-optimise, many"),
)


@dataclass(frozen=True)
class Stage:
    """One training set's model.

    Attributes:
        rmse: of the energy per atom in eV, by set.
        percent: the same over the standard deviation of the set, per cent.
        lpr: of the atoms looked at, eV^-2, shape (atoms,).
        mu_fraction: share of the regulariser in it, shape (atoms,).
        members: atomic energies of the members shown, which are trained on a share of the
            structures each, eV, shape (members, atoms).
        subsampled: variance of a larger committee of that kind, eV^2, shape (atoms,).
        white: variance of such committees whose labels are noise, alike in all structures, shape
            (atoms,).
        drawn: variance of such a committee by sample-then-optimise, eV^2, shape (atoms,).
        many: members of the larger committees.
        sigma: noise that sample-then-optimise drew with, eV.
        rigidity: of the model.
    """

    rmse: dict[str, float]
    percent: dict[str, float]
    lpr: Tensor
    mu_fraction: Tensor
    members: Tensor
    subsampled: Tensor
    white: Tensor
    drawn: Tensor
    many: int
    sigma: float
    rigidity: Rigidity

    def variance(self, kind: str) -> Tensor:
        """Variance of "members", "subsampled", "white" or "drawn", eV^2, shape (atoms,)."""
        values: Tensor = self.members.var(0) if kind == "members" else getattr(self, kind)
        return values


class Agreement(NamedTuple):
    """How ratios of committee variances follow ratios of rigidities.

    Attributes:
        slope: of their logarithms; -1 if the variance goes as 1/LPR.
        rank: Spearman's coefficient.
    """

    slope: float
    rank: float


@dataclass(frozen=True)
class HeadResult:
    """One head on all training sets.

    Attributes:
        head: "kernel" or "linear".
        search: of mu.
        stages: by training set, "before" first.
        classes: label of each atom looked at.
        coordinates: of their map, shape (atoms, 2).
        explained: share of the variance of each component.
        atoms: those looked at, with the head's basis functions as features.
        kept: structures of the set before that each training set has too, likewise, a row each.
        added: those that replaced the others, likewise.
        held_out: the sets to judge the fits by, likewise.
        seconds: wall time.
    """

    head: str
    search: GridSearch
    stages: dict[str, Stage]
    classes: list[str]
    coordinates: Tensor
    explained: Tensor
    atoms: AtomBatch
    kept: dict[str, AtomBatch]
    added: dict[str, AtomBatch]
    held_out: dict[str, AtomBatch]
    seconds: float

    @property
    def before(self) -> Stage:
        """The first."""
        return self.stages["before"]

    @property
    def variants(self) -> list[str]:
        """Names of the other training sets."""
        return [name for name in self.stages if name != "before"]

    def ratios(self, variant: str) -> list[ClassRatio]:
        """Median LPR after over before, by class."""
        return ratio_by_class(self.before.lpr, self.stages[variant].lpr, self.classes)

    def ratio(self, variant: str, classes: set[str]) -> float:
        """Median LPR after over before, of the atoms of some classes."""
        chosen = np.isin(self.classes, list(classes))
        after, before = self.stages[variant].lpr[chosen], self.before.lpr[chosen]
        return float(after.median() / before.median())

    def agreement(self, variant: str, kind: str, determined: bool = False) -> Agreement:
        """Slope and rank correlation of ratios of variances with ratios of rigidities.

        Args:
            variant: training set after.
            kind: committee: "members", "subsampled", "white" or "drawn".
            determined: against the ratio of LPR/(1 - r) instead, r the mu-fraction: a committee
                that varies the data leaves out what the regulariser alone determines.

        Returns:
            Both numbers.
        """
        after, before = self.stages[variant], self.before
        x, y = after.lpr / before.lpr, after.variance(kind) / before.variance(kind)
        if determined:
            x = x * (1 - before.mu_fraction) / (1 - after.mu_fraction)
        return Agreement(log_slope(x, y), spearman(x, y))

    def change(self, variant: str, test: str) -> float:
        """Change of an RMSE, eV."""
        return self.stages[variant].rmse[test] - self.before.rmse[test]


def write_results(folder: Path, results: list[HeadResult], data: str) -> None:
    """Write results.csv, rigidity.csv and atoms.csv.

    Args:
        folder: where to.
        results: of all heads.
        data: what they ran on.
    """
    _errors(folder / "results.csv", results, data)
    _rigidity(folder / "rigidity.csv", results)
    _atoms(folder / "atoms.csv", results)


def _errors(path: Path, results: list[HeadResult], data: str) -> None:
    rows = []
    for result in results:
        for name, stage in result.stages.items():
            row = {"head": result.head, "training set": name, "mu": f"{result.search.best:.3g}"}
            for test, value in stage.rmse.items():
                row[f"RMSE {test} / (meV/atom)"] = f"{1000 * value:.3g}"
                if test in stage.percent:
                    row[f"%RMSE {test}"] = f"{stage.percent[test]:.3g}"
            for kind, determined, label in KINDS:
                found = None if name == "before" else result.agreement(name, kind, determined)
                row[f"slope, {label}"] = "" if found is None else f"{found.slope:.3f}"
                row[f"Spearman, {label}"] = "" if found is None else f"{found.rank:.3f}"
            row["wall time of the head / s"] = f"{result.seconds:.1f}"
            row["data"] = data
            rows.append(row)
    write_table(path, {key: [row[key] for row in rows] for key in rows[0]})


def _rigidity(path: Path, results: list[HeadResult]) -> None:
    rows = []
    for result in results:
        before = lpr_by_class(result.before.lpr, result.classes)
        for variant in result.variants:
            after = lpr_by_class(result.stages[variant].lpr, result.classes)
            ratios = result.ratios(variant)
            for first, second, ratio in zip(before, after, ratios, strict=True):
                members = np.array(result.classes) == first.label
                fraction = result.before.mu_fraction[members].median()
                rows.append({
                    "head": result.head,
                    "training set": variant,
                    "class": first.label,
                    "atoms": str(first.atoms),
                    "median LPR before / eV^-2": f"{first.median:.4g}",
                    "median LPR after / eV^-2": f"{second.median:.4g}",
                    "ratio": f"{ratio.ratio_of_medians:.3g}",
                    "mu-fraction before": f"{float(fraction):.3g}",
                })
    write_table(path, {key: [row[key] for row in rows] for key in rows[0]})


def _atoms(path: Path, results: list[HeadResult]) -> None:
    columns: dict[str, list[str]] = {"class": list(map(str, results[0].classes))}
    for result in results:
        for number in (0, 1):
            values = result.coordinates[:, number]
            columns[f"{result.head} PC {number + 1}"] = [f"{v:.6g}" for v in values.tolist()]
        for name, stage in result.stages.items():
            parts = {
                "LPR": stage.lpr,
                "variance": stage.members.var(0),
                "variance of many": stage.subsampled,
                "variance of many drawn": stage.drawn,
                "mean": stage.members.mean(0),
            }
            for label, values in parts.items():
                columns[f"{result.head} {name} {label}"] = [f"{v:.6g}" for v in values.tolist()]
    write_table(path, columns)
