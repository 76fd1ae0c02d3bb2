"""Gradients of a multilayer perceptron in closed form: activations times backpropagated signals.

The gradient of an atomic energy with respect to a layer's weights is the outer product
delta (x) a of the signal delta at the layer's output and the activation a at its input. Sums
over the atoms of a structure are then one small matrix product a layer, and no gradient of a
single atom is ever stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchlpr.curvature.passes import NetworkPass
from torchlpr.curvature.subsets import Subset
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.species import atoms_of_each_type

__all__ = ["LayerSignals", "layer_signals", "layered_gradients", "layered_sums", "write_gradients"]


class LayerSignals(NamedTuple):
    """One layer of one species' network.

    Attributes:
        atoms: indices of the species' atoms, shape (n,).
        signal: d(energy)/d(output of the layer), shape (n, out).
        activation: input of the layer, shape (n, in).
        weight: where the layer's weights lie in the parameter vector, None if not chosen.
        bias: where its biases lie, None without biases or if not chosen.
    """

    atoms: Tensor
    signal: Tensor
    activation: Tensor
    weight: slice | None
    bias: slice | None


def layered_gradients(
    model: BehlerParrinelloMLP,
    features: Tensor,
    types: Tensor,
    subset: Subset | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Gradient of every atomic energy with respect to the weights.

    Args:
        model: the network.
        features: shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).
        subset: the weights to differentiate by, None for all.
        out: where to write, shape (atoms, parameters), float64; None for a new tensor.

    Returns:
        Shape (atoms, parameters), float64.
    """
    if out is None:
        out = features.new_empty(len(features), _count(model, subset))
    if len(model.types) > 1:  # else every entry is written
        out.zero_()
    write_gradients(layer_signals(model, features, types, subset), out)
    return out


def write_gradients(layers: Iterable[LayerSignals], out: Tensor) -> None:
    """Outer products of signals and activations, each in its place.

    Args:
        layers: signals of all layers.
        out: gradients, shape (atoms, parameters); weights of other species are not touched.
    """
    for layer in layers:
        signal, activation = layer.signal.unsqueeze(2), layer.activation.unsqueeze(1)
        if layer.weight is not None and len(layer.atoms) == len(out):
            block = out[:, layer.weight].unflatten(1, (signal.shape[1], activation.shape[2]))
            torch.mul(signal, activation, out=block)
        elif layer.weight is not None:
            out[layer.atoms, layer.weight] = (signal * activation).flatten(1)
        if layer.bias is not None:
            out[layer.atoms, layer.bias] = layer.signal


def layered_sums(
    model: BehlerParrinelloMLP,
    batch: AtomBatch,
    subset: Subset | None = None,
    passes: Sequence[NetworkPass] | None = None,
) -> Tensor:
    """Sums of the atomic gradients over each structure.

    Args:
        model: the network.
        batch: the atoms.
        subset: the weights to differentiate by, None for all.
        passes: see :func:`layer_signals`.

    Returns:
        Shape (structures, parameters), float64.
    """
    features = batch.features.to(torch.float64)
    rows = features.new_zeros(batch.n_structures, _count(model, subset))
    atoms = None
    for layer in layer_signals(model, features, batch.types, subset, passes):
        if layer.atoms is not atoms:  # the first layer of a species
            atoms = layer.atoms
            structure = batch.structure[atoms]
            sizes = torch.bincount(structure, minlength=len(rows)).tolist()
            in_order = bool((structure[1:] >= structure[:-1]).all())  # spare a copy of features
            order = slice(None) if in_order else torch.argsort(structure, stable=True)
        _outer_sums(layer.signal[order], layer.activation[order], sizes, rows, layer)
    return rows


def _outer_sums(
    signal: Tensor, activation: Tensor, sizes: list[int], rows: Tensor, layer: LayerSignals
) -> None:
    """Products of signals and activations summed over each structure, into the rows."""
    shape = signal.shape[1], activation.shape[1]
    if len(set(sizes)) == 1:  # one product for all structures
        signal, activation = (x.unflatten(0, (len(sizes), -1)) for x in (signal, activation))
        if layer.weight is not None:
            torch.bmm(signal.mT, activation, out=rows[:, layer.weight].unflatten(1, shape))
        if layer.bias is not None:
            rows[:, layer.bias] = signal.sum(1)
        return
    for row, delta, a in zip(rows, signal.split(sizes), activation.split(sizes), strict=True):
        if layer.weight is not None:
            torch.mm(delta.mT, a, out=row[layer.weight].view(shape))
        if layer.bias is not None:
            row[layer.bias] = delta.sum(0)


def _count(model: BehlerParrinelloMLP, subset: Subset | None) -> int:
    return sum(p.numel() for p in model.parameters()) if subset is None else len(subset)


@torch.no_grad()
def layer_signals(
    model: BehlerParrinelloMLP,
    features: Tensor,
    types: Tensor,
    subset: Subset | None = None,
    passes: Sequence[NetworkPass] | None = None,
) -> Iterator[LayerSignals]:
    """Signals of every layer of every species of which some weight is chosen, in float64.

    Args:
        model: the network.
        features: shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).
        subset: the chosen weights, whole parameters; None for all.
        passes: of each species' network through its atoms, where they have been made.

    Yields:
        The signals of one layer.
    """
    start = 0
    groups = atoms_of_each_type(types, model.types)
    for number, (network, atoms) in enumerate(zip(model.networks, groups, strict=True)):
        assert isinstance(network, nn.Sequential)
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        places = []
        for layer in linear:
            middle = start + layer.weight.numel()
            end = middle if layer.bias is None else middle + layer.bias.numel()
            places.append((_place(subset, start, middle), _place(subset, middle, end)))
            start = end
        if all(place == (None, None) for place in places):
            continue
        if passes is None:
            one = NetworkPass(network, features if len(atoms) == len(features) else features[atoms])
        else:
            one = passes[number]
        for place, signal, activation in zip(places, one.backward[0], one.inputs, strict=True):
            if place != (None, None):
                yield LayerSignals(atoms, signal, activation, *place)


def _place(subset: Subset | None, start: int, stop: int) -> slice | None:
    if start == stop:
        return None
    return slice(start, stop) if subset is None else subset.position(start, stop)
