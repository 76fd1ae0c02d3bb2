"""Which atoms would a fine-tuning set pin down? SevenNet-0, all weights and the last layer.

python examples/pretrained/pretrained.py DATA --out pretrained     (extras sevennet and plots)

DATA is the folder of the data sets: random crystals of silicon with PBE energies, and the silicon
of Zuo et al., J. Phys. Chem. A 124, 731 (2020).
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms

from torchlpr import Objective, PotentialRigidity
from torchlpr.analysis.figures import LPR_LABEL, class_style, figure, save_figure
from torchlpr.analysis.rank_statistics import spearman
from torchlpr.files import atomic_path
from torchlpr.free_memory import format_bytes
from torchlpr.potentials import SevenNetPotential

TRAINED, HELD_OUT = 100, 40
# mu as shares of the largest eigenvalue of R^T R of all weights; the figure is of the
# second, at which the data make up about half of the rigidity of a typical atom
SHARES = (1e-2, 1e-4, 1e-6, 1e-8)
SHOWN = 1
PARTS = {"all weights": "all", "last layer": "last-layer"}


# %% Structures: fine-tune on small random crystals, ask about others, surfaces and a vacancy
def structures(data: Path) -> tuple[list[Atoms], dict[str, list[Atoms]]]:
    """The fine-tuning set, and structures by class."""
    crystals = ase.io.read(data / "small_random_crystals" / "si_small.xyz", ":")
    order = np.random.default_rng(0).permutation(len(crystals))
    chosen = [crystals[i] for i in order[: TRAINED + HELD_OUT]]
    silicon = ase.io.read(data / "si_ge_mlearn" / "si.xyz", ":")
    surfaces = [a for a in silicon if a.info["config_type"] == "Surface" and len(a) <= 24]
    vacancy = next(a for a in silicon if a.info["config_type"] == "Vacancy")
    return chosen[:TRAINED], {
        "held-out random crystals": chosen[TRAINED:],
        "surfaces": surfaces,
        "vacancy in a 64-atom cell": [vacancy],
    }


# %% Rigidities at all mu, with the time and memory they take
def rigidities(
    potential: SevenNetPotential,
    train: list[Atoms],
    test: list[Atoms],
    parameters: str,
    mus: list[float] | None,
) -> dict[str, Any]:
    """LPR and mu-fraction at every mu, shape (mus, atoms); by default mu is chosen by SHARES."""
    predicted = PotentialRigidity.predict_memory(potential, train, test, parameters)
    print(f"{parameters}: {predicted} predicted beside {format_bytes(resident())} that are there")
    start = time.perf_counter(), time.process_time()
    # the smallest mu first: where weights are fewer than rows, rows are not kept for a smaller one
    objective = Objective(mu=min(mus) if mus else 1.0)
    rigidity = PotentialRigidity(potential, train, objective, parameters)
    mus = mus or [share * rigidity.largest_eigenvalue() for share in SHARES]
    built = time.perf_counter(), time.process_time()
    found = rigidity.sweep(test, mus)
    done = time.perf_counter(), time.process_time()
    print(f"{parameters}: {rigidity.reason}; {done[0] - start[0]:.0f} s")
    return {
        "lpr": found.rigidity.numpy(),
        "mu_fraction": found.mu_fraction.numpy(),
        "weights": len(rigidity.subset),
        "mu": mus,
        "rows_s": built[0] - start[0],
        "atoms_s": done[0] - built[0],
        "cpu_s": done[1] - start[1],
    }


def resident() -> int:
    """Memory of this process in bytes, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# %% The comparison: rank correlation and ratio, by mu and by class
def compare(found: dict[str, dict[str, Any]], classes: np.ndarray) -> list[dict[str, Any]]:
    full, last = (found[name] for name in PARTS)
    rows = []
    for k, share in enumerate(SHARES):
        for name in ["all atoms", *dict.fromkeys(classes)]:
            chosen = np.full(len(classes), True) if name == "all atoms" else classes == name
            one, other = full["lpr"][k, chosen], last["lpr"][k, chosen]
            ratio = np.quantile(other / one, [0.05, 0.5, 0.95])
            rows.append({
                "mu_share": share,
                "class": name,
                "atoms": int(chosen.sum()),
                "spearman": round(float(spearman(one, other)), 3),
                "ratio_median": f"{ratio[1]:.3g}",
                "ratio_5": f"{ratio[0]:.3g}",
                "ratio_95": f"{ratio[2]:.3g}",
                "median_lpr_all": f"{np.median(one):.3g}",
                "median_lpr_last": f"{np.median(other):.3g}",
                "median_mu_fraction_all": f"{np.median(full['mu_fraction'][k, chosen]):.3g}",
                "median_mu_fraction_last": f"{np.median(last['mu_fraction'][k, chosen]):.3g}",
            })
    return rows


