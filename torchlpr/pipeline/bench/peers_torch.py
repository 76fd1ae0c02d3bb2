"""What people write with torch alone: loops over atoms, and ``torch.func``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from torchlpr.pipeline.bench.methods import Method, parameter_space, row_space, silence
from torchlpr.pipeline.bench.problem import Problem
from torchlpr.structures.batch import AtomBatch

__all__ = [
    "CHUNK_BYTES",
    "TORCH_PEERS",
    "Cholesky",
    "RowSystem",
    "cholesky_of_rows",
    "per_atom",
    "row_system",
]

CHUNK_BYTES = 30 * 2**20  # as torchlpr takes where it asks for new memory


class Inverse(NamedTuple):
    """A network and the inverse of its Hessian, shape (P, P)."""

    network: nn.Sequential
    inverse: Tensor


class Cholesky(NamedTuple):
    """A network and the lower triangle of its Hessian, shape (P, P)."""

    network: nn.Module
    lower: Tensor

    def rigidities(self, gradients: Tensor) -> Tensor:
        """1/|L^-1 g|^2 of gradients of shape (K, P)."""
        half = torch.linalg.solve_triangular(self.lower, gradients.mT, upper=False)
        return 1 / half.square().sum(0)


class RowSystem(NamedTuple):
    """A network, its rows (M, P), and the lower triangle of R R^T + mu (M, M)."""

    network: nn.Module
    rows: Tensor
    lower: Tensor
    mu: float

    def rigidities(self, gradients: Tensor) -> Tensor:
        """Of gradients of shape (K, P), by the residual form, which is the accurate one."""
        alpha = torch.cholesky_solve(self.rows @ gradients.mT, self.lower)
        rest = gradients - alpha.mT @ self.rows
        return 1 / (rest.square().sum(1) / self.mu + alpha.square().sum(0))


def cholesky_of_rows(network: nn.Module, rows: Tensor, mu: float) -> Cholesky:
    """Dense H = R^T R + mu and its Cholesky factor.

    Args:
        network: kept with it.
        rows: shape (M, P).
        mu: strength of the L2 term.

    Returns:
        The factor.
    """
    hessian = rows.mT @ rows
    hessian.diagonal().add_(mu)
    return Cholesky(network, torch.linalg.cholesky(hessian))


def row_system(network: nn.Module, rows: Tensor, mu: float) -> RowSystem:
    """R R^T + mu and its Cholesky factor.

    Args:
        network: kept with it.
        rows: shape (M, P).
        mu: strength of the L2 term.

    Returns:
        The factor.
    """
    gram = rows @ rows.mT
    gram.diagonal().add_(mu)
    return RowSystem(network, rows, torch.linalg.cholesky(gram), mu)


def per_atom(n_parameters: int, batch: AtomBatch) -> tuple[Tensor, ...]:
    """Features in chunks whose gradients fit into :data:`CHUNK_BYTES`.

    Args:
        n_parameters: number P of weights.
        batch: the atoms.

    Returns:
        Chunks of shape (atoms, features).
    """
    size = CHUNK_BYTES // (batch.features.element_size() * n_parameters)
    return batch.features.split(max(1, size))


def _gradient(network: nn.Module, value: Tensor) -> Tensor:
    parts = torch.autograd.grad(value, list(network.parameters()))
    return torch.cat([part.reshape(-1) for part in parts])


def _loop_build(problem: Problem) -> Inverse:
    network = problem.network
    rows = torch.stack([_gradient(network, network(cell).mean()) for cell in problem.cells])
    hessian = rows.mT @ rows
    hessian.diagonal().add_(problem.mu)
    return Inverse(network, torch.linalg.inv(hessian))


def _loop_evaluate(state: Inverse, batch: AtomBatch) -> Tensor:
    out = []
    for atom in batch.features:
        g = _gradient(state.network, state.network(atom).squeeze(0))
        out.append(1 / (g @ state.inverse @ g))
    return torch.stack(out)


def _jacobian(network: nn.Module, x: Tensor) -> Tensor:
    """Gradients of the mean energy of every entry of x, shape (len(x), P)."""
    weights = {name: value.detach() for name, value in network.named_parameters()}

    def energy(w: dict[str, Tensor], one: Tensor) -> Tensor:
        local: Tensor = functional_call(network, w, (one,))
        return local.mean()

    with silence():
        blocks = vmap(jacrev(energy), in_dims=(None, 0))(weights, x)
    return torch.cat([blocks[name].flatten(1) for name in weights], dim=1)


def _func_build_parameter(problem: Problem) -> Cholesky:
    rows = _jacobian(problem.network, problem.cells)
    return cholesky_of_rows(problem.network, rows, problem.mu)


def _func_build_row(problem: Problem) -> RowSystem:
    return row_system(problem.network, _jacobian(problem.network, problem.cells), problem.mu)


def _func_evaluate(state: Cholesky | RowSystem, batch: AtomBatch) -> Tensor:
    chunks = per_atom(sum(p.numel() for p in state.network.parameters()), batch)
    return torch.cat([state.rigidities(_jacobian(state.network, x)) for x in chunks])


TORCH_PEERS = (
    Method("torch.func row", _func_build_row, _func_evaluate, row_space),
    Method("torch.func parameter", _func_build_parameter, _func_evaluate, parameter_space),
    Method("autograd loops", _loop_build, _loop_evaluate, parameter_space, sample=64),
)
