"""Behler-Parrinello multilayer perceptron: one small network a species, energies add up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.models.activations import ACTIVATIONS
from torchlpr.models.affine import Linear
from torchlpr.structures.species import atoms_of_each_type, in_atom_order, normalise_types

__all__ = ["BehlerParrinelloMLP"]


class BehlerParrinelloMLP(nn.Module):
    r"""Atomic energies from one feed-forward network for each species.

    .. math:: \tilde y_k = W_3 \sigma(W_2 \sigma(W_1 x_k)), \qquad E = \sum_k \tilde y_k

    Source: Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007); without biases as in
    Chong et al., J. Chem. Theory Comput. 19, 8020 (2023). 576-16-16-1 has 9488 parameters.

    Args:
        n_features: length of an atom's feature vector.
        types: atomic numbers or symbols of the species.
        hidden: widths of the hidden layers; empty makes a linear model.
        activation: sigmoid, tanh, silu, softplus or linear.
        bias: whether layers have biases.
        seed: seed of the initial weights (PyTorch's default initialisation), None leaves
            the global generator in charge.
        dtype: floating-point type of the weights.

    Raises:
        InputError: if the activation is unknown or a width is not positive.
    """

    def __init__(
        self,
        n_features: int,
        types: Iterable[int | str],
        hidden: Sequence[int] = (16, 16),
        activation: str = "sigmoid",
        bias: bool = False,
        seed: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise InputError(f"activation {activation!r} is unknown; use one of {[*ACTIVATIONS]}")
        widths = [n_features, *hidden, 1]
        if min(widths) < 1:
            raise InputError(f"layer widths must be positive, not {widths}")
        self.n_features, self.types = n_features, normalise_types(types)
        self.hidden, self.activation, self.bias = tuple(hidden), activation, bias
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.networks = nn.ModuleList(
                _network(widths, ACTIVATIONS[activation], bias, dtype) for _ in self.types
            )

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Atomic energies.

        Args:
            features: shape (atoms, features).
            types: atomic numbers, shape (atoms,).

        Returns:
            Atomic energies in eV, shape (atoms,).
        """
        groups = atoms_of_each_type(types, self.types)
        if len(self.types) == 1:
            energies: Tensor = self.networks[0](features)  # no gather: features stay in place
            return energies.squeeze(-1)
        parts = [
            net(features[group]).squeeze(-1)
            for net, group in zip(self.networks, groups, strict=True)
        ]
        return in_atom_order(parts, groups)

    def settings(self) -> dict[str, object]:
        """Plain constructor arguments, as checkpoints store them."""
        return {
            "n_features": self.n_features,
            "types": list(self.types),
            "hidden": list(self.hidden),
            "activation": self.activation,
            "bias": self.bias,
        }


def _network(
    widths: Sequence[int], activation: Callable[[], nn.Module], bias: bool, dtype: torch.dtype
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [Linear(fan_in, fan_out, bias=bias, dtype=dtype), activation()]
    return nn.Sequential(*layers[:-1])
