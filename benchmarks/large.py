"""Sizes beyond the sweeps: many atoms, many weights, and intervals without rows.

python benchmarks/large.py --name amd-epyc-2-cores

Memory is the peak above the data, in a process of its own for each size. The matrix-free shape is
asked for intervals of 1 %, at mu = 1e-6 of the largest eigenvalue, for the network of Chong et al.
as initialised with 1000 rows, and trained by Levenberg-Marquardt on 100 cells of silicon; they
must bracket the exact numbers of row space.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from minimum import write

from torchlpr import SOAP, CompositionBaseline, Objective, Rigidity, fit
from torchlpr.curvature import MatrixFreeSettings, atomic_gradients
from torchlpr.files import atomic_path
from torchlpr.pipeline.bench.check import METHODS
from torchlpr.pipeline.bench.measure import machine, measure
from torchlpr.pipeline.bench.memory import peak_memory
from torchlpr.pipeline.bench.points import Point, full_plan
from torchlpr.pipeline.bench.problem import MU, Pool, load_pool, make_problem
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.training import LMSettings

PAPER = Point(1000, 64, 576, (16, 16), 6400)
SIZES = (
    *(replace(PAPER, test_atoms=atoms) for atoms in (6400, 25_000, 100_000)),
    Point(200, 4, 576, (1250, 224), 400),  # a million weights
)
INTERVALS, EXACT = 64, 1e-9
METHOD = METHODS["torchlpr row"]


def sizes(pool: Pool) -> list[dict[str, Any]]:
    """Memory and time of exact rigidities in row space."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.pt"
        torch.save({"train": pool.train, "test": pool.test}, path)
        for point in SIZES:
            problem = make_problem(point, pool)
            seconds, _ = measure(METHOD, problem)
            data = problem.train.features.nbytes + problem.test.features.nbytes
            peak = peak_memory(METHOD.name, point, problem.mu, path)
            found.append({"point": point.key, "parameters": point.parameters, "data": data,
                          "peak": peak} | seconds)  # fmt: skip
            print(found[-1], flush=True)
    return found


def intervals(pool: Pool) -> list[dict[str, Any]]:
    """Products with H until intervals are 1 % wide, at mu = 1e-6 of the largest eigenvalue."""
    problem = make_problem(replace(PAPER, test_atoms=INTERVALS), pool)
    cases = {"as initialised": (problem.model, problem.train, problem.test, problem.mu)}
    soap = SOAP(
        cutoff=4.0, max_radial=7, max_angular=8, width=0.5, smoothing=0.5, types=["Si"],
        normalize=True,
    )  # fmt: skip
    train = soap(amorphous_silicon()[:100], progress=False)
    train = CompositionBaseline.fit(train).subtract(train)
    trained = copy.deepcopy(problem.model)
    fit(trained, train, Objective(mu=1e-5), "lm", lm_settings=LMSettings(200), progress=False)
    rows = Rigidity(trained, train, Objective(mu=1.0), "row").factor.rows
    largest = float(torch.linalg.matrix_norm(rows, 2)) ** 2
    cases["trained"] = (trained, train, problem.test, MU * largest)
    found = []
    for name, (model, batch, test, mu) in cases.items():
        exact = Rigidity(model, batch, Objective(mu=mu), "row").atoms(test).rigidity
        for directions in (0, 16):
            settings = MatrixFreeSettings(1e-2, directions=directions)
            free = Rigidity(model, batch, Objective(mu=mu), "matrix-free", matrix_free=settings)
            bounds = free.factor.bounds(atomic_gradients(model, test.features, test.types))
            inside = (bounds.lower * exact <= 1 + EXACT) & (bounds.upper * exact >= 1 - EXACT)
            found.append({
                "network": name, "rows": free.factor.n_rows, "directions": directions,
                "products": sorted(bounds.products.tolist()), "bracketed": bool(inside.all()),
                "width": float(((bounds.upper - bounds.lower) / bounds.lower).max()),
            })  # fmt: skip
            print(found[-1], flush=True)
    return found


def report(out: Path) -> None:
    """Measure, and write all numbers as JSON and two tables as Markdown."""
    pool = load_pool(full_plan())
    content = {"machine": machine(("cpu",), "wall"), "sizes": sizes(pool)}
    content["intervals"] = intervals(pool)
    write(out.with_suffix(".json"), content)
    lines = ["| problem | weights | data / MiB | above / MiB | build / s | evaluate / s |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for row in content["sizes"]:
        cells = [
            row["point"],
            row["parameters"],
            *(f"{row[k] / 2**20:.0f}" for k in ("data", "peak")),
        ]
        cells += [f"{row[k]:.2f}" for k in ("build_s", "evaluate_s")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| network | rows | directions taken out | products, least to most | bracketed |",
              "|---|---:|---:|---:|---|"]  # fmt: skip
    for row in content["intervals"]:
        ends = f"{row['products'][0]} to {row['products'][-1]}"
        cells = [row["network"], row["rows"], row["directions"], ends, row["bracketed"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    with atomic_path(out.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="of the machine")
    report(Path(__file__).parent / "results" / f"large-{parser.parse_args().name}")
