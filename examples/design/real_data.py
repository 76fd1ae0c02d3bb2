"""Greedy design on real data: environments that a training set lacks, in carbon and in silicon.

TORCHLPR_DATA=data python examples/design/real_data.py --out design_real    (minutes on one core)
"""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import numpy as np
import torch
from tqdm import tqdm

import torchlpr
from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.design import candidate_rows, greedy_design, target_gradients
from torchlpr.errors import InputError
from torchlpr.files import atomic_path
from torchlpr.models.inducing import select_inducing
from torchlpr.training import energy_rmse
from torchlpr.training.closed_form import fit_linear
from torchlpr.training.grid_search import search_mu

START, PICKS, SEEDS, VALIDATION, REFERENCES = 40, 20, 30, 20, 500
COUNTS = [0, 1, 2, 3, 5, 7, 10, 15, 20]
STRATEGIES = ("greedy", "random")
DENSE = 2.3  # g/cm^3


@dataclass(frozen=True)
class Sets:
    """Structures by their part.

    Attributes:
        title: what is trained on first, and what is asked for.
        structures: all of them.
        known: indices of those of which training sets begin.
        wanted: indices of those whose kind the training set lacks: half of them are targets, the
            others may be labelled.
        others: indices of further candidates.
        soap: settings of the descriptor.
    """

    title: str
    structures: list[ase.Atoms]
    known: np.ndarray
    wanted: np.ndarray
    others: np.ndarray
    soap: torchlpr.SOAP


def carbon(folder: Path) -> Sets:
    """Dense bulk carbon to begin with, surfaces to predict."""
    structures = torchlpr.read(folder / "carbon_pbe" / "carbon_pbe.xyz")
    kind = np.array([atoms.info["config_type"] for atoms in structures])
    density = np.array([a.get_masses().sum() / a.get_volume() / 0.60221 for a in structures])
    known, wanted = (kind == "bulk_amorphous") & (density > DENSE), kind == "slab"
    soap = torchlpr.SOAP(
        cutoff=3.7, max_radial=6, max_angular=5, width=0.4, smoothing=0.3, types=["C"],
        normalize=True,
    )  # fmt: skip
    parts = (np.flatnonzero(part) for part in (known, wanted, ~known & ~wanted))
    return Sets("dense carbon, then surfaces", structures, *parts, soap)


def silicon(folder: Path) -> Sets:
    """Strained crystals to begin with, the liquid to predict."""
    structures = torchlpr.read(folder / "si_pbe_64" / "si_pbe_64.xyz")
    liquid = np.array([atoms.info["config_type"] == "liquid_1700K" for atoms in structures])
    rng = np.random.default_rng(0)
    hot, cold = (rng.permutation(np.flatnonzero(part)) for part in (liquid, ~liquid))
    chosen = [structures[k] for k in [*cold[:240], *hot[:120]]]
    soap = torchlpr.SOAP(
        cutoff=5.0, max_radial=6, max_angular=5, width=0.5, smoothing=0.5, types=["Si"],
        normalize=True,
    )  # fmt: skip
    parts = np.arange(240), np.arange(240, 360), np.arange(0)
    return Sets("crystalline silicon, then the liquid", chosen, *parts, soap)


def compare(sets: Sets) -> tuple[float, dict[str, np.ndarray], float]:
    """Both strategies from thirty starting sets.

    Args:
        sets: the structures.

    Returns:
        mu, errors of the targets in meV/atom of each strategy, shape (seeds, counts), and the
        largest relative difference of predicted and realised LPR.
    """
    rng = np.random.default_rng(0)
    batch, types = sets.soap(sets.structures), sets.soap.types
    wanted = rng.permutation(sets.wanted)
    targets, more = np.split(wanted, [len(wanted) // 2])
    known = rng.permutation(sets.known)
    validation, known = np.split(known, [VALIDATION])
    batch = torchlpr.CompositionBaseline.fit(batch.select(known.tolist())).subtract(batch)
    pool = np.concatenate([known, sets.others, more])
    # a linear model of its basis is the kernel model; references come from geometries alone
    inducing = select_inducing(batch.select(pool.tolist()), REFERENCES, 2)
    kernel = torchlpr.SparseKernelModel(inducing, 2)
    batch = replace(batch, features=kernel.basis(batch.features, batch.types))
    model, test = torchlpr.LinearModel(batch.features.shape[1], types), batch.select(targets)
    search = search_mu(
        model, batch.select(known[:START]), batch.select(validation), torchlpr.Objective(mu=1.0),
        progress=False,
    )  # fmt: skip
    objective = torchlpr.Objective(mu=search.best)
    errors: dict[str, list[list[float]]] = {name: [] for name in STRATEGIES}
    gap = 0.0
    for seed in tqdm(range(SEEDS), desc=sets.title):
        rng = np.random.default_rng(seed)
        start = rng.permutation(known)[:START]
        rest = np.setdiff1d(pool, start)
        rigidity = torchlpr.Rigidity(model, batch.select(start), objective)
        rows = candidate_rows(rigidity, [batch.select(rest)])
        design = greedy_design(rigidity.factor, rows, target_gradients(rigidity, test), PICKS)
        picks = {
            "greedy": rest[design.picks],
            "random": rng.choice(rest, PICKS, replace=False),
        }
        for name, added in picks.items():
            curve = []
            for count in COUNTS:
                train = batch.select(np.concatenate([start, added[:count]]))
                fit_linear(model, train, objective)
                curve.append(1e3 * energy_rmse(model, test))
            errors[name].append(curve)
            if name == "greedy":
                realised = torchlpr.Rigidity(model, train, objective).local(test)
                gap = max(gap, float((realised / design.lpr[-1] - 1).abs().max()))
    return search.best, {name: np.array(curves) for name, curves in errors.items()}, gap


def main() -> None:
    """Run both sets, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="design_real", help="folder to write")
    out = Path(parser.parse_args().out)
    folder = Path(os.environ.get("TORCHLPR_DATA", "../shared/data"))
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; set TORCHLPR_DATA to that with the data")
    torch.set_num_threads(1)
    fig, axes = figure(1, 2)
    lines = []
    for ax, sets in zip(axes.flat, (carbon(folder), silicon(folder)), strict=True):
        mu, errors, gap = compare(sets)
        for number, name in enumerate(STRATEGIES):
            low, median, high = np.percentile(errors[name], [25, 50, 75], axis=0)
            color, _ = class_style(number)
            ax.fill_between(COUNTS, low, high, color=color, alpha=0.2, linewidth=0)
            ax.plot(COUNTS, median, color=color, label=name)
            lines += [
                [sets.title, mu, name, count, *values]
                for count, *values in zip(COUNTS, low, median, high, strict=True)
            ]
        ax.set(title=sets.title, xlabel="structures added", yscale="log")
        ax.set_ylabel("RMSE of held-out targets / (meV/atom)")
        ax.legend(frameon=False)
        wins = int((errors["greedy"][:, COUNTS.index(10)] <= errors["random"][:, -1]).sum())
        print(f"{sets.title}: mu {mu:.1e}, ten greedy picks beat twenty random ones in {wins} of "
              f"{SEEDS}; predicted LPR off by {gap:.0e}")  # fmt: skip
    save_figure(fig, out / "real_data.png")
    with atomic_path(out / "real_data.csv") as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sets", "mu / eV^2", "picks", "count", "quartile", "median", "quartile"])
        writer.writerows(
            [a, f"{b:.3g}", c, d, *(f"{x:.4g}" for x in e)] for a, b, c, d, *e in lines
        )


if __name__ == "__main__":
    main()
