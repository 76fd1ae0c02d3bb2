"""From a crystal to what its potential does not know: dynamics biased towards low rigidity.

python examples/explore/explore.py --out explore_study     (two minutes on one core)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.langevin import Langevin
from tqdm import tqdm

import torchlpr
from torchlpr.analysis.figures import LPR_LABEL, class_style, figure, save_figure
from torchlpr.export import Run
from torchlpr.models.inducing import select_inducing
from torchlpr.structures.tersoff_energy import tersoff_site_energies

CELLS, STEPS, EVERY, TIMESTEP, TEMPERATURE = 80, 400, 5, 1.0, 600  # fs, K
KAPPA = 0.5  # eV for a factor of e in rigidity
LABELS = 10  # biased frames that get reference energies in the end


def crystals() -> list[Atoms]:
    """Strained crystals of 8 atoms, displaced by up to 0.15 Å, with Tersoff's energies."""
    frames = []
    for seed in range(CELLS):
        rng = np.random.default_rng(seed)
        atoms = bulk("Si", a=5.432, cubic=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), True)
        atoms.positions += rng.normal(scale=0.15 * rng.random(), size=(8, 3))
        atoms.info["energy"] = float(tersoff_site_energies(atoms).sum())
        frames.append(atoms)
    return frames


def train(frames: list[Atoms]) -> Run:
    """A kernel model of the crystals."""
    soap = torchlpr.SOAP(
        cutoff=3.3, max_radial=6, max_angular=5, width=0.4, smoothing=0.3, types=["Si"],
        normalize=True,
    )  # fmt: skip
    batch = soap(frames)
    baseline = torchlpr.CompositionBaseline.fit(batch)
    batch = baseline.subtract(batch)
    model = torchlpr.SparseKernelModel(select_inducing(batch, 300), zeta=2)
    objective = torchlpr.Objective(mu=1e-6)
    result = torchlpr.fit(model, batch, objective)
    return Run(soap, baseline, torchlpr.Rigidity(model, batch, objective), result.stationarity, {})


def explore(run: Run, kappa: float) -> list[Atoms]:
    """Langevin dynamics from the perfect crystal; frames hold rigidities and errors."""
    atoms = bulk("Si", a=5.432, cubic=True) * (2, 2, 2)
    atoms.calc = torchlpr.BiasedCalculator(run, kappa)
    rng = np.random.default_rng(1)
    spread = np.sqrt(units.kB * TEMPERATURE * atoms.get_masses())
    atoms.set_momenta(spread[:, None] * rng.normal(size=(len(atoms), 3)))
    dynamics = Langevin(
        atoms,
        TIMESTEP * units.fs,
        temperature_K=TEMPERATURE,
        friction=0.02 / units.fs,
        fixcm=False,
        rng=rng,
    )
    frames = [recorded(atoms, 0)]
    for step in tqdm(range(EVERY, STEPS + 1, EVERY), desc=f"kappa = {kappa} eV"):
        dynamics.run(EVERY)
        frames.append(recorded(atoms, step))
    return frames


def recorded(atoms: Atoms, step: int) -> Atoms:
    """A frame with what the model knows and what the reference potential says."""
    atoms.get_potential_energy()
    results, frame = atoms.calc.results, atoms.copy()
    reference = tersoff_site_energies(atoms)
    frame.arrays["lpr"] = results["lpr"]
    frame.arrays["error"] = results["energies"] - reference
    frame.info |= {"step": step, "energy": float(reference.sum())}
    return frame


def extremes(frames: list[Atoms]) -> tuple[list[float], list[float]]:
    """Smallest rigidity and largest error of an atom in every frame."""
    lowest = [float(frame.arrays["lpr"].min()) for frame in frames]
    return lowest, [float(abs(frame.arrays["error"]).max()) for frame in frames]


def evaluated(run: Run, frames: list[Atoms]) -> list[Atoms]:
    """The same frames with the rigidities and errors of another model."""
    found = run.predict(frames, progress=False)
    counts = [len(frame) for frame in frames]
    copies = [frame.copy() for frame in frames]
    parts = zip(copies, found.lpr.split(counts), found.local_energies.split(counts), strict=True)
    for frame, lpr, energies in parts:
        frame.arrays["lpr"] = lpr.numpy()
        frame.arrays["error"] = energies.numpy() - tersoff_site_energies(frame)
    return copies


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("explore_study"))
    settings = parser.parse_args(arguments)
    settings.out.mkdir(parents=True, exist_ok=True)
    train_set = crystals()
    run = train(train_set)
    plain, biased = (explore(run, kappa) for kappa in (0.0, KAPPA))
    half = len(biased) // 2
    learned = train(train_set + biased[: half : half // LABELS][:LABELS])
    series = {
        "no bias": plain,
        f"bias, \u03ba = {KAPPA} eV": biased,
        f"the same, {LABELS} frames trained on": evaluated(learned, biased[half:]),
    }
    fig, axes = figure(1, 2)
    summary = {}
    for number, (name, frames) in enumerate(series.items()):
        color, _ = class_style(number)
        time = [frame.info["step"] * TIMESTEP for frame in frames]
        lowest, largest = extremes(frames)
        axes[0, 0].plot(time, lowest, color=color, lw=1.2, label=name)
        axes[0, 1].plot(time, largest, color=color, lw=1.2)
        ase.io.write(settings.out / f"trajectory_{number}.xyz", frames)
        second = slice(-half - 1, None)
        summary[name] = {
            "second half, median of the smallest LPR": float(np.median(lowest[second])),
            "second half, median of the largest error / eV": float(np.median(largest[second])),
            "largest error / eV": max(largest),
        }
    axes[0, 0].set(yscale="log", xlabel="time / fs", ylabel=f"smallest {LPR_LABEL}")
    axes[0, 1].set(xlabel="time / fs", ylabel="largest error of an atomic energy / eV")
    axes[0, 0].legend(frameon=False, fontsize="small")
    save_figure(fig, settings.out / "explore.png")
    (settings.out / "summary.json").write_text(json.dumps(summary, indent=2))
    return summary


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
