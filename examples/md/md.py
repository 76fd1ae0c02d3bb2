"""Molecular dynamics that says when it leaves the training set.

python examples/md/md.py --out md_study     (two minutes on one core; extras metatomic and plots)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from metatomic.torch import ModelOutput
from metatomic_ase import MetatomicCalculator
from tqdm import tqdm

import torchlpr
from torchlpr.analysis.figures import LPR_LABEL, class_style, figure, save_figure
from torchlpr.export import Run
from torchlpr.models.inducing import select_inducing
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.structures.tersoff_energy import tersoff_site_energies

LPR = "torchlpr::local_prediction_rigidity"
STEPS, EVERY, TIMESTEP = 1000, 10, 1.0  # steps, steps between rigidities, fs
CLASSES = ["defect_free", "defect_containing"]
# classes of the training cells, which are from 300 K, and temperature of the dynamics in K
RUNS = {
    "300 K": (CLASSES[:1], 300),
    "1500 K": (CLASSES[:1], 1500),
    "300 K, defects trained on": (CLASSES, 300),
}


def train(classes: list[str]) -> tuple[Run, list[Atoms]]:
    """A kernel model of amorphous silicon, and held-out cells of the same classes."""
    learned, held_out = (
        [atoms for atoms in amorphous_silicon(subset) if atoms.info["class"] in classes]
        for subset in ("train", "test")
    )
    soap = torchlpr.SOAP(
        cutoff=3.3, max_radial=6, max_angular=5, width=0.4, smoothing=0.3, types=["Si"],
        normalize=True,
    )  # fmt: skip
    batch = soap(learned)
    baseline = torchlpr.CompositionBaseline.fit(batch)
    batch = baseline.subtract(batch)
    model = torchlpr.SparseKernelModel(select_inducing(batch, 500), zeta=2)
    objective = torchlpr.Objective(mu=1e-6)
    result = torchlpr.fit(model, batch, objective)
    rigidity = torchlpr.Rigidity(model, batch, objective)
    return Run(soap, baseline, rigidity, result.stationarity, {}), held_out


def simulate(
    start: Atoms, model: Path, temperature: float, threshold: float, keep_going: bool
) -> tuple[list[Atoms], int | None]:
    """Langevin dynamics; rigidities are asked for every few steps and cost nothing in between.

    Returns the trajectory, each frame with the array lpr, and the step where the run should stop.
    """
    atoms = start.copy()
    atoms.calc = MetatomicCalculator(model)
    rng = np.random.default_rng(0)
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())
    atoms.set_momenta(spread[:, None] * rng.normal(size=(len(atoms), 3)))
    dynamics = Langevin(
        atoms,
        TIMESTEP * units.fs,
        temperature_K=temperature,
        friction=0.02 / units.fs,
        fixcm=False,
        rng=rng,
    )
    output = {LPR: ModelOutput(unit="eV^-2", sample_kind="atom")}
    frames, stopped = [], None
    for step in tqdm(range(0, STEPS + 1, EVERY), desc=f"{temperature} K"):
        if step:
            dynamics.run(EVERY)
        frame = atoms.copy()
        block = atoms.calc.run_model(atoms, output)[LPR].block()
        frame.arrays["lpr"] = block.values.squeeze(1).numpy()
        frame.arrays["error"] = atoms.get_potential_energies() - tersoff_site_energies(atoms)
        frame.info |= {"step": step, "time_fs": step * TIMESTEP}
        frames.append(frame)
        if stopped is None and frame.arrays["lpr"].min() < threshold:
            stopped = step
            if not keep_going:
                break
    return frames, stopped


def plot(path: Path, runs: dict[str, tuple[list[Atoms], int | None, float]]) -> None:
    """Smallest rigidity against time, and what the reference potential says."""
    fig, axes = figure(1, 2)
    for number, (name, (frames, stopped, threshold)) in enumerate(runs.items()):
        color, _ = class_style(number)
        time = [frame.info["time_fs"] for frame in frames]
        lowest = [frame.arrays["lpr"].min() for frame in frames]
        error = [abs(frame.arrays["error"]).max() for frame in frames]
        for ax, values in zip(axes[0], (lowest, error), strict=True):
            ax.plot(time, values, color=color, lw=1.2, label=name)
            if stopped is not None:
                ax.axvline(stopped * TIMESTEP, color=color, ls=":", lw=1)
            ax.set_xlabel("time / fs")
        axes[0, 0].axhline(threshold, color=color, ls="--", lw=1)
    axes[0, 0].set(yscale="log", ylabel=f"smallest {LPR_LABEL}")
    axes[0, 1].set(ylabel="largest error of an atomic energy / eV")
    axes[0, 1].legend(frameon=False, loc="upper left")
    save_figure(fig, path)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("md_study"))
    parser.add_argument("--keep_going", action="store_true", help="only mark where to stop")
    settings = parser.parse_args(arguments)
    settings.out.mkdir(parents=True, exist_ok=True)
    runs, summary = {}, {}
    for number, (name, (classes, temperature)) in enumerate(RUNS.items()):
        run, held_out = train(classes)
        model = settings.out / f"model_{number}.pt"
        torchlpr.export_metatomic(run, model, extensions=settings.out / "extensions")
        # an atom less rigid than any of the held-out cells stops the run
        threshold = float(run.predict(held_out).lpr.min())
        start = held_out[0]  # the same cell in all three
        frames, stopped = simulate(start, model, temperature, threshold, settings.keep_going)
        ase.io.write(settings.out / f"trajectory_{number}.xyz", frames)
        runs[name] = frames, stopped, threshold
        summary[name] = {
            "threshold": threshold,
            "stopped at step": stopped,
            "smallest LPR": min(float(frame.arrays["lpr"].min()) for frame in frames),
            "largest error of an atom": max(float(abs(f.arrays["error"]).max()) for f in frames),
        }
    plot(settings.out / "md.png", runs)
    (settings.out / "summary.json").write_text(json.dumps(summary, indent=2))
    return summary


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
