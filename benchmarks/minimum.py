"""How far down and how fast: Levenberg-Marquardt and Newton against 25,000 epochs of Adam.

    export TORCHLPR_DATA=folder
    python benchmarks/minimum.py run --folder runs       # goes on after a stop
    python benchmarks/minimum.py together --folder runs  # Adam, all seeds at once
    python benchmarks/minimum.py seconds --folder runs   # times, on all threads
    python benchmarks/minimum.py report --folder runs --name amd-epyc-2-cores

Each run trains the network 576-16-16-1 without biases on a hundred cells of 64 atoms from random
weights, by one of the two ways, on one thread, and leaves its numbers and weights in a file. The
report compares them: losses, gradients, times, errors, and rigidities of the test atoms.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
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
from torchlpr.analysis.rank_statistics import spearman
from torchlpr.committee.adam import adam_members
from torchlpr.committee.stacked import StackedLoss
from torchlpr.committee.tasks import MemberTasks
from torchlpr.files import atomic_path, make_folder
from torchlpr.pipeline.bench.measure import machine
from torchlpr.training import AdamSettings, LMSettings
from torchlpr.training.grid_search import search_mu
from torchlpr.training.stationarity import stationarity

SETS = {
    "carbon": ("carbon_pbe/carbon_pbe.xyz", "C", 3.7),
    "silicon": ("si_pbe_64/si_pbe_64.xyz", "Si", 5.0),
}
WAYS: dict[str, Literal["adam", "lm"]] = {"Adam": "adam", "LM + Newton": "lm"}
GRID = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
SEEDS = {1.0: 5, 10.0: 5, 0.01: 3}  # for each factor of the chosen mu
TRAIN, VALIDATION, TEST, PART = 100, 60, 100, 300
ADAM = AdamSettings(epochs=25_000)


COLUMNS = (
    "set", "μ / eV²", "seed", "loss, Adam / eV²", "LM + Newton", "gradient, Adam / eV²",
    "LM + Newton", "its lowest curvature", "steps", "test RMSE, Adam / (meV/atom)", "LM + Newton",
    "Spearman of LPR",
)  # fmt: skip


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
    path = folder / f"{name}-seconds.json"
    if path.exists():
        return
    objective, train = Objective(mu=chosen_mu(name, folder)), data(name)["train"]
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(SEEDS[1.0]):
        for way in WAYS:
            few = {"settings": replace(ADAM, epochs=PART)} if way == "Adam" else {}
            start, model = time.perf_counter(), network(name, seed)
            fit(model, train, objective, WAYS[way], progress=False, **few)
            passed = time.perf_counter() - start
            found[way].append(passed * (ADAM.epochs / PART if way == "Adam" else 1))
    write(path, {"threads": torch.get_num_threads(), "epochs timed": PART, **found})


def table(folder: Path) -> list[dict[str, Any]]:
    """One row a pair of trainings from the same weights."""
    found = []
    for name in SETS:
        for factor in SEEDS:
            for seed in range(SEEDS[factor]):
                paths = [folder / f"{name}-{way}-{factor:g}-{seed}.json" for way in ("adam", "lm")]
                if not all(path.exists() for path in paths):
                    continue
                adam, lm = (json.loads(path.read_text()) for path in paths)
                rigidities = [lpr(name, adam["mu"], path.with_suffix(".pt")) for path in paths]
                rank = spearman(*rigidities)
                found.append({"Adam": adam, "LM + Newton": lm, "spearman": rank})
    return found


def lpr(name: str, mu: float, weights: Path) -> Any:
    """Rigidities of the test atoms, 1/eV^2."""
    model = network(name, 0)
    vector_to_parameters(torch.load(weights), model.parameters())
    return Rigidity(model, data(name)["train"], Objective(mu=mu)).local(data(name)["test"]).numpy()


def report(folder: Path, out: Path) -> None:
    """Write all numbers as JSON, and the tables of the README as Markdown."""
    rows = table(folder)
    times = {name: folder / f"{name}-seconds.json" for name in SETS}
    timed = {name: json.loads(p.read_text()) for name, p in times.items() if p.exists()}
    write(
        out.with_suffix(".json"),
        {"machine": machine(("cpu",), "wall"), "seconds": timed, "rows": rows},
    )
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        adam, lm = row["Adam"], row["LM + Newton"]
        a, b = adam["stationarity"], lm["stationarity"]
        cells = [adam["set"], f"{adam['mu']:.0e}", adam["seed"]]
        cells += [f"{x['loss']:.4g}" for x in (a, b)]
        cells += [f"{x['gradient_norm']:.1e}" for x in (a, b)]
        cells += [f"{b['smallest_curvature']:.2g}", lm["steps"]]
        cells += [f"{1e3 * x['rmse']:.1f}" for x in (adam, lm)]
        lines.append("| " + " | ".join(map(str, [*cells, f"{row['spearman']:.2f}"])) + " |")
    for name, one in timed.items():
        adam, lm = (statistics.median(one[way]) for way in WAYS)
        lines.append(
            f"\n{name}: {adam:.0f} s Adam, {lm:.1f} s LM + Newton, ratio {adam / lm:.0f}, "
            f"{one['threads']} threads"
        )
    with atomic_path(out.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "together", "seconds", "report"])
    parser.add_argument("--folder", type=Path, required=True, help="of the runs")
    parser.add_argument("--name", help="of the results, for report")
    parser.add_argument("--set", choices=[*SETS], help="only this one")
    parser.add_argument("--way", choices=[*WAYS], help="only this one")
    arguments = parser.parse_args()
    folder, sets = make_folder(arguments.folder), [arguments.set] if arguments.set else [*SETS]
    if arguments.what == "report":
        report(folder, Path(__file__).parent / "results" / f"minimum-{arguments.name}")
    if arguments.what == "seconds":
        for name in sets:
            seconds(name, folder)
        return
    torch.set_num_threads(1)
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
