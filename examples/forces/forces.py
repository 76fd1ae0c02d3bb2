"""Energies and forces learnt from DFT: errors against the size of the training set.

    TORCHLPR_DATA=data python examples/forces/forces.py --out forces

goes on where it was stopped: what stands in results.csv is not trained again.
"""

# %% Settings
from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import Atoms

import torchlpr
from torchlpr import AtomBatch, CompositionBaseline, SparseKernelModel
from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.analysis.plots_fit import parity
from torchlpr.files import atomic_path
from torchlpr.models.inducing import select_inducing
from torchlpr.pipeline.config import DescriptorConfig
from torchlpr.pipeline.data import Parts, describe
from torchlpr.training import fit, mean_loss_objective
from torchlpr.training.errors import energy_errors, force_errors

HERE = Path(__file__).parent
COLUMNS = (
    "set", "descriptor", "seed", "structures", "parameters", "energy_rmse_train",
    "energy_rmse_test", "force_rmse_train", "force_rmse_test", "relative_gradient",
    "newton_decrement", "is_minimum", "cpu_seconds",
)  # fmt: skip

PARTS = ("train", "test")

Errors = dict[str, np.ndarray]


# %% One training
def parts_of(structures: list[Atoms], settings: dict, seed: int) -> Parts:
    """A hold-out, and the largest training set; smaller ones are its beginnings."""
    order = np.random.default_rng(seed).permutation(len(structures))
    held, largest = settings["held_out"], max(settings["sizes"])
    chosen = [structures[k] for k in order[: held + largest]]
    return Parts(train=chosen[held:], validation=[], test=chosen[:held])


def train(
    batches: dict[str, AtomBatch], settings: dict, size: int
) -> tuple[dict, dict[str, Errors]]:
    """Train on the first structures; the row of the table, and what the figures need."""
    start = time.process_time()
    part = batches["train"].select(torch.arange(size))
    baseline = CompositionBaseline.fit(part)
    data = {"train": baseline.subtract(part), "test": baseline.subtract(batches["test"])}
    inducing = select_inducing(data["train"], settings["n_inducing"], settings["zeta"])
    model = SparseKernelModel(inducing, settings["zeta"])
    objective = mean_loss_objective(data["train"], settings["l2"], settings["force_weight"])
    result = fit(model, data["train"], objective, "closed-form")
    row = {
        "structures": size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "relative_gradient": result.stationarity.relative_gradient,
        "newton_decrement": result.stationarity.newton_decrement,
        "is_minimum": result.stationarity.is_minimum,
    }
    errors = {}
    for name, batch in data.items():
        energies = energy_errors(model, batch).numpy()
        forces = force_errors(model, batch).numpy()
        row[f"energy_rmse_{name}"] = float(np.sqrt(np.mean(energies**2)))
        row[f"force_rmse_{name}"] = float(np.sqrt(np.mean(forces**2)))
        reference = batch.forces[batch.has_forces[batch.structure]].numpy()
        per_atom = ((batch.labels() + baseline.totals(batch)) / batch.counts).numpy()
        errors[name] = {"energy": per_atom, "energy error": energies,
                        "force": reference, "force error": forces}  # fmt: skip
    row["cpu_seconds"] = time.process_time() - start
    return row, errors


