r"""Mixed derivatives of a multilayer perceptron by weights and features, in closed form.

A tangent t of the features gives every layer a tangent of its input activation a and of its
backpropagated signal delta; the derivative along t of the gradient delta (x) a is

.. math:: \dot\delta \otimes a + \delta \otimes \dot a

and its sum over the environments that a moved atom takes part in is two small matrix products a
layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torchlpr.curvature.pairs import Pairs
from torchlpr.curvature.subsets import Subset
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.models.activations import curve
from torchlpr.models.affine import affine
from torchlpr.structures.species import atoms_of_each_type

__all__ = ["layered_force_sums"]


@torch.no_grad()
def layered_force_sums(
    model: BehlerParrinelloMLP, pairs: Pairs, subset: Subset | None = None
) -> Tensor:
    """Derivatives by the weights of dE/dr of each moved atom.

    Args:
        model: the network.
        pairs: the moved atoms and their environments.
        subset: the weights to differentiate by, None for all.

    Returns:
        Shape (moved atoms, 3, parameters), float64.
    """
    total = sum(p.numel() for p in model.parameters()) if subset is None else len(subset)
    out = pairs.values.new_zeros(pairs.n_moved, 3, total)
    atoms_of_each_type(pairs.types, model.types)  # refuses foreign species
    start = 0
    for z, network in zip(model.types, model.networks, strict=True):
        assert isinstance(network, nn.Sequential)
        stop = start + sum(p.numel() for p in network.parameters())
        mine = pairs.of_type(z)
        if len(mine.centre):
            _add_network(network, mine, _places(network, start, subset), out)
        start = stop
    return out


def _places(
    network: nn.Sequential, start: int, subset: Subset | None
) -> Iterator[tuple[slice | None, slice | None]]:
    """Where weights and biases of each linear layer lie among the chosen ones."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            middle = start + layer.weight.numel()
            end = middle if layer.bias is None else middle + layer.bias.numel()
            yield _place(subset, start, middle), _place(subset, middle, end)
            start = end


def _place(subset: Subset | None, start: int, stop: int) -> slice | None:
    if start == stop:
        return None
    return slice(start, stop) if subset is None else subset.position(start, stop)


def _add_network(
    network: nn.Sequential,
    pairs: Pairs,
    places: Iterator[tuple[slice | None, slice | None]],
    out: Tensor,
) -> None:
    """Add one species' share of the sums, layer by layer."""
    sizes = pairs.counts.tolist()
    for (weight, bias), layer in zip(places, _tangents(network, pairs), strict=True):
        a, a_dot, delta, delta_dot = layer  # [env, in], [pair, 3, in], [env, out], [pair, 3, out]
        if bias is not None and delta_dot is not None:
            out[:, :, bias] += pairs.sum(delta_dot)
        if weight is None:
            continue
        shape, start = (3, delta.shape[1], a.shape[1]), 0
        for row, size in zip(out, sizes, strict=True):
            part = slice(start, start + size)
            start += size
            block = row[:, weight].view(shape)
            env = pairs.centre[part]
            block += (delta[env].mT @ a_dot[part].flatten(1)).view(shape[1], 3, -1).transpose(0, 1)
            if delta_dot is not None:
                block += (delta_dot[part].flatten(1).mT @ a[env]).view(shape)


def _tangents(
    network: nn.Sequential, pairs: Pairs
) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Input activations and signals of each linear layer, and their tangents.

    Returns:
        For each layer a and its tangent, delta and its tangent (None in the last layer, whose
        signal is constant).
    """
    weights, inputs, bends = list[Tensor](), [(pairs.features, pairs.values)], []
    for layer in network:
        a, a_dot = inputs[-1]
        if isinstance(layer, nn.Linear):
            weights.append(layer.weight.to(torch.float64))
            bias = None if layer.bias is None else layer.bias.to(torch.float64)
            z, z_dot = affine(a, weights[-1], bias), affine(a_dot, weights[-1])
            continue
        value, slope, bend = curve(layer, z)
        bends.append((slope, bend[pairs.centre].unsqueeze(1) * z_dot))
        inputs.append((value, slope[pairs.centre].unsqueeze(1) * z_dot))
    delta, delta_dot = pairs.features.new_ones(len(pairs.features), 1), None
    signals: list[tuple[Tensor, Tensor | None]] = [(delta, delta_dot)]
    for weight, (slope, slope_dot) in zip(reversed(weights[1:]), reversed(bends), strict=True):
        before = delta @ weight
        through = before[pairs.centre].unsqueeze(1) * slope_dot
        if delta_dot is not None:
            through += (delta_dot @ weight) * slope[pairs.centre].unsqueeze(1)
        delta, delta_dot = before * slope, through
        signals.append((delta, delta_dot))
    return [(*a, *d) for a, d in zip(inputs, reversed(signals), strict=True)]
