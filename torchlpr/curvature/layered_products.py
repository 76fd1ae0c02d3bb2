"""Products with the gradients of a multilayer perceptron, for many vectors at once.

An atom's gradient is delta (x) a in every layer (see :mod:`torchlpr.curvature.layered`), and is
never formed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.layered import layer_signals
from torchlpr.curvature.subsets import Subset
from torchlpr.models import BehlerParrinelloMLP

__all__ = ["layered_adjoint", "layered_forward"]


def layered_forward(
    model: BehlerParrinelloMLP, vectors: Tensor, x: Tensor, types: Tensor, subset: Subset | None
) -> Tensor:
    """Derivatives of the atomic energies along vectors: delta^T V a, summed over layers.

    Args:
        model: the network.
        vectors: directions in weight space, shape (K, P), float64.
        x: features, shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).
        subset: the weights to differentiate by, None for all.

    Returns:
        Shape (K, atoms).
    """
    out = vectors.new_zeros(len(vectors), len(x))
    for layer in layer_signals(model, x, types, subset):
        n, width = layer.signal.shape
        part = vectors.new_zeros(n, len(vectors))
        if layer.weight is not None:
            v = vectors[:, layer.weight].reshape(-1, layer.activation.shape[1])  # [k o, in]
            response = (layer.activation @ v.mT).view(n, len(vectors), width)
            part += torch.einsum("nko,no->nk", response, layer.signal)
        if layer.bias is not None:
            part += layer.signal @ vectors[:, layer.bias].mT
        out.index_add_(1, layer.atoms, part.mT)
    return out


def layered_adjoint(
    model: BehlerParrinelloMLP,
    weights: Tensor,
    x: Tensor,
    types: Tensor,
    subset: Subset | None,
    out: Tensor,
) -> None:
    """Add the gradients of weighted sums of atomic energies: sum_k c_k delta_k (x) a_k.

    Args:
        model: the network.
        weights: c, shape (K, atoms), float64.
        x: features, shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).
        subset: the weights to differentiate by, None for all.
        out: the sums, shape (K, P), added to in place.
    """
    for layer in layer_signals(model, x, types, subset):
        c = weights[:, layer.atoms]  # [k, n]
        if layer.weight is not None:
            signal = c.mT.unsqueeze(2) * layer.signal.unsqueeze(1)  # [n, k, out]
            sums = signal.flatten(1).mT @ layer.activation  # [k out, in]
            size = layer.signal.shape[1] * layer.activation.shape[1]
            out[:, layer.weight] += sums.view(len(weights), size)
        if layer.bias is not None:
            out[:, layer.bias] += c @ layer.signal
