"""Structures whose atoms share one environment: which they are, and the exact +1 that they add.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), section 5 of the supporting
information. Rigidity needs geometries only, so nothing here has an energy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, graphene

from torchlpr.analysis.figures import LPR_LABEL, class_style, figure, save_figure
from torchlpr.descriptors.soap import SOAP
from torchlpr.models import LinearModel
from torchlpr.objective import Objective
from torchlpr.pipeline.figures import have_plots
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.single_environment import SINGLE, cell_variants, environment_spread
from torchlpr.studies.report import Claim, StudyReport, write_table

DECADES = range(-8, 2)  # of mu, for the figure

__all__ = ["Settings", "crystals", "run"]


@dataclass(frozen=True)
class Settings:
    """Of the study.

    Attributes:
        seed: of the variants.
        variants: of each crystal.
        mu: strength of the L2 term, eV^2.
    """

    seed: int = 0
    variants: int = 40
    mu: float = 1e-6


def crystals() -> dict[str, Atoms]:
    """Diamond, graphite in AB and AA stacking, and graphite with its layers out of reach."""
    return {
        "diamond": bulk("C", "diamond", a=3.567),
        "AB graphite": _graphite(6.71, stagger=True),
        "AA graphite": _graphite(6.71, stagger=False),
        "AB, c = 8 Å": _graphite(8.0, stagger=True),
    }


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: ten variants of each crystal.

    Returns:
        The report.
    """
    n = min(settings.variants, 10) if quick else settings.variants
    soap = SOAP(cutoff=3.7, max_radial=7, max_angular=8, width=0.5, smoothing=0.1, types=["C"])
    batches = {
        name: _normalised(soap([crystal, *cell_variants(crystal, n, settings.seed)]))
        for name, crystal in crystals().items()
    }
    spreads = {name: environment_spread(batch) for name, batch in batches.items()}
    train, diamonds = batches["AB graphite"], batches["diamond"]
    before, after = _before_and_after(train, diamonds, settings.mu)
    crystal = diamonds.select([0])
    pairs = [_before_and_after(train, crystal, 10.0**k) for k in DECADES]
    scan = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    columns = {"mu": [10.0**k for k in DECADES], "before": scan[0].tolist()}
    write_table(folder / "over_mu.csv", columns | {"after": scan[1].tolist()})
    names = [name for name, spread in spreads.items() for _ in spread]
    flat = torch.cat(list(spreads.values())).tolist()
    write_table(folder / "spread.csv", {"crystal": names, "spread": [str(s) for s in flat]})
    write_table(folder / "plus_one.csv", {"before": before.tolist(), "after": after.tolist()})
    if have_plots():
        _draw(folder / "single_environments.png", spreads, *scan)
    gained = torch.cat([after - before, scan[1] - scan[0]])
    error = float((gained - 1).abs().max())
    worst, least = float(spreads["diamond"].max()), float(spreads["AB graphite"][0])
    aa = float(spreads["AB, c = 8 Å"][0])
    claims = (
        Claim("diamond and its variants are single environments, to 1e-10", worst, worst < SINGLE),
        Claim("AB graphite is none at a cutoff of 3.7 Å (spread over 0.01)", least, least > 0.01),
        Claim("AB graphite is one where layers do not see each other", aa, aa < SINGLE),
        Claim(
            "a single environment adds 1 to its own LPR, at any mu, to 1e-9", error, error < 1e-9
        ),
    )
    text = f"{n + 1} cells of each crystal, made here"
    return StudyReport("single_environments", text, claims, folder)


def _before_and_after(
    train: AtomBatch, added: AtomBatch, mu: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """LPR of each added structure's environment without it and with it in the training set."""
    model, objective = LinearModel(train.features.shape[1], ["C"]), Objective(mu)
    alone = Rigidity(model, train, objective)
    before, after = [], []
    for number in range(added.n_structures):
        one = added.select([number])
        atom = AtomBatch(one.features[:1], one.types[:1], one.structure[:1])
        before.append(alone.local(atom))
        joined = Rigidity(model, AtomBatch.cat([train, one]), objective)
        after.append(joined.local(atom))
    return torch.cat(before), torch.cat(after)


def _graphite(c: float, stagger: bool) -> Atoms:
    layer = graphene("C2", a=2.46, vacuum=None)
    layer.cell[2], layer.pbc = [0, 0, c], True
    first = layer.get_scaled_positions()
    first[:, 2] = 0.0
    second = first + np.array([1 / 3, 2 / 3, 0.5] if stagger else [0, 0, 0.5])
    double = Atoms("C4", cell=layer.cell, pbc=True)
    double.set_scaled_positions([*first, *second])
    return double


def _normalised(batch: AtomBatch) -> AtomBatch:
    return replace(batch, features=batch.features / batch.features.norm(dim=1, keepdim=True))


def _draw(
    path: Path, spreads: dict[str, torch.Tensor], before: torch.Tensor, after: torch.Tensor
) -> None:
    mus = [10.0**k for k in DECADES]
    fig, axes = figure(1, 2, panel=(4.8, 3.6))
    left, right = axes[0]
    for number, (name, spread) in enumerate(spreads.items()):
        color, _ = class_style(number)
        values = spread.clamp(min=1e-17)  # exactly zero has no place on a log scale
        left.plot(range(len(values)), values, "o", markersize=4, color=color, label=name)
    left.axhline(SINGLE, color="0.5", linestyle="--", linewidth=1)
    left.set(yscale="log", xlabel="variant (0: the crystal)", ylabel="spread of environments")
    fig.legend(loc="outside lower left", ncols=4, frameon=False, fontsize="small")
    right.plot(mus, before, "s", markersize=5, color=class_style(1)[0], label="graphite")
    right.plot(mus, after, "o", color=class_style(0)[0], label="graphite and diamond")
    right.plot(mus, before + 1, color="black", linewidth=1, label="the former + 1")
    right.set(xscale="log", yscale="log", xlabel="μ / eV$^2$", ylabel=LPR_LABEL)
    right.legend(frameon=False, title="trained on")
    right.set_title("diamond", fontsize="medium")
    save_figure(fig, path)