# %% All of them
def run(settings: dict, data: Path, out: Path) -> None:
    """Train at every size with every descriptor on every set, as far as that is not done."""
    table = out / "results.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {tuple(row[name] for name in COLUMNS[:4]) for row in rows}
    for place, path in settings["sets"].items():
        todo = [
            (kind, seed)
            for seed in settings["seeds"]
            for kind in settings["descriptors"]
            if any((place, kind, str(seed), str(n)) not in done for n in settings["sizes"])
        ]
        structures = torchlpr.read(data / path) if todo else []
        for kind, seed in todo:
            parts = parts_of(structures, settings, seed)
            config = DescriptorConfig(**settings["descriptors"][kind])
            _, batches = describe(parts, config, derivatives=True)
            for size in settings["sizes"]:
                key = (place, kind, str(seed), str(size))
                if key in done:
                    continue
                row, errors = train(batches, settings, size)
                rows.append(dict(zip(COLUMNS[:3], key[:3], strict=True)) | row)
                print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)
                if seed == settings["seeds"][0] and size == max(settings["sizes"]):
                    flat = {f"{a}/{b}": v for a, part in errors.items() for b, v in part.items()}
                    np.savez(out / f"errors_{place}_{kind.replace(' ', '_')}.npz", **flat)
                with atomic_path(table) as temporary, temporary.open("w", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    writer.writeheader()
                    writer.writerows(rows)


# %% Figures
def draw(settings: dict, out: Path) -> None:
    """Learning curves of all; histograms and correlation of the largest training set."""
    rows = list(csv.DictReader((out / "results.csv").open()))
    learning(settings, rows, out / "learning_curves.png")
    for place in settings["sets"]:
        histograms(settings, place, out)
        correlation(settings, place, out)


def learning(settings: dict, rows: list[dict], path: Path) -> None:
    """RMSE of train and test against structures: geometric mean and range of the seeds."""
    fig, axes = figure(2, len(settings["sets"]), panel=(4.4, 3.3))
    quantities = {"energy": (1e3, "meV/atom"), "force": (1.0, "eV/Å")}
    for column, place in enumerate(settings["sets"]):
        for ax, (quantity, (factor, unit)) in zip(axes[:, column], quantities.items(), strict=True):
            for number, kind in enumerate(settings["descriptors"]):
                color, marker = class_style(number)
                for part, style in (("train", "--"), ("test", "-")):
                    curve = [
                        factor * np.array([
                            float(row[f"{quantity}_rmse_{part}"]) for row in rows
                            if (row["set"], row["descriptor"]) == (place, kind)
                            and int(row["structures"]) == size
                        ])
                        for size in settings["sizes"]
                    ]  # fmt: skip
                    ax.plot(
                        settings["sizes"], [np.exp(np.log(v).mean()) for v in curve],
                        color=color, marker=marker, markersize=4, linestyle=style,
                        label=f"{kind}, {part}",
                    )  # fmt: skip
                    ax.fill_between(
                        settings["sizes"], [v.min() for v in curve], [v.max() for v in curve],
                        color=color, alpha=0.12, linewidth=0,
                    )  # fmt: skip
            ax.set(xscale="log", yscale="log", ylabel=f"{quantity} RMSE / ({unit})")
            ax.set_xticks(settings["sizes"], [str(n) for n in settings["sizes"]])
            low, high = ax.get_ylim()
            digits = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
            ticks = [k * 10.0**e for e in range(-4, 4) for k in digits]
            shown = [y for y in ticks if low <= y <= high]
            ax.set_yticks(shown, [f"{y:g}" for y in shown])
            ax.minorticks_off()
            if quantity == "energy":
                ax.set_title(place)
            else:
                ax.set_xlabel("structures in the training set")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    save_figure(fig, path)


def histograms(settings: dict, place: str, out: Path) -> None:
    """Errors of energies and of components of forces, train and test."""
    fig, axes = figure(2, len(settings["descriptors"]), panel=(4.4, 3.0))
    for column, kind in enumerate(settings["descriptors"]):
        errors = load_errors(out, place, kind)
        for ax, quantity, factor, unit in (
            (axes[0, column], "energy", 1e3, "meV/atom"),
            (axes[1, column], "force", 1.0, "eV/Å"),
        ):
            values = {p: factor * errors[f"{p}/{quantity} error"].ravel() for p in PARTS}
            edge = np.quantile(np.abs(values["test"]), 0.99)
            bins = np.linspace(-edge, edge, 14 if quantity == "energy" else 61)
            for number, (part, v) in enumerate(values.items()):
                color, _ = class_style(number)
                ax.hist(v, bins, density=True, histtype="stepfilled", alpha=0.25, color=color)
                ax.hist(v, bins, density=True, histtype="step", color=color, label=part)
            ax.set(
                xlabel=f"model − DFT, {quantity} / ({unit})", ylabel=f"density / ({unit})$^{{-1}}$"
            )
            ax.legend(frameon=False, loc="upper right")
            if quantity == "energy":
                ax.set_title(f"{place}, {kind}")
    save_figure(fig, out / f"histograms_{place}.png")


def correlation(settings: dict, place: str, out: Path) -> None:
    """DFT against model: energies, and the x component of forces."""
    fig, axes = figure(2, len(settings["descriptors"]), panel=(4.0, 3.8))
    for column, kind in enumerate(settings["descriptors"]):
        errors = load_errors(out, place, kind)
        energies = {p: (errors[f"{p}/energy"], errors[f"{p}/energy error"]) for p in PARTS}
        forces = {p: (errors[f"{p}/force"][:, 0], errors[f"{p}/force error"][:, 0]) for p in PARTS}
        parity(axes[0, column], {p: (x, x + e) for p, (x, e) in energies.items()})
        parity(axes[1, column], {p: (x, x + e) for p, (x, e) in forces.items()}, "force")
        axes[0, column].set_title(f"{place}, {kind}")
        axes[1, column].set(
            xlabel="DFT force, x component / (eV/Å)", ylabel="model force, x component / (eV/Å)"
        )
        axes[0, column].set(xlabel="DFT energy / (eV/atom)", ylabel="model energy / (eV/atom)")
    save_figure(fig, out / f"correlation_{place}.png")


def load_errors(out: Path, place: str, kind: str) -> Errors:
    return dict(np.load(out / f"errors_{place}_{kind.replace(' ', '_')}.npz"))


# %% From the command line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "config.yaml")
    parser.add_argument("--out", type=Path, default=Path("forces"), help="of table and figures")
    arguments = parser.parse_args()
    settings = yaml.safe_load(arguments.config.read_text())
    arguments.out.mkdir(parents=True, exist_ok=True)
    run(settings, Path(os.environ["TORCHLPR_DATA"]), arguments.out)
    draw(settings, arguments.out)


if __name__ == "__main__":
    main()
