"""How far down and how fast: Levenberg-Marquardt and Newton against 25,000 epochs of Adam.

    export TORCHLPR_DATA=folder
    python benchmarks/minimum.py run --folder runs       # goes on after a stop
    python benchmarks/minimum.py together --folder runs  # Adam, all seeds at once
    python benchmarks/minimum.py seconds --folder runs   # times, on all threads
    python benchmarks/minimum.py retrain --folder runs
    python benchmarks/minimum_report.py --folder runs --name amd-epyc-2-cores

Each run trains the network 576-16-16-1 without biases on a hundred cells of 64 atoms from random
weights, by one of the two ways, on one thread, and leaves its numbers and weights in a file.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from torchlpr import (
    SOAP,
    AtomBatch,
    BehlerParrinelloMLP,
    CompositionBaseline,
    Objective,
    Rigidity,
    fit,
    read,
)
from torchlpr.committee.adam import adam_members
from torchlpr.committee.stacked import StackedLoss
from torchlpr.committee.tasks import MemberTasks
from torchlpr.files import atomic_path, make_folder
from torchlpr.training import AdamSettings, LMSettings, train_network
from torchlpr.training.constrained import full_hessian_rigidity, retrain
from torchlpr.training.grid_search import search_mu
from torchlpr.training.stationarity import stationarity

SETS = {
    "carbon": ("carbon_pbe/carbon_pbe.xyz", "C", 3.7),
    "silicon": ("si_pbe_64/si_pbe_64.xyz", "Si", 5.0),
}
WAYS: dict[str, Literal["adam", "lm"]] = {"Adam": "adam", "LM + Newton": "lm"}
GRID = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
SEEDS = {1.0: 5, 10.0: 5, 0.01: 5}  # for each factor of the chosen mu
TRAIN, VALIDATION, TEST = 100, 60, 100
PART = 100, 500  # epochs of Adam that are timed
HELD, SHIFT = 10, 1e-4  # atoms, and their shift in units of 1/sqrt(LPR)
ADAM = AdamSettings(epochs=25_000)


@functools.cache
def data(name: str) -> dict[str, AtomBatch]:
    """Features of the three parts, energies relative to the mean of the training set."""
    path, symbol, cutoff = SETS[name]
    frames = read(Path(os.environ["TORCHLPR_DATA"]) / path)
    cells = [atoms for atoms in frames if len(atoms) == 64]
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(cells), generator=generator)[: TRAIN + VALIDATION + TEST]
    soap = SOAP(
        cutoff=cutoff, max_radial=7, max_angular=8, width=0.5, smoothing=0.5, types=[symbol],
        normalize=True,
    )  # fmt: skip
    described = soap([cells[int(k)] for k in order], progress=False)
    ends = {"train": (0, TRAIN), "validation": (TRAIN, TRAIN + VALIDATION)}
    ends["test"] = (TRAIN + VALIDATION, len(order))
    parts = {part: described.select(range(*end)) for part, end in ends.items()}
    baseline = CompositionBaseline.fit(parts["train"])
    return {part: baseline.subtract(batch) for part, batch in parts.items()}


def network(name: str, seed: int) -> BehlerParrinelloMLP:
    return BehlerParrinelloMLP(576, [SETS[name][1]], (16, 16), bias=False, seed=seed)


def chosen_mu(name: str, folder: Path) -> float:
    """The largest mu within one standard error of the least validation error."""
    path = folder / f"{name}-mu.json"
    if not path.exists():
        found = search_mu(
            network(name, 0), data(name)["train"], data(name)["validation"],
            Objective(mu=GRID[0]), GRID, rule="one-standard-error",
            lm_settings=LMSettings(newton_steps=0), progress=False,
        )  # fmt: skip
        write(path, {"mu": found.best, "grid": found.mus, "rmse": found.rmse_validation})
    return float(json.loads(path.read_text())["mu"])


def write(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1))


def run(name: str, way: str, factor: float, seed: int, folder: Path) -> None:
    """One training from random weights, unless its file is there."""
    path = folder / f"{name}-{way.split()[0].lower()}-{factor:g}-{seed}.json"
    if path.exists():
        return
    objective = Objective(mu=factor * chosen_mu(name, folder))
    model, train = network(name, seed), data(name)["train"]
    wall, processor = time.perf_counter(), time.process_time()
    settings = {"settings": ADAM} if way == "Adam" else {}
    result = fit(model, train, objective, WAYS[way], progress=False, **settings)
    row = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    row["steps"] = len(result.steps) or len(result.epochs)
    keep(path, name, way, factor, seed, objective, model, row)


def adam_together(name: str, factor: float, folder: Path) -> None:
    """Adam for all seeds that have no file yet, in one stacked computation, which is faster."""
    paths = [folder / f"{name}-adam-{factor:g}-{seed}.json" for seed in range(SEEDS[factor])]
    seeds = [seed for seed, path in enumerate(paths) if not path.exists()]
    if not seeds:
        return
    objective, train = Objective(mu=factor * chosen_mu(name, folder)), data(name)["train"]
    models = [network(name, seed) for seed in seeds]
    weights = torch.stack([parameters_to_vector(m.parameters()).detach() for m in models])
    labels = train.labels().expand(len(seeds), -1)
    tasks = MemberTasks(torch.ones_like(labels), labels, 0 * weights)
    stack = StackedLoss(models[0], train, objective, tasks)
    found = adam_members(stack, weights, ADAM, progress=False)
    for seed, model, flat in zip(seeds, models, found, strict=True):
        vector_to_parameters(flat.clone(), model.parameters())
        keep(paths[seed], name, "Adam", factor, seed, objective, model, {"steps": ADAM.epochs})


def keep(
    path: Path, name: str, way: str, factor: float, seed: int, objective: Objective,
    model: BehlerParrinelloMLP, row: dict[str, Any],
) -> None:  # fmt: skip
    """Write what a training reached."""
    flat = parameters_to_vector(model.parameters()).detach()
    row |= {
        "set": name, "way": way, "mu": objective.mu, "factor": factor, "seed": seed,
        "stationarity": asdict(stationarity(model, data(name)["train"], objective)),
        "weights_norm": float(flat.norm()), "rmse": rmse(model, data(name)["test"]),
    }  # fmt: skip
    with atomic_path(path.with_suffix(".pt")) as temporary:
        torch.save(flat, temporary)
    write(path, row)
    print(json.dumps(row), flush=True)


def rmse(model: BehlerParrinelloMLP, batch: AtomBatch) -> float:
    """Test error of the energy per atom, eV."""
    with torch.no_grad():
        residuals = Objective(mu=1.0).batch_residuals(model, batch)
    return float(residuals.square().mean().sqrt())


def seconds(name: str, folder: Path) -> None:
    """Times side by side: 25,000 epochs of Adam by a part of them, and the other way in full."""
    path = folder / f"{name}-seconds-{torch.get_num_threads()}.json"
    if path.exists():
        return
    objective, train = Objective(mu=chosen_mu(name, folder)), data(name)["train"]
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(SEEDS[1.0]):
        passed = []
        for epochs in PART:  # their difference is free of what is done once
            model, start = network(name, seed), time.perf_counter()
            train_network(model, train, objective, replace(ADAM, epochs=epochs), progress=False)
            passed.append(time.perf_counter() - start)
        found["Adam"].append((passed[1] - passed[0]) / (PART[1] - PART[0]) * ADAM.epochs)
        model, start = network(name, seed), time.perf_counter()
        fit(model, train, objective, "lm", progress=False)
        found["LM + Newton"].append(time.perf_counter() - start)
    write(path, {"threads": torch.get_num_threads(), "epochs timed": PART, **found})


def retrained(name: str, folder: Path) -> None:
    """Ten atoms held away from their energies, against the full Hessian at the minimum."""
    path, minimum = folder / f"{name}-retrained.json", folder / f"{name}-lm-1-0.pt"
    if path.exists() or not minimum.exists():
        return
    objective = Objective(mu=chosen_mu(name, folder))
    train, test = data(name)["train"], data(name)["test"]
    model = network(name, 0)
    vector_to_parameters(torch.load(minimum), model.parameters())
    picked = torch.randperm(len(test), generator=torch.Generator().manual_seed(1))[:HELD]
    atoms = AtomBatch(test.features[picked], test.types[picked], torch.arange(HELD))
    full = full_hessian_rigidity(model, train, objective, atoms).tolist()
    gauss_newton = Rigidity(model, train, objective).local(atoms).tolist()
    rises = []
    for k, rigidity in enumerate(full):
        shift = SHIFT / rigidity**0.5
        both = [retrain(model, train, objective, atoms.select([k]), s) for s in (shift, -shift)]
        rises.append(sum(one.rise for one in both) / shift**2)
        print(f"{name} atom {k}: re-trained over full Hessian - 1 = {rises[-1] / rigidity - 1:.1e}")
    write(path, {"re-trained": rises, "full Hessian": full, "Gauss-Newton": gauss_newton})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "together", "seconds", "retrain"])
    parser.add_argument("--folder", type=Path, required=True, help="of the runs")
    parser.add_argument("--set", choices=[*SETS], help="only this one")
    parser.add_argument("--way", choices=[*WAYS], help="only this one")
    arguments = parser.parse_args()
    folder, sets = make_folder(arguments.folder), [arguments.set] if arguments.set else [*SETS]
    if arguments.what == "seconds":
        for name in sets:
            seconds(name, folder)
        return
    torch.set_num_threads(1)
    if arguments.what == "retrain":
        for name in sets:
            retrained(name, folder)
        return
    for factor, seeds in SEEDS.items():
        for name in sets:
            if arguments.what == "together":
                adam_together(name, factor, folder)
        for seed in range(seeds if arguments.what == "run" else 0):
            for name in sets:
                for way in [arguments.way] if arguments.way else WAYS:
                    run(name, way, factor, seed, folder)


if __name__ == "__main__":
    main()
