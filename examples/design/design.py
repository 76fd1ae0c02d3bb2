"""Which cells to label next? Greedy design against random and farthest-point picks, on silicon.

python examples/design/design.py --out design_study     (a minute on one core)
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import torchlpr
from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.design import candidate_rows, greedy_design, target_gradients
from torchlpr.models.inducing import select_inducing
from torchlpr.pipeline.fit import write_json
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.training import LMSettings, energy_rmse
from torchlpr.training.closed_form import fit_linear
from torchlpr.training.grid_search import search_mu

START, PICKS, SEEDS, CANDIDATES = 40, 20, 10, 50
STRONGER_MU = 1e-5  # the comparison is made again with it
COUNTS = range(0, PICKS + 1, 2)  # picks after which a model is trained again
SETTINGS = LMSettings(tolerance=1e-3)  # of the network
STRATEGIES = ("greedy", "farthest point", "random")


class Study:
    """Cells, descriptor and target atoms."""

    def __init__(self) -> None:
        pool, test = amorphous_silicon("train"), amorphous_silicon("test")
        test = [atoms for atoms in test if atoms.info["class"] == "defect_containing"]
        validation = amorphous_silicon("validation")
        soap = torchlpr.SOAP(
            cutoff=3.3, max_radial=6, max_angular=5, width=0.4, smoothing=0.3, types=["Si"],
            normalize=True,
        )  # fmt: skip
        batch = soap(pool)
        self.free = np.array([atoms.info["class"] == "defect_free" for atoms in pool])
        first = batch.select(np.flatnonzero(self.free)[:START].tolist())
        self.baseline = torchlpr.CompositionBaseline.fit(first)
        self.pool = self.baseline.subtract(batch)
        self.validation = self.baseline.subtract(
            soap([atoms for atoms in validation if atoms.info["class"] == "defect_free"])
        )
        self.test = self.baseline.subtract(soap(test))
        coordination = np.concatenate([atoms.arrays["coordination"] for atoms in test])
        self.target = torch.from_numpy(coordination != 4)
        local = np.concatenate([atoms.arrays["local_energy"] for atoms in test])
        self.local = torch.from_numpy(local) - self.baseline(self.test.features, self.test.types)
        self.atoms = torchlpr.AtomBatch(
            self.test.features[self.target], self.test.types[self.target],
            torch.arange(int(self.target.sum())),
        )  # fmt: skip
        means = torch.zeros(len(pool), batch.features.shape[1], dtype=torch.float64)
        self.means = means.index_add_(0, batch.structure, batch.features)

    def in_kernel_basis(self) -> Study:
        """The same cells with the basis of a sparse kernel model in place of features.

        A linear model of it is the kernel model. The reference environments come from geometries
        alone and are the same for every strategy.

        Returns:
            The study in that basis.
        """
        kernel = torchlpr.SparseKernelModel(select_inducing(self.pool, 500, 2), 2)
        new = copy.copy(self)
        for name in ("pool", "validation", "test", "atoms"):
            old = getattr(self, name)
            basis = kernel.basis(old.features, old.types)
            setattr(new, name, replace(old, features=basis))
        return new

    def start(self, seed: int) -> tuple[list[int], list[int]]:
        """Defect-free cells to begin with, and all others of the pool."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(np.flatnonzero(self.free), START, replace=False).tolist()
        return chosen, sorted(set(range(len(self.free))) - set(chosen))

    def farthest(self, chosen: list[int]) -> list[int]:
        """Cells whose mean feature vector is farthest from those there are."""
        near, picks = torch.cdist(self.means, self.means[chosen]).amin(1), []
        for _ in range(PICKS):
            picks.append(int(near.argmax()))
            near = torch.minimum(near, torch.cdist(self.means, self.means[picks[-1:]])[:, 0])
        return picks

    def errors(self, model: torch.nn.Module) -> tuple[float, float]:
        """Held-out RMSE in meV: of energies per atom, and of the local energies of the targets."""
        with torch.no_grad():
            local = model(self.test.features, self.test.types)
        error = (local - self.local)[self.target]
        return 1e3 * energy_rmse(model, self.test), 1e3 * float(error.square().mean().sqrt())


def compare(study: Study, objective: torchlpr.Objective, seed: int) -> dict:
    """The three strategies from one starting set: errors and LPR at the targets on the way."""
    chosen, rest = study.start(seed)
    model = torchlpr.LinearModel(study.pool.features.shape[1], ["Si"])
    rigidity = torchlpr.Rigidity(model, study.pool.select(chosen), objective)
    targets = target_gradients(rigidity, study.atoms)
    rows = candidate_rows(rigidity, [study.pool.select(rest)])
    design = greedy_design(rigidity.factor, rows, targets, PICKS)
    rng = np.random.default_rng(1000 + seed)
    picks = {
        "greedy": [rest[k] for k in design.picks],
        "farthest point": study.farthest(chosen),
        "random": rng.choice(rest, PICKS, replace=False).tolist(),
    }
    found: dict = {"predicted": mean_log(design.lpr[:: COUNTS.step])}
    for name, added in picks.items():
        curve = []
        for count in COUNTS:
            train = study.pool.select([*chosen, *added[:count]])
            fit_linear(model, train, objective)
            lpr = torchlpr.Rigidity(model, train, objective).local(study.atoms)
            curve.append([*study.errors(model), float(mean_log(lpr))])
        found[name] = np.array(curve)
        found[f"share {name}"] = float(np.mean(~study.free[added]))
    return found


def mean_log(lpr: Tensor) -> np.ndarray:
    """Geometric mean over the last dimension."""
    return lpr.log().mean(-1).exp().numpy()


