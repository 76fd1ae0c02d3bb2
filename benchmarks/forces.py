"""A training step on forces: derivatives computed once, or autograd through the descriptor.

    python benchmarks/forces.py --name amd-epyc-2-cores  # writes results/forces-NAME.{json,md}

Each step is loss and gradient by the weights on four cells of 64 silicon atoms. "Through the
descriptor" computes features from positions in every step, forces by a backward pass and the
gradient of their loss by a second one, as torchani does; its neighbour lists are made once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from torchlpr import SOAP, AtomBatch, BehlerParrinelloMLP, Objective, SymmetryFunctions
from torchlpr.descriptors.geometry import Geometry
from torchlpr.descriptors.state import Descriptor
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.structures.packed import PackedStructures, packed_bytes
from torchlpr.training.losses import batch_loss

STRUCTURES, HIDDEN, ROUNDS = 4, (30, 30), 15
OBJECTIVE = Objective(mu=1e-4, force_weight=1e-3)
DESCRIPTORS: dict[str, Callable[[list[Atoms]], Descriptor]] = {
    "symmetry functions, 20, 5 Å": lambda s: SymmetryFunctions.standard(5.0, ["Si"], 8, 2).scaled(
        s
    ),
    "symmetry functions, 26, 6 Å": lambda s: SymmetryFunctions.standard(6.0, ["Si"], 8, 3).scaled(
        s
    ),
    "SOAP, 180, 5 Å": lambda _: soap(5, 4),
    "SOAP, 448, 5 Å": lambda _: soap(7, 6),
}


def soap(max_radial: int, max_angular: int) -> SOAP:
    return SOAP(
        cutoff=5.0, max_radial=max_radial, max_angular=max_angular, width=0.5, smoothing=0.5,
        types=["Si"],
    )  # fmt: skip


class Problem:
    """Structures with random energies and forces, and the ways to their loss and gradient."""

    def __init__(self, name: str) -> None:
        structures = amorphous_silicon("train")[:STRUCTURES]
        self.descriptor = DESCRIPTORS[name](structures)
        rng = np.random.default_rng(0)
        start = time.process_time()
        batch = self.descriptor(structures, derivatives=True)
        self.precompute = time.process_time() - start
        self.batch: AtomBatch = replace(
            batch,
            energies=torch.from_numpy(rng.normal(size=len(structures))),
            forces=torch.from_numpy(rng.normal(size=(len(batch), 3))),
        )
        self.model = BehlerParrinelloMLP(batch.features.shape[1], ["Si"], HIDDEN, bias=True, seed=0)
        self.packed = PackedStructures(self.batch).take(range(STRUCTURES))
        self.ways: dict[str, Callable[[], list[Tensor]]] = {
            "packed, closed form": lambda: gradients(
                self.model, batch_loss(self.model, self.packed, OBJECTIVE)[0]
            ),
            "pairs, autograd": lambda: gradients(
                self.model, batch_loss(self.model, self.batch, OBJECTIVE)[0]
            ),
        }
        if isinstance(self.descriptor, SymmetryFunctions):
            self.geometry = Geometry.from_structures(structures, self.descriptor.cutoff)
            self.ways["through the descriptor"] = self.through

    def through(self) -> list[Tensor]:
        """Positions to features to energies to forces to the gradient."""
        assert isinstance(self.descriptor, SymmetryFunctions)
        positions = self.geometry.positions.detach().clone().requires_grad_()
        features = self.descriptor.features(replace(self.geometry, positions=positions))
        local = self.model(features, self.batch.types)
        (slope,) = torch.autograd.grad(local.sum(), positions, create_graph=True)
        errors = (-slope - self.batch.forces).reshape(-1)
        energies = OBJECTIVE.residuals(
            local, self.batch.structure, self.batch.counts, self.batch.labels()
        )
        residuals = torch.cat([energies, OBJECTIVE.force_scale * errors])
        loss = OBJECTIVE.data_loss(residuals) + OBJECTIVE.penalty(self.model.parameters())
        return gradients(self.model, loss)

    def check(self) -> None:
        """All ways give one gradient."""
        reference, *others = [way() for way in self.ways.values()]
        for other in others:
            for a, b in zip(reference, other, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)

    def memory(self) -> dict[str, float]:
        """MB that the derivatives of a structure take."""
        assert self.batch.derivatives is not None
        pairs = self.batch.derivatives.values.nbytes
        packed = packed_bytes(self.batch)
        assert packed is not None
        return {"pairs": pairs / STRUCTURES / 1e6, "packed": packed / STRUCTURES / 1e6}


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def measure(problem: Problem) -> dict[str, dict[str, float]]:
    """Microseconds an atom and step, and MB of a step above what is there; interleaved."""
    problem.check()
    times: dict[str, list[float]] = {way: [] for way in problem.ways}
    for _ in range(ROUNDS):
        for name, way in problem.ways.items():
            repeats = 1 if name.startswith("through") else 3
            start = time.process_time()
            for _ in range(repeats):
                way()
            times[name].append((time.process_time() - start) / repeats)
    atoms = len(problem.batch)
    return {
        name: {
            "microseconds": 1e6 * min(values) / atoms,
            "median": 1e6 * statistics.median(values) / atoms,
            "step_mb": step_memory(problem.ways[name]),
        }
        for name, values in times.items()
    }


def step_memory(way: Callable[[], object]) -> float:
    """Peak of resident memory above what was there, MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = status("VmRSS")
    way()
    return max(0.0, (status("VmHWM") - before) / 1e3)


def status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


def table(results: dict[str, dict]) -> str:
    lines = [
        "| features | way | µs per atom and step | of packed | derivatives MB/structure "
        "| step MB | precompute ms/atom |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        fastest = result["ways"]["packed, closed form"]["microseconds"]
        for way, values in result["ways"].items():
            kind = way.split(",")[0]
            held = f"{result['memory'][kind]:.2f}" if kind in result["memory"] else "–"
            once = f"{result['precompute_ms']:.2g}" if kind in result["memory"] else "–"
            ratio = values["microseconds"] / fastest
            lines.append(
                f"| {name} | {way} | {values['microseconds']:.3g} | {ratio:.2g} | {held} "
                f"| {values['step_mb']:.2g} | {once} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the machine, for the files")
    torch.set_num_threads(1)
    results = {}
    arguments = parser.parse_args()
    for name in DESCRIPTORS:
        problem = Problem(name)
        once = 1e3 * problem.precompute / len(problem.batch)
        memory = problem.memory()
        results[name] = {"precompute_ms": once, "memory": memory, "ways": measure(problem)}
        print(table({name: results[name]}), flush=True)
    folder = Path(__file__).parent / "results"
    content = {"torch": torch.__version__, "threads": 1, "clock": "cpu", "results": results}
    (folder / f"forces-{arguments.name}.json").write_text(json.dumps(content, indent=2) + "\n")
    head = (
        f"# A training step on forces\n\n{arguments.name}, 1 thread, processor time, torch "
        f"{torch.__version__}, float64, {STRUCTURES} cells of 64 silicon atoms, network "
        f"{'-'.join(map(str, HIDDEN))}-1 with biases. Least of {ROUNDS}.\n\n"
    )
    (folder / f"forces-{arguments.name}.md").write_text(head + table(results) + "\n")


if __name__ == "__main__":
    main()