# %% The figure
def plot(path: Path, found: dict[str, dict[str, Any]], classes: np.ndarray) -> None:
    """LPR of the last layer against that of all weights; rank correlation against mu."""
    full, last = (found[name]["lpr"] for name in PARTS)
    fig, axes = figure(1, 2, panel=(4.8, 4.0))
    left, right = axes[0]
    names = list(dict.fromkeys(classes))
    for number, name in enumerate(names):
        color, marker = class_style(number)
        chosen = classes == name
        pair = full[SHOWN, chosen], last[SHOWN, chosen]
        left.plot(*pair, marker, color=color, ms=3, alpha=0.6, mew=0, label=name)
        ranks = [spearman(full[k, chosen], last[k, chosen]) for k in range(len(SHARES))]
        right.plot(SHARES, ranks, marker=marker, color=color, lw=1.2, ms=4)
    ranks = [spearman(full[k], last[k]) for k in range(len(SHARES))]
    right.plot(SHARES, ranks, "k--", lw=1.2, label="all atoms")
    ends = [full[SHOWN].min(), full[SHOWN].max()]
    left.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    left.set(xscale="log", yscale="log")
    left.set(xlabel=f"{LPR_LABEL}, all weights", ylabel=f"{LPR_LABEL}, last layer")
    right.set(xscale="log", xlabel="$\\mu$ / largest eigenvalue", ylabel="Spearman correlation")
    right.legend(frameon=False)
    fig.legend(loc="outside upper center", ncols=3, frameon=False, markerscale=2,
               handles=left.get_legend_handles_labels()[0])  # fmt: skip
    save_figure(fig, path)


def atom_table(
    found: dict[str, dict[str, Any]], test: list[Atoms], classes: np.ndarray
) -> list[dict[str, Any]]:
    """LPR of every atom, of all weights and of the last layer, at every mu."""
    atoms = [(s, k) for s, cell in enumerate(test) for k in range(len(cell))]
    return [
        {"class": name, "structure": s, "atom": k}
        | {
            f"{part}, mu {share:g}": f"{found[part]['lpr'][m, number]:.5g}"
            for m, share in enumerate(SHARES)
            for part in PARTS
        }
        for number, (name, (s, k)) in enumerate(zip(classes, atoms, strict=True))
    ]


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


# %% All of it
def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("pretrained"))
    parser.add_argument("--threads", type=int, default=2)
    settings = parser.parse_args(arguments)
    settings.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    start = time.perf_counter()
    train, groups = structures(settings.data)
    test = [atoms for group in groups.values() for atoms in group]
    classes = np.array([name for name, group in groups.items() for a in group for _ in a])
    potential = SevenNetPotential("7net-0")
    before = resident()
    predicted = before + PotentialRigidity.predict_memory(potential, train, test).peak
    print(f"predicted peak of this process: {format_bytes(predicted)}")
    found: dict[str, dict[str, Any]] = {}
    mus = None  # one loss: the last layer has the mu of all weights
    for name, which in PARTS.items():
        found[name] = rigidities(potential, train, test, which, mus)
        mus = found[name]["mu"]
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary = {
        "structures trained on": len(train),
        "atoms evaluated": len(classes),
        "seconds": round(time.perf_counter() - start, 1),
        "threads": settings.threads,
        "memory before": before,
        "predicted peak": predicted,
        "measured peak": peak,
        "predicted / measured": round(predicted / peak, 3),
    }
    for name in PARTS:
        own = ("weights", "rows_s", "atoms_s", "cpu_s")
        summary[name] = {key: round(found[name][key], 1) for key in own}
    summary["mu"] = mus
    write_table(settings.out / "comparison.csv", compare(found, classes))
    write_table(settings.out / "rigidity.csv", atom_table(found, test, classes))
    (settings.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    plot(settings.out / "pretrained.png", found, classes)
    return summary


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
