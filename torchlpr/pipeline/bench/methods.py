"""One list of methods, in two phases each: build from a training set, then evaluate atoms."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from torchlpr.curvature.gauss_newton import Shape
from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.pipeline.bench.points import Point
from torchlpr.pipeline.bench.problem import Problem
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch

__all__ = [
    "OWN",
    "Method",
    "Unavailable",
    "by_products",
    "import_peer",
    "parameter_space",
    "row_space",
    "silence",
]


class Unavailable(InputError):
    """A method cannot be measured; the sentence says why."""


@dataclass(frozen=True)
class Method:
    """One way to rigidities.

    Attributes:
        name: as tables show it.
        build: makes of a problem whatever evaluation needs.
        evaluate: rigidities of all atoms of a batch, shape (atoms,).
        flops: predicted work at a point, which says when to leave the method out.
        one_call: whether build does nothing and evaluation everything.
        linear_only: whether it knows linear models alone.
        sample: atoms that are evaluated at most where the time of each is the same; the time is
            scaled to all.
    """

    name: str
    build: Callable[[Problem], Any]
    evaluate: Callable[[Any, AtomBatch], Tensor]
    flops: Callable[[Point], float]
    one_call: bool = False
    linear_only: bool = False
    sample: int | None = None


def row_space(point: Point) -> float:
    """Predicted flops where the M x M system is factorised."""
    m, p, k = point.structures, point.parameters, point.test_atoms
    return 2.0 * m * p * (m + 2 * k) + m**3 / 3 + _gradients(point)


def parameter_space(point: Point) -> float:
    """Predicted flops where the P x P system is factorised."""
    m, p, k = point.structures, point.parameters, point.test_atoms
    return 2.0 * p**2 * (m + k) + 2.0 * p**3 + _gradients(point)


def by_products(point: Point) -> float:
    """Predicted flops where H is made by multiplying it with every unit vector."""
    return parameter_space(point) + point.parameters * 4 * _gradients(point)


def _gradients(point: Point) -> float:
    return 4.0 * point.structures * point.atoms * point.parameters


class Opaque(nn.Module):
    """A model whose layers nobody knows, so that its gradients are taken by ``torch.func``.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Atomic energies of the model."""
        return self.model(features, types)


def _own(
    name: str,
    shape: Shape,
    generic: bool,
    flops: Callable[[Point], float],
    tolerance: float = 1e-10,
    float32_error: float = 0.0,
) -> Method:
    def build(problem: Problem) -> Rigidity:
        model = Opaque(problem.model) if generic else problem.model
        rigidity = Rigidity(
            model,
            problem.train,
            Objective(mu=problem.mu),
            shape,
            tolerance=tolerance,
            float32_error=float32_error,
        )
        rigidity.prepare(problem.test)
        return rigidity

    return Method(name, build, lambda rigidity, batch: rigidity.local(batch), flops)


OWN = (
    _own("torchlpr row", "row", False, row_space),
    _own("torchlpr row, all columns", "row", False, row_space, tolerance=0.0),
    _own("torchlpr row, float32 products", "row", False, row_space, float32_error=1e-6),
    _own("torchlpr row, generic", "row", True, row_space),
    _own("torchlpr parameter", "parameter", False, parameter_space),
    _own("torchlpr parameter, generic", "parameter", True, parameter_space),
)


def import_peer(module: str, package: str) -> ModuleType:
    """Import a package to compare with.

    Args:
        module: its name in Python.
        package: its name for pip.

    Returns:
        The module.

    Raises:
        Unavailable: if it is not installed, or cannot be imported.
    """
    try:
        with silence():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed (pip install {package})") from error
    except Exception as error:  # a package may fail in any way beside versions it does not know
        raise Unavailable(f"{module} cannot be imported: {error}") from error


@contextmanager
def silence() -> Iterator[None]:
    """Without the warnings of other packages, which are not the reader's to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
