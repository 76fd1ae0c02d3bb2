"""What the demo found, as a table, three sentences and plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from torchlpr.analysis.statistics import format_table, lpr_by_class, ratio_by_class
from torchlpr.export import Prediction
from torchlpr.pipeline.demo_data import CLASSES
from torchlpr.training import FitResult
from torchlpr.training.grid_search import GridSearch

__all__ = ["DemoReport", "Draw", "HeadReport", "Stage"]

DEFECTS = CLASSES[1:]


@dataclass
class Stage:
    """One training set's model.

    Attributes:
        rmse: of the energy per atom in eV, by set.
        result: of the fit.
        energies: reference and predicted energies per atom in eV, by set.
        prediction: for the held-out cells with defects.
    """

    rmse: dict[str, float]
    energies: dict[str, tuple[Tensor, Tensor]]
    result: FitResult
    prediction: Prediction


@dataclass
class Draw:
    """Effect of one random choice of the replaced cells.

    Attributes:
        seed: of the choice.
        miscoordinated: median LPR of mis-coordinated atoms, after over before.
        four: the same of 4-coordinated atoms.
        rmse_change: relative change of the RMSE on held-out cells without defects.
    """

    seed: int
    miscoordinated: float
    four: float
    rmse_change: float


@dataclass
class HeadReport:
    """One head before and after defects came into the training set.

    Attributes:
        name: "kernel" or "mlp".
        search: of mu.
        before: trained on cells without defects.
        after: a tenth of them replaced.
        classes: coordination class of each atom of the held-out cells with defects.
        draw: seed of the replaced cells shown.
        draws: effect of other choices, where a fit costs little.
        mus: values of mu of the scan.
        scan: LPR over mu before and after, shape (mus, atoms) each, for heads whose gradients
            do not depend on the weights.
    """

    name: str
    search: GridSearch
    before: Stage
    after: Stage
    classes: list[str]
    draw: int
    draws: list[Draw]
    mus: tuple[float, ...]
    scan: tuple[Tensor, Tensor] | None

    def ratio(self) -> dict[str, float]:
        """Median LPR after over before: of each class, and of all mis-coordinated atoms."""
        before, after = self.before.prediction.lpr, self.after.prediction.lpr
        return self._ratio(before, after)

    def ratio_over_mu(self) -> list[dict[str, float]]:
        """The same at every mu of the scan."""
        if self.scan is None:
            return []
        pairs = zip(self.mus, *self.scan, strict=True)
        return [{"mu": mu} | self._ratio(before, after) for mu, before, after in pairs]

    def rmse_change(self) -> float:
        """Relative change of the RMSE on held-out cells without defects."""
        return self.after.rmse["no defects"] / self.before.rmse["no defects"] - 1

    def _ratio(self, before: Tensor, after: Tensor) -> dict[str, float]:
        ratios = {row.label: row.ratio_of_medians for row in self._rows(before, after)}
        wrong = np.isin(self.classes, DEFECTS)
        ratios["mis-coordinated"] = float(np.median(after[wrong]) / np.median(before[wrong]))
        return ratios

    def _rows(self, before: Tensor, after: Tensor) -> list[Any]:
        return ratio_by_class(before, after, self.classes)

    def table(self) -> list[tuple[object, ...]]:
        """One row a class: head, class, atoms, median LPR before and after, their ratio."""
        ratios = self.ratio()
        first = lpr_by_class(self.before.prediction.lpr, self.classes)
        second = lpr_by_class(self.after.prediction.lpr, self.classes)
        return [
            (self.name, a.label, a.atoms, a.median, b.median, ratios[a.label])
            for a, b in zip(first, second, strict=True)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        columns = self.search.mus, self.search.rmse_train, self.search.rmse_validation or ()
        rows = zip(*columns, strict=True)
        stages = {"before": self.before, "after": self.after}
        return {
            "mu": self.search.best,
            "grid": [{"mu": m, "rmse_train": t, "rmse_validation": v} for m, t, v in rows],
            "rmse": {name: stage.rmse for name, stage in stages.items()},
            "stationarity": {
                name: stage.result.stationarity.as_dict() for name, stage in stages.items()
            },
            "seconds": {name: stage.result.seconds for name, stage in stages.items()},
            "draw": self.draw,
            "draws": [asdict(draw) for draw in self.draws],
            "rmse_change_without_defects": self.rmse_change(),
            "median_lpr_ratio": self.ratio(),
            "median_lpr_ratio_over_mu": self.ratio_over_mu(),
            "median_mu_fraction": {
                name: float(stage.prediction.lpr_mu_fraction.median())
                for name, stage in stages.items()
            },
        }


@dataclass
class DemoReport:
    """The report of all heads.

    Attributes:
        heads: one report a head.
        seconds: wall time of the demo.
        folder: where its files are.
    """

    heads: list[HeadReport]
    seconds: float
    folder: str

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        heads = {head.name: head.as_dict() for head in self.heads}
        return {"seconds": self.seconds, "folder": self.folder, **heads}

    def __str__(self) -> str:
        """The table and three sentences."""
        headers = ("model", "atoms that are", "atoms", "LPR before", "LPR after", "ratio")
        lpr = format_table([row for head in self.heads for row in head.table()], headers)
        errors = format_table(
            [
                (head.name, name, head.before.rmse[name] * 1000, head.after.rmse[name] * 1000)
                for head in self.heads
                for name in head.before.rmse
            ],
            ("model", "cells", "RMSE before", "RMSE after"),
        )
        verdicts = "\n".join(
            f"{head.name}, {word}: {stage.result.stationarity.sentence()}"
            for head in self.heads
            for word, stage in (("before", head.before), ("after", head.after))
        )
        return (
            f"\nMedian local prediction rigidity (eV^-2) of the atoms of held-out cells with "
            f"defects,\nbefore and after a tenth of the training cells was replaced by such "
            f"cells\n\n{lpr}\n\nRMSE of the energy (meV/atom)\n\n{errors}\n\n{verdicts}\n\n"
            f"{self._sentences()}\n\n"
            f"Everything is in {self.folder} ({self.seconds:.0f} s)."
        )

    def _sentences(self) -> str:
        rises = ", ".join(f"{h.ratio()['mis-coordinated']:.1f}x ({h.name})" for h in self.heads)
        stays = ", ".join(f"{h.ratio()['4-coordinated']:.2f}x ({h.name})" for h in self.heads)
        change = ", ".join(f"{100 * h.rmse_change():+.0f} % ({h.name})" for h in self.heads)
        return (
            "A training set without defects leaves the energies of under- and over-coordinated "
            f"atoms to chance: with a few defects in it their rigidity rises {rises}, while that "
            f"of 4-coordinated atoms stays ({stays}).\n"
            f"The error on cells without defects changes by {change}: totals alone would not "
            f"have told that something was missing.{self._draws()}\n"
            "Rigidity says how firmly the data hold an atomic energy, not that it is right; "
            "compare it at equal mu and descriptor only." + self._over_mu()
        )

    def _draws(self) -> str:
        """How much the choice of the replaced cells matters."""
        texts = []
        for head in self.heads:
            if head.draws:
                ratios = [draw.miscoordinated for draw in head.draws]
                changes = [100 * draw.rmse_change for draw in head.draws]
                texts.append(
                    f" (Over {len(ratios)} random choices of the replaced cells, {head.name} "
                    f"model: {min(ratios):.1f}x to {max(ratios):.1f}x, and "
                    f"{min(changes):+.0f} % to {max(changes):+.0f} %; the median one is shown.)"
                )
        return "".join(texts)

    def _over_mu(self) -> str:
        """How the effect depends on mu, where the chosen mu hides it."""
        texts = []
        for head in self.heads:
            rows = head.ratio_over_mu()
            if rows and head.ratio()["mis-coordinated"] < 3:
                best = max(rows, key=lambda row: row["mis-coordinated"])
                texts.append(
                    f"\nThe mu that validation chose for the {head.name} model, "
                    f"{head.search.best:.1e}, hides part of the effect: at mu = "
                    f"{best['mu']:.1e} the ratio is {best['mis-coordinated']:.1f}."
                )
        return "".join(texts)
