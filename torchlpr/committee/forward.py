"""One forward pass of all members over all atoms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from torchlpr.models import BehlerParrinelloMLP
from torchlpr.structures.species import atoms_of_each_type, in_atom_order

__all__ = ["distinct_columns", "member_energies", "network_energies", "vmap_energies"]

PROBE_ATOMS = 64


def member_energies(model: nn.Module, weights: Tensor, features: Tensor, types: Tensor) -> Tensor:
    """Atomic energies of all members; differentiable in the weights.

    Args:
        model: float64 module that all members share; its own weights play no part.
        weights: flat weights of each member in the order of ``model.parameters()``, shape
            (members, parameters).
        features: shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).

    Returns:
        Energies in eV, shape (members, atoms).
    """
    if isinstance(model, BehlerParrinelloMLP):
        return network_energies(model, weights, features, types)
    return vmap_energies(model, weights, features, types)


def vmap_energies(model: nn.Module, weights: Tensor, features: Tensor, types: Tensor) -> Tensor:
    """The same for any module, by ``vmap`` over its stacked parameters.

    Args:
        model: as above.
        weights: as above.
        features: as above.
        types: as above.

    Returns:
        Energies in eV, shape (members, atoms).
    """
    names = {name: p.shape for name, p in model.named_parameters()}
    sizes = [shape.numel() for shape in names.values()]

    def energies(flat: Tensor) -> Tensor:
        parts = flat.split(sizes)
        named = {n: part.view(names[n]) for n, part in zip(names, parts, strict=True)}
        local: Tensor = functional_call(model, named, (features, types))
        return local

    return vmap(energies)(weights)


def distinct_columns(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features without repeated columns: a power spectrum has p(n1, n2) = p(n2, n1).

    Args:
        features: shape (atoms, features).

    Returns:
        The distinct columns, shape (atoms, distinct), and for each feature its column among
        them, shape (features,).
    """
    # a few atoms tell different columns apart, and the others say whether those left are equal
    groups, column = torch.unique(features[:PROBE_ATOMS], dim=1, return_inverse=True)
    one_of_each = column.new_zeros(groups.shape[1])
    one_of_each[column] = torch.arange(len(column), device=column.device)
    distinct = features[:, one_of_each]
    if bool((distinct[:, column] == features).all()):
        return distinct, column
    distinct, column = torch.unique(features, dim=1, return_inverse=True)
    return distinct, column


def network_energies(
    model: BehlerParrinelloMLP,
    weights: Tensor,
    features: Tensor,
    types: Tensor,
    column: Tensor | None = None,
) -> Tensor:
    """Networks side by side: the features are read once, by one wide product for all members.

    Args:
        model: the network, float64; its own weights play no part.
        weights: shape (members, parameters).
        features: shape (atoms, features), or the distinct columns.
        types: atomic numbers, shape (atoms,).
        column: as :func:`distinct_columns` gave it; weights of equal columns are then added
            before they are multiplied.

    Returns:
        Energies in eV, shape (members, atoms).
    """
    groups = atoms_of_each_type(types, model.types)
    parts, start = [], 0
    for network, atoms in zip(model.networks, groups, strict=True):
        assert isinstance(network, nn.Sequential)
        x = (features if len(atoms) == len(features) else features[atoms]).mT  # [in, atoms]
        for layer in network:
            if not isinstance(layer, nn.Linear):
                x = layer(x)
                continue
            shape = layer.out_features, layer.in_features
            end = start + shape[0] * shape[1]
            w = weights[:, start:end].reshape(len(weights), *shape)  # [b, out, in]
            if x.ndim == 2:
                w = w if column is None else _add_columns(w, column, len(x))
                x = (w.flatten(0, 1) @ x).view(len(weights), shape[0], -1)
            else:
                x = torch.bmm(w, x)
            if model.bias:
                x = x + weights[:, end : end + shape[0]].unsqueeze(2)
            start = end + model.bias * shape[0]
        parts.append(x.squeeze(1).mT)  # [atoms, b]
    return in_atom_order(parts, groups).mT


def _add_columns(w: Tensor, column: Tensor, distinct: int) -> Tensor:
    return w.new_zeros(*w.shape[:2], distinct).index_add(2, column, w)
