"""The report on the runs of minimum.py: losses, gradients, times, errors, and rigidities.

python benchmarks/minimum_report.py --folder runs --name amd-epyc-2-cores
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from minimum import SEEDS, SETS, WAYS, data, network, write
from torch.nn.utils import vector_to_parameters

from torchlpr import Objective, Rigidity
from torchlpr.analysis.rank_statistics import spearman
from torchlpr.files import atomic_path
from torchlpr.pipeline.bench.measure import machine

COLUMNS = (
    "set", "μ / eV²", "seed", "loss, Adam / eV²", "LM + Newton", "gradient, Adam / eV²",
    "LM + Newton", "its lowest curvature", "steps", "test RMSE, Adam / (meV/atom)", "LM + Newton",
    "Spearman of LPR",
)  # fmt: skip


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
    files = sorted(folder.glob("*-seconds-*.json"))
    timed = {path.stem: json.loads(path.read_text()) for path in files}
    held = {name: folder / f"{name}-retrained.json" for name in SETS}
    again = {name: json.loads(p.read_text()) for name, p in held.items() if p.exists()}
    content = {"machine": machine(("cpu",), "wall"), "seconds": timed, "re-trained": again}
    write(out.with_suffix(".json"), content | {"rows": rows})
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
        adam, lm = (one[way] for way in WAYS)
        whole = statistics.median(adam)
        ratios = sorted(whole / own for own in lm)
        lines.append(
            f"\n{name.split('-')[0]}, {one['threads']} threads: Adam {whole:.0f} s, LM + Newton "
            f"{min(lm):.1f} to {max(lm):.1f} s, {ratios[0]:.0f} to {ratios[-1]:.0f} times faster "
            f"(median {statistics.median(ratios):.0f})"
        )
    for name, one in again.items():
        exact = one["full Hessian"]
        gaps = [
            max(abs(a / b - 1) for a, b in zip(one[way], exact, strict=True))
            for way in ("re-trained", "Gauss-Newton")
        ]
        lines.append(
            f"\n{name}: rigidity of {len(exact)} atoms by re-training is that of the full "
            f"Hessian to {gaps[0]:.0e}, the Gauss-Newton one to {gaps[1]:.0e}"
        )
    with atomic_path(out.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the runs")
    parser.add_argument("--name", required=True, help="of the machine")
    arguments = parser.parse_args()
    report(arguments.folder, Path(__file__).parent / "results" / f"minimum-{arguments.name}")
