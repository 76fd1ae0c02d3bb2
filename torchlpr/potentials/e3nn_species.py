"""Weights of one element in networks of e3nn that are told elements by one-hot vectors.

Three kinds of layers have weights for each element: a linear embedding of the one-hot vector, a
tensor product with it, and MACE's symmetric contractions, whose first dimension it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from torchlpr.errors import InputError

__all__ = ["element_spans"]

EMBEDDINGS = ("node_embedding", "onehot_to")  # of MACE and SevenNet
CONTRACTION = "symmetric_contractions"


def element_spans(
    model: nn.Module, z: int, types: Sequence[int], spans: Mapping[str, tuple[int, int]]
) -> list[tuple[int, int]]:
    """Spans of the weights that act on one element alone.

    Args:
        model: the network.
        z: atomic number.
        types: atomic numbers in the order of the one-hot vector.
        spans: span of every named parameter in the vector of all weights.

    Returns:
        The spans.

    Raises:
        InputError: if the element is unknown.
    """
    if z not in types:
        raise InputError(f"the model has no weights for species {z}, only for {sorted(types)}")
    index, n, found = list(types).index(z), len(types), []
    for name, module in model.named_modules():
        weight = f"{name}.weight"
        if weight not in spans:
            continue
        start = spans[weight][0]
        if _one_hot(getattr(module, "irreps_in", None), n) and any(e in name for e in EMBEDDINGS):
            width = (spans[weight][1] - start) // n
            found.append((start + index * width, start + (index + 1) * width))
        elif _one_hot(getattr(module, "irreps_in2", None), n):
            found += _of_product(module, start, index)
    for name, (start, stop) in spans.items():
        if CONTRACTION in name and stop > start:
            width = (stop - start) // n
            found.append((start + index * width, start + (index + 1) * width))
    return [span for span in found if span[1] > span[0]]


def _one_hot(irreps: Any, n: int) -> bool:
    return irreps is not None and str(irreps) == f"{n}x0e"


def _of_product(product: Any, start: int, index: int) -> list[tuple[int, int]]:
    """Paths have weights of shape (first, elements, out)."""
    found = []
    for instruction in product.instructions:
        if not instruction.has_weight:
            continue
        first, n, out = instruction.path_shape
        for i in range(first):
            here = start + (i * n + index) * out
            found.append((here, here + out))
        start += first * n * out
    return found
