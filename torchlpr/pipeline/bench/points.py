"""What is measured: sizes, and the sweeps that vary one of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from torchlpr.errors import InputError

__all__ = ["Plan", "Point", "Sweep", "full_plan", "quick_plan"]


@dataclass(frozen=True)
class Point:
    """One size of the problem.

    Attributes:
        structures: training structures N, one row each.
        atoms: atoms of a structure.
        features: features of an atom.
        hidden: widths of the network's hidden layers; empty for a linear model.
        test_atoms: atoms K whose rigidity is asked for.
        dtype: float64 or float32, of features and weights; torchlpr computes in float64 always.
        device: cpu or cuda.
    """

    structures: int
    atoms: int
    features: int
    hidden: tuple[int, ...]
    test_atoms: int
    dtype: str = "float64"
    device: str = "cpu"

    @property
    def key(self) -> str:
        """Name of the point in a results file."""
        shape = "-".join(map(str, (self.features, *self.hidden, 1)))
        return (
            f"{self.structures}x{self.atoms} atoms, {shape}, {self.test_atoms} test atoms, "
            f"{self.dtype}, {self.device}"
        )

    @property
    def parameters(self) -> int:
        """Number P of weights."""
        widths = (self.features, *self.hidden, 1)
        return sum(a * b for a, b in pairwise(widths))

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return torch.float32 if self.dtype == "float32" else torch.float64

    @property
    def build_floor(self) -> float:
        """Flops of one product that makes the Gram matrix of the smaller space, 2 M P min(M, P)."""
        sizes = self.structures, self.parameters
        return 2.0 * sizes[0] * sizes[1] * min(sizes)

    @property
    def evaluate_floor(self) -> float:
        """Flops of one product that takes the gradients to the smaller space, 2 K P min(M, P)."""
        return 2.0 * self.test_atoms * self.parameters * min(self.structures, self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the number of parameters."""
        return asdict(self) | {"hidden": list(self.hidden), "parameters": self.parameters}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Point:
        """Rebuild from :meth:`as_dict`.

        Args:
            data: plain data.

        Returns:
            The point.
        """
        fields = {name: value for name, value in data.items() if name != "parameters"}
        return cls(**(fields | {"hidden": tuple(data["hidden"])}))


@dataclass(frozen=True)
class Sweep:
    """Points that differ in one size.

    Attributes:
        axis: the size, an attribute of the points.
        label: what it is, for a figure.
        quantity: the time that is drawn against it: build, evaluate or total.
        points: in ascending order.
    """

    axis: str
    label: str
    quantity: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Plan:
    """Everything one run measures.

    Attributes:
        name: quick or full.
        soap: hyperparameters of the descriptor.
        cells: cells of amorphous silicon to take training atoms from.
        test_cells: cells to take test atoms from.
        sweeps: where the methods of :attr:`swept` are measured.
        comparisons: where all methods are measured, smaller points first.
        swept: names of methods.
        in_memory: names of methods whose memory is measured, None for all.
        repeats: repetitions of a measurement.
        patience: seconds after which a measurement is not repeated.
        limit: predicted seconds above which a method is left out.
        devices: cpu, cuda.
    """

    name: str
    soap: dict[str, float]
    cells: int
    test_cells: int
    sweeps: tuple[Sweep, ...]
    comparisons: tuple[Point, ...]
    swept: tuple[str, ...]
    in_memory: tuple[str, ...] | None
    repeats: int
    patience: float
    limit: float
    devices: tuple[str, ...] = ("cpu",)

    def on(self, devices: tuple[str, ...]) -> Plan:
        """The same points on each of the devices.

        Args:
            devices: cpu, cuda.

        Returns:
            A plan.
        """
        sweeps = tuple(
            replace(s, points=tuple(replace(p, device=d) for p in s.points))
            for d in devices
            for s in self.sweeps
        )
        points = tuple(replace(p, device=d) for d in devices for p in self.comparisons)
        return replace(self, sweeps=sweeps, comparisons=points, devices=devices)

    def points(self) -> list[Point]:
        """Every point once, in an order in which each method meets small sizes first."""
        everything = {p for sweep in self.sweeps for p in sweep.points} | set(self.comparisons)
        return sorted(everything, key=lambda p: (p.device, _work(p), p.key))


SWEPT = (
    "torchlpr row",
    "torchlpr row, generic",
    "torchlpr parameter",
    "torch.func row",
    "torch.func parameter",
    "autograd loops",
    "laplace-torch BackPACK",
)


def full_plan() -> Plan:
    """Up to paper size, 1000 x 64 atoms and 9488 parameters: half an hour and more."""
    base = Point(128, 64, 576, (4, 4), 512)
    paper = replace(base, structures=1000, hidden=(16, 16), test_atoms=6400)
    return Plan(
        name="full",
        soap={"cutoff": 4.0, "max_radial": 7, "max_angular": 8},
        cells=128,
        test_cells=32,
        sweeps=_sweeps(
            base,
            structures=(32, 64, 128, 256, 512),
            atoms=(16, 32, 64, 128),
            hidden=((2, 2), (4, 4), (8, 8), (16, 16)),
            test_atoms=(128, 512, 2048, 8192),
        ),
        comparisons=(base, replace(base, dtype="float32"), replace(base, hidden=()), paper),
        swept=SWEPT,
        in_memory=None,
        repeats=3,
        patience=8.0,
        limit=240.0,
    )


def quick_plan() -> Plan:
    """Small sizes that show the way the tables look: less than a minute."""
    base = Point(24, 64, 64, (8, 8), 256)
    return Plan(
        name="quick",
        soap={"cutoff": 4.0, "max_radial": 3, "max_angular": 3},
        cells=24,
        test_cells=4,
        sweeps=_sweeps(
            base,
            structures=(12, 24, 48),
            atoms=(16, 32, 64),
            hidden=((4, 4), (8, 8), (16, 16)),
            test_atoms=(128, 256, 512),
        ),
        comparisons=(base, replace(base, dtype="float32"), replace(base, hidden=())),
        swept=SWEPT[:5],
        in_memory=(SWEPT[0], SWEPT[4]),
        repeats=2,
        patience=1.0,
        limit=3.0,
    )


def _sweeps(base: Point, **values: tuple[Any, ...]) -> tuple[Sweep, ...]:
    labels = {
        "structures": ("training structures N", "build"),
        "atoms": ("atoms of a training structure", "build"),
        "hidden": ("parameters P", "total"),
        "test_atoms": ("test atoms K", "evaluate"),
    }
    if unknown := set(values) - set(labels):
        raise InputError(f"no sweep over {sorted(unknown)}; there are {sorted(labels)}")
    return tuple(
        Sweep(
            "parameters" if axis == "hidden" else axis,
            *labels[axis],
            tuple(replace(base, **{axis: value}) for value in chosen),
        )
        for axis, chosen in values.items()
    )


def _work(point: Point) -> float:
    return point.build_floor + point.evaluate_floor + 1e3 * point.structures * point.atoms
