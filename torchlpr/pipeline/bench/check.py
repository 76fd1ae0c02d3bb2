"""Before a method is timed it has to give the right numbers."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from torchlpr.pipeline.bench.methods import OWN, Method, Unavailable, silence
from torchlpr.pipeline.bench.peers_packages import PACKAGE_PEERS
from torchlpr.pipeline.bench.peers_torch import TORCH_PEERS
from torchlpr.pipeline.bench.points import Point
from torchlpr.pipeline.bench.problem import Pool, Problem, make_problem

__all__ = ["METHODS", "TOLERANCE", "check", "definition", "difference", "small_problem"]

METHODS = {method.name: method for method in (*OWN, *TORCH_PEERS, *PACKAGE_PEERS)}
"""Every method by its name."""

TOLERANCE = {"float64": 1e-6, "float32": 1e-1}
"""Largest relative difference from the definition that counts as the same number."""


def small_problem(point: Point) -> Problem:
    """A problem of the same kind that the definition can solve.

    Args:
        point: gives dtype, device and whether there are hidden layers.

    Returns:
        The problem, of random features.
    """
    generator = torch.Generator().manual_seed(0)
    pool = Pool(*torch.rand(2, 64, 7, dtype=torch.float64, generator=generator))
    hidden = (4, 3) if point.hidden else ()
    small = replace(point, structures=6, atoms=5, features=7, hidden=hidden, test_atoms=5)
    return make_problem(small, pool)


def definition(problem: Problem) -> Tensor:
    """1/(g^T (R^T R + mu)^-1 g) written out in float64: a backward pass and a solve for each.

    Args:
        problem: a small one.

    Returns:
        Rigidities of the test atoms, shape (atoms,), float64.
    """
    network = copy.deepcopy(problem.network).to(torch.float64)
    weights = list(network.parameters())

    def gradient(x: Tensor) -> Tensor:
        parts = torch.autograd.grad(network(x.to(torch.float64)).mean(), weights)
        return torch.cat([part.reshape(-1) for part in parts])

    rows = torch.stack([gradient(cell) for cell in problem.cells])
    unit = torch.eye(rows.shape[1], dtype=torch.float64, device=rows.device)
    hessian = rows.mT @ rows + problem.mu * unit
    vectors = [gradient(atom) for atom in problem.test.features]
    return torch.stack([1 / (g @ torch.linalg.solve(hessian, g)) for g in vectors])


def difference(values: Tensor, reference: Tensor) -> float:
    """Largest relative difference, infinite where a value is not finite.

    Args:
        values: shape (atoms,).
        reference: shape (atoms,) or longer, of the same first atoms.

    Returns:
        max |values/reference - 1|.
    """
    right = reference[: len(values)].to(torch.float64)
    largest = float((values.detach().to(right) / right - 1).abs().max())
    return largest if largest == largest else float("inf")


def check(method: Method, point: Point) -> float:
    """Largest relative error of a method on a small problem of the same kind.

    Args:
        method: the method.
        point: gives dtype, device and whether there are hidden layers.

    Returns:
        The error.

    Raises:
        Unavailable: if the method does not apply, is not installed, fails, or is wrong.
    """
    if method.linear_only and point.hidden:
        raise Unavailable("knows linear models alone")
    problem = small_problem(point)
    try:
        with silence():
            values = method.evaluate(method.build(problem), problem.test)
    except Unavailable:
        raise
    except Exception as error:  # whatever a package raises, the others go on
        text = " ".join(str(error).split())[:160]
        raise Unavailable(f"fails: {type(error).__name__}: {text}") from error
    largest = difference(values, definition(problem))
    if not largest <= TOLERANCE[point.dtype]:
        raise Unavailable(
            f"differs from the definition by {largest:.1e} on a small problem "
            f"({TOLERANCE[point.dtype]:.0e} allowed)"
        )
    return largest
