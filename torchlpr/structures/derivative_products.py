"""Sums over the derivatives of descriptors, and how autograd goes through them.

The two sums are each other's transpose, so that they differentiate into each other as often as one
likes. Pairs are taken in chunks: no intermediate is as large as the derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from torchlpr.structures.derivatives import Derivatives

__all__ = ["pull_back", "push_forward"]

CHUNK = 2**20  # numbers in an intermediate


def pull_back(derivatives: Derivatives, sensitivity: Tensor) -> Tensor:
    r"""Derivatives by positions from those by features, :math:`\sum_k s_k \cdot dx_k/dr_i`.

    Args:
        derivatives: of the features.
        sensitivity: s = dE/dx in eV, shape (atoms, features).

    Returns:
        dE/dr in eV/Å, shape (atoms, 3), differentiable in the sensitivity.
    """
    out: Tensor = _PullBack.apply(  # type: ignore[no-untyped-call]
        sensitivity, derivatives
    )
    return out


def push_forward(derivatives: Derivatives, moves: Tensor) -> Tensor:
    r"""Changes of the features where atoms are moved, :math:`\sum_i u_i \cdot dx_k/dr_i`.

    Args:
        derivatives: of the features.
        moves: u in Å, shape (atoms, 3).

    Returns:
        Shape (atoms, features), differentiable in the moves.
    """
    out: Tensor = _PushForward.apply(moves, derivatives)  # type: ignore[no-untyped-call]
    return out


class _PullBack(torch.autograd.Function):
    @staticmethod
    def forward(sensitivity: Tensor, derivatives: Derivatives) -> Tensor:
        out = sensitivity.new_zeros(len(sensitivity), 3)
        for part in _chunks(derivatives):
            s = sensitivity[derivatives.centre[part]]
            blocks = torch.bmm(derivatives.values[part], s.unsqueeze(2)).squeeze(2)
            out.index_add_(0, derivatives.moved[part], blocks)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Derivatives], output: Tensor) -> None:
        ctx.derivatives = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return push_forward(ctx.derivatives, grad), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return pull_back(ctx.derivatives, tangent)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None], values: Tensor, derivatives: Derivatives
    ) -> tuple[Tensor, int]:
        each = values.movedim(in_dims[0], 0)
        return torch.stack([pull_back(derivatives, one) for one in each]), 0


class _PushForward(torch.autograd.Function):
    @staticmethod
    def forward(moves: Tensor, derivatives: Derivatives) -> Tensor:
        out = moves.new_zeros(len(moves), derivatives.values.shape[2])
        for part in _chunks(derivatives):
            u = moves[derivatives.moved[part]]
            changes = torch.bmm(u.unsqueeze(1), derivatives.values[part]).squeeze(1)
            out.index_add_(0, derivatives.centre[part], changes)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Derivatives], output: Tensor) -> None:
        ctx.derivatives = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return pull_back(ctx.derivatives, grad), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return push_forward(ctx.derivatives, tangent)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None], values: Tensor, derivatives: Derivatives
    ) -> tuple[Tensor, int]:
        each = values.movedim(in_dims[0], 0)
        return torch.stack([push_forward(derivatives, one) for one in each]), 0


def _chunks(derivatives: Derivatives) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, derivatives.values.shape[2]))
    for start in range(0, len(derivatives), step):
        yield slice(start, start + step)
