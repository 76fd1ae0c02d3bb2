"""Energies of all members for all atoms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from torchlpr.committee.networks import MemberNetworks
from torchlpr.models import BehlerParrinelloMLP

__all__ = ["member_energies", "vmap_energies"]


def member_energies(model: nn.Module, weights: Tensor, features: Tensor, types: Tensor) -> Tensor:
    """Atomic energies of all members; differentiable.

    Args:
        model: float64 module that all members share; its own weights play no part.
        weights: flat weights of each member in the order of ``model.parameters()``, shape
            (members, parameters).
        features: shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).

    Returns:
        Energies in eV, shape (members, atoms).
    """
    wanted = torch.is_grad_enabled() and (features.requires_grad or weights.requires_grad)
    if isinstance(model, BehlerParrinelloMLP) and not wanted:
        return MemberNetworks(model, weights, features, types).energies
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
