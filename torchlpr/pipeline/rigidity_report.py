"""What a run says about the rigidity of structures, for a reader and for programs."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols

from torchlpr.analysis.statistics import format_table, lpr_by_class
from torchlpr.export import Prediction, Run

__all__ = ["Report"]

WEAKEST = 10


class Report:
    """What a run says about a file of structures, for a reader.

    Args:
        structures: the structures.
        prediction: of the run.
        run: which says whether its weights are at a minimum, and what LPRs are by.
        files: what was written, by kind.
    """

    def __init__(
        self,
        structures: list[Atoms],
        prediction: Prediction,
        run: Run,
        files: dict[str, str] | None = None,
    ) -> None:
        self.structures, self.prediction = structures, prediction
        self.rigidity, self.verdict = run.rigidity, run.stationarity.sentence()
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

    def algorithm(self) -> str:
        """By which weights, and how, in a line."""
        subset = self.rigidity.subset
        weights = f"all {subset.total} weights"
        if len(subset) < subset.total:
            chosen = " ".join(self.rigidity.parameters)
            weights = f"{len(subset)} of {subset.total} weights ({chosen}), the others frozen"
        return f"LPR by {weights}; {self.rigidity.reason}"

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
            "parameters": self.rigidity.parameters,
            "n_parameters": len(self.rigidity.subset),
            "shape": self.rigidity.factor.shape_name,
            "algorithm": self.rigidity.reason,
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
            f"{len(self.structures)} structures, {len(self.prediction.lpr)} atoms\n"
            f"{self.algorithm()}\n{error}"
            f"\nLPR in eV^-2 by species\n{self.by_species()}\n"
            f"\nthe atoms that the training set pins down least\n{self.weakest()}\n"
            f"\n{100 * self.blind:.1f} % of the atoms have a mu-fraction over 0.9: there the LPR "
            f"is the regulariser's alone and the training set says nothing.\n{self.verdict}"
        )