def network(study: Study, objective: torchlpr.Objective) -> dict[str, np.ndarray]:
    """Predicted and realised gain of single candidates for a network, which moves its gradients."""
    chosen, rest = study.start(0)
    model = torchlpr.BehlerParrinelloMLP(study.pool.features.shape[1], ["Si"], (8,), seed=0)

    def train(model: torch.nn.Module, cells: list[int]) -> tuple[torchlpr.Rigidity, Tensor, Tensor]:
        """Rigidity, mean ln LPR of the targets and mean ln |g|^2."""
        batch = study.pool.select(cells)
        torchlpr.fit(model, batch, objective, lm_settings=SETTINGS, progress=False)
        rigidity = torchlpr.Rigidity(model, batch, objective)
        size = target_gradients(rigidity, study.atoms).square().sum(1).log().mean()
        return rigidity, rigidity.local(study.atoms).log().mean(), size

    rigidity, before, size = train(model, chosen)
    some = np.random.default_rng(0).choice(rest, CANDIDATES, replace=False).tolist()
    rows = candidate_rows(rigidity, [study.pool.select(some)])
    targets = target_gradients(rigidity, study.atoms)
    predicted = greedy_design(rigidity.factor, rows, targets, 1).first_gains.numpy()
    realised, growth = [], []
    for candidate in tqdm(some, desc="network"):
        _, after, new_size = train(copy.deepcopy(model), [*chosen, candidate])
        realised.append(float(after - before))
        growth.append(float(new_size - size))
    return {"predicted": predicted, "realised": np.array(realised), "growth": np.array(growth)}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def draw(path: Path, runs: list[dict], single: dict[str, np.ndarray]) -> None:
    """LPR and errors over picks, with quartiles over the seeds; the network's gains."""
    fig, axes = figure(2, 2)
    labels = ("target LPR / eV$^{-2}$", "held-out RMSE / (meV/atom)",
              "local RMSE at the targets / meV")  # fmt: skip
    for ax, column, label in zip(axes.flat, (2, 0, 1), labels, strict=False):
        for number, name in enumerate(STRATEGIES):
            color, _ = class_style(number)
            curves = np.array([run[name][:, column] for run in runs])
            low, median, high = np.percentile(curves, [25, 50, 75], axis=0)
            ax.fill_between(COUNTS, low, high, color=color, alpha=0.2, linewidth=0)
            ax.plot(COUNTS, median, color=color, label=name)
        ax.set(xlabel="cells added", ylabel=label, yscale="log")
        if column != 2:
            ax.set_yscale("linear")
            ax.set_ylim(bottom=0)
    median = np.median([run["predicted"] for run in runs], axis=0)
    axes[0, 0].plot(COUNTS, median, "k.", markersize=4, label="predicted, greedy")
    axes[0, 0].legend(frameon=False, fontsize="small")
    ax, predicted, realised = axes[1, 1], single["predicted"], single["realised"]
    ax.plot(predicted, realised, "o", color=class_style(0)[0], markersize=4)
    ends = [min(predicted.min(), realised.min()), max(predicted.max(), realised.max())]
    ax.plot(ends, ends, color="0.5", linewidth=1)
    ax.set(xlabel="network: predicted gain of ln LPR", ylabel="gain after re-training")
    save_figure(fig, path)


def summarise(runs: list[dict]) -> dict:
    """The figures of one mu."""
    return {
        "predicted against realised LPR, largest relative difference": max(
            float(np.max(np.abs(run["predicted"] / run["greedy"][:, 2] - 1))) for run in runs
        ),
        "median over seeds by picks: RMSE meV/atom, local RMSE meV, LPR": {
            name: {
                count: [
                    float(f"{x:.3g}") for x in np.median([run[name][k] for run in runs], axis=0)
                ]
                for k, count in enumerate(COUNTS)
            }
            for name in STRATEGIES
        },
        "seeds where 10 greedy picks beat 20 random ones: RMSE, local RMSE": [
            sum(bool(run["greedy"][len(COUNTS) // 2, c] <= run["random"][-1, c]) for run in runs)
            for c in (0, 1)
        ],
        "share of cells with defects among the picks": {
            name: float(np.mean([run[f"share {name}"] for run in runs])) for name in STRATEGIES
        },
    }


def main() -> None:
    """Run the study and write its figure and numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="design_study", help="folder to write")
    out = Path(parser.parse_args().out)
    study = Study()
    kernel = study.in_kernel_basis()
    search = search_mu(
        torchlpr.LinearModel(500, ["Si"]), kernel.pool.select(study.start(0)[0]),
        kernel.validation, torchlpr.Objective(mu=1.0), progress=False,
    )  # fmt: skip
    results, summary = [], {}
    for mu in (search.best, STRONGER_MU):
        objective = torchlpr.Objective(mu=mu)
        runs = [compare(kernel, objective, seed) for seed in tqdm(range(SEEDS), desc="seeds")]
        results.append(runs)
        summary[f"mu {mu:.2g}"] = summarise(runs)
    single = network(study, torchlpr.Objective(mu=1e-4))
    summary["network: Spearman of predicted and realised gain of ln LPR"] = spearman(
        single["predicted"], single["realised"]
    )
    summary["network: Spearman of realised gain and growth of ln |g|^2"] = spearman(
        single["realised"], single["growth"]
    )
    summary["network: Spearman of predicted gain and gain of ln(|g|^2 LPR)"] = spearman(
        single["predicted"], single["realised"] + single["growth"]
    )
    draw(out / "design.png", results[0], single)
    write_json(out / "summary.json", summary)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
