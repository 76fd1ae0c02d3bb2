"""Gradients of a multilayer perceptron in closed form: activations times backpropagated signals.

The gradient of an atomic energy with respect to a layer's weights is the outer product
delta (x) a of the signal delta at the layer's output and the activation a at its input. Sums
over the atoms of a structure are then one small matrix product a layer, and no gradient of a
single atom is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchlpr.models import BehlerParrinelloMLP
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.species import atoms_of_each_type

__all__ = ["layered_gradients", "layered_sums"]


class LayerSignals(NamedTuple):
    """One layer of one species' network.

    Attributes:
        atoms: indices of the species' atoms, shape (n,).
        start: position of the layer's first weight in the parameter vector.
        signal: d(energy)/d(output of the layer), shape (n, out).
        activation: input of the layer, shape (n, in).
        bias: whether the layer has a bias, which follows its weights.
    """

    atoms: Tensor
    start: int
    signal: Tensor
    activation: Tensor
    bias: bool


def layered_gradients(model: BehlerParrinelloMLP, features: Tensor, types: Tensor) -> Tensor:
    """Gradient of every atomic energy with respect to the weights.

    Args:
        model: the network.
        features: shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).

    Returns:
        Shape (atoms, parameters), float64.
    """
    out = features.new_zeros(len(features), sum(p.numel() for p in model.parameters()))
    for layer in _signals(model, features, types):
        outer = layer.signal.unsqueeze(2) * layer.activation.unsqueeze(1)  # [k, out, in]
        width = layer.signal.shape[1] * layer.activation.shape[1]
        everyone = len(layer.atoms) == len(out)
        rows: Tensor | slice = slice(None) if everyone else layer.atoms
        out[rows, layer.start : layer.start + width] = outer.flatten(1)
        if layer.bias:
            end = layer.start + width
            out[rows, end : end + layer.signal.shape[1]] = layer.signal
    return out


def layered_sums(model: BehlerParrinelloMLP, batch: AtomBatch) -> Tensor:
    """Sums of the atomic gradients over each structure.

    Args:
        model: the network.
        batch: the atoms.

    Returns:
        Shape (structures, parameters), float64.
    """
    features = batch.features.to(torch.float64)
    n_parameters = sum(p.numel() for p in model.parameters())
    rows = features.new_zeros(batch.n_structures, n_parameters)
    for layer in _signals(model, features, batch.types):
        structure = batch.structure[layer.atoms]
        order = torch.argsort(structure, stable=True)
        sizes = torch.bincount(structure, minlength=len(rows)).tolist()
        in_order = bool((order[1:] > order[:-1]).all())  # spare a copy of all features
        signal = (layer.signal if in_order else layer.signal[order]).split(sizes)
        activation = (layer.activation if in_order else layer.activation[order]).split(sizes)
        shape = layer.signal.shape[1], layer.activation.shape[1]
        end = layer.start + shape[0] * shape[1]
        for row, delta, a in zip(rows, signal, activation, strict=True):
            torch.mm(delta.mT, a, out=row[layer.start : end].view(shape))
            if layer.bias:
                row[end : end + shape[0]] = delta.sum(0)
    return rows


@torch.no_grad()
def _signals(model: BehlerParrinelloMLP, features: Tensor, types: Tensor) -> Iterator[LayerSignals]:
    """Signals of every layer of every species, in float64."""
    start = 0
    for network, atoms in zip(model.networks, atoms_of_each_type(types, model.types), strict=True):
        assert isinstance(network, nn.Sequential)
        x = features if len(atoms) == len(features) else features[atoms]
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        starts = []
        for layer in linear:
            starts.append(start)
            start += sum(p.numel() for p in layer.parameters())
        for layer, at, signal, activation in zip(
            linear, starts, *_backpropagate(network, x), strict=True
        ):
            yield LayerSignals(atoms, at, signal, activation, layer.bias is not None)


def _backpropagate(network: nn.Sequential, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Signals and input activations of the linear layers, first layer first."""
    activations, slopes, weights = [x], list[Tensor](), list[Tensor]()
    for layer in network:
        if isinstance(layer, nn.Linear):
            weights.append(layer.weight.to(torch.float64))
            bias = None if layer.bias is None else layer.bias.to(torch.float64)
            x = nn.functional.linear(x, weights[-1], bias)
        else:
            with torch.enable_grad():
                z = x.detach().requires_grad_(True)
                value = layer(z)
                slopes.append(torch.autograd.grad(value.sum(), z)[0])
            x = value.detach()
            activations.append(x)
    signals = [x.new_ones(len(x), 1)]
    for weight, slope in zip(reversed(weights[1:]), reversed(slopes), strict=True):
        signals.append(signals[-1] @ weight * slope)
    return signals[::-1], activations
