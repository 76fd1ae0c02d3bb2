"""Cutting work into parts, one for each process."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["even_shares", "shares"]


def shares(weights: Sequence[int] | Tensor, size: int) -> list[slice]:
    """Cut consecutive items into parts of about equal weight; parts may be empty.

    Args:
        weights: weight of each item, such as the atoms of each structure.
        size: number of parts.

    Returns:
        One slice of items for each part, in order.
    """
    before = torch.as_tensor(weights, dtype=torch.float64).cpu().cumsum(0)
    total = float(before[-1]) if len(before) else 0.0
    ends = torch.arange(1, size, dtype=torch.float64) * total / size
    # an item belongs to the part in which its middle lies
    middle = before - torch.as_tensor(weights, dtype=torch.float64).cpu() / 2
    cuts = [0, *torch.searchsorted(middle, ends).tolist(), len(before)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def even_shares(count: int, size: int) -> list[slice]:
    """Cut consecutive items of equal weight into parts, which may be empty."""
    return [slice(count * k // size, count * (k + 1) // size) for k in range(size)]
