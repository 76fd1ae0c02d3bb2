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
    out: Tensor = _Product.apply(sensitivity, derivatives, True)  # type: ignore[no-untyped-call]
    return out


def push_forward(derivatives: Derivatives, moves: Tensor) -> Tensor:
    r"""Changes of the features where atoms are moved, :math:`\sum_i u_i \cdot dx_k/dr_i`.

    Args:
        derivatives: of the features.
        moves: u in Å, shape (atoms, 3).

    Returns:
        Shape (atoms, features), differentiable in the moves.
    """
    out: Tensor = _Product.apply(moves, derivatives, False)  # type: ignore[no-untyped-call]
    return out


class _Product(torch.autograd.Function):
    """One of the two sums; the other one is its transpose."""

    @staticmethod
    def forward(values: Tensor, derivatives: Derivatives, back: bool) -> Tensor:
        source, target = derivatives.centre, derivatives.moved
        if not back:
            source, target = target, source
        out = values.new_zeros(len(values), 3 if back else derivatives.values.shape[2])
        for part in _chunks(derivatives):
            chosen, blocks = values[source[part]], derivatives.values[part]
            if back:
                sums = torch.bmm(blocks, chosen.unsqueeze(2)).squeeze(2)
            else:
                sums = torch.bmm(chosen.unsqueeze(1), blocks).squeeze(1)
            out.index_add_(0, target[part], sums)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Derivatives, bool], output: Tensor) -> None:
        _, ctx.derivatives, ctx.back = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        transpose = push_forward if ctx.back else pull_back
        return transpose(ctx.derivatives, grad), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return (pull_back if ctx.back else push_forward)(ctx.derivatives, tangent)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int, None, None],
        values: Tensor,
        derivatives: Derivatives,
        back: bool,
    ) -> tuple[Tensor, int]:
        product = pull_back if back else push_forward
        each = values.movedim(in_dims[0], 0)
        return torch.stack([product(derivatives, one) for one in each]), 0


def _chunks(derivatives: Derivatives) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, derivatives.values.shape[2]))
    for start in range(0, len(derivatives), step):
        yield slice(start, start + step)
