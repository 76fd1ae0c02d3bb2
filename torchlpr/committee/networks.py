"""Networks of all members side by side: the features are read once, by one wide product.

Forwards they give energies, backwards the gradient of each member's weighted sum of them, in
closed form: autograd would take a third of a small step for its own book-keeping.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchlpr.models import BehlerParrinelloMLP
from torchlpr.models.activations import overwrite, slope
from torchlpr.structures.species import atoms_of_each_type, in_atom_order

__all__ = ["MemberNetworks", "distinct_columns"]

PROBE_ATOMS = 64


class MemberNetworks:
    """All members' networks, gone through for the atoms of a batch.

    Args:
        model: the network, float64; its own weights play no part.
        weights: flat weights of each member, shape (members, parameters).
        features: shape (atoms, features), float64, or their distinct columns.
        types: atomic numbers, shape (atoms,).
        column: as :func:`distinct_columns` gave it; weights of equal columns are then added
            before they are multiplied.

    Attributes:
        energies: in eV, shape (members, atoms).
    """

    @torch.no_grad()
    def __init__(
        self,
        model: BehlerParrinelloMLP,
        weights: Tensor,
        features: Tensor,
        types: Tensor,
        column: Tensor | None = None,
    ) -> None:
        self._groups = atoms_of_each_type(types, model.types)
        self._passes, start = list[_Pass](), 0
        for network, atoms in zip(model.networks, self._groups, strict=True):
            x = features if len(atoms) == len(features) else features[atoms]
            end = start + sum(p.numel() for p in network.parameters())
            self._passes.append(_Pass(network, weights[:, start:end], x, column))
            start = end
        parts = [one.energies.mT for one in self._passes]
        self.energies = in_atom_order(parts, self._groups).mT

    @torch.no_grad()
    def gradient(self, factors: Tensor) -> Tensor:
        """Gradient of sum_k c_k E_k of each member by its weights.

        Args:
            factors: c, shape (members, atoms).

        Returns:
            Shape (members, parameters).
        """
        alone = len(self._groups) == 1
        return torch.cat([
            part
            for one, atoms in zip(self._passes, self._groups, strict=True)
            for part in one.gradient(factors if alone else factors[:, atoms])
        ], dim=1)  # fmt: skip


class _Pass:
    """One species' networks of all members, their layers of shape (members, out, atoms)."""

    def __init__(
        self, network: nn.Module, weights: Tensor, features: Tensor, column: Tensor | None
    ) -> None:
        assert isinstance(network, nn.Sequential)
        self._column = column
        self._functions = [layer for layer in network if not isinstance(layer, nn.Linear)]
        self._weights, self._before = list[Tensor](), list[Tensor]()
        self._inputs, start = [features.mT], 0  # [in, atoms] of the first layer
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        for number, layer in enumerate(linear):
            middle = start + layer.weight.numel()
            w = weights[:, start:middle].unflatten(1, layer.weight.shape)  # [b, out, in]
            start = middle if layer.bias is None else middle + layer.out_features
            if number:
                z = torch.bmm(w, self._inputs[-1])
            else:
                folded = w if column is None else _add_columns(w, column, len(features.mT))
                z = (folded.flatten(0, 1) @ features.mT).unflatten(0, w.shape[:2])
            if layer.bias is not None:
                z += weights[:, middle:start].unsqueeze(2)
            self._weights.append(w)
            self._before.append(z)
            if number < len(self._functions):
                # z is gone where the slope does without it
                self._inputs.append(overwrite(self._functions[number], z))
        self._biased = linear[0].bias is not None
        self.energies = self._before[-1].squeeze(1)

    def gradient(self, factors: Tensor) -> list[Tensor]:
        """The same as of the whole, a tensor for each parameter, flat for each member."""
        signal, found = factors.unsqueeze(1), list[Tensor]()
        for number in range(len(self._weights) - 1, -1, -1):
            a = self._inputs[number]
            bias = [signal.sum(2)] if self._biased else []
            if number:
                found = [torch.bmm(signal, a.mT).flatten(1), *bias, *found]
                slopes = slope(self._functions[number - 1], self._before[number - 1], a)
                signal = torch.bmm(self._weights[number].mT, signal).mul_(slopes)
            else:
                shape = signal.shape[:2]
                first = (signal.flatten(0, 1) @ a.mT).unflatten(0, shape)
                whole = first if self._column is None else first[:, :, self._column]
                found = [whole.flatten(1), *bias, *found]
        return found


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
    parts = zip(distinct.split(PROBE_ATOMS), features.split(PROBE_ATOMS), strict=True)
    if all(torch.equal(few[:, column], every) for few, every in parts):
        return distinct, column
    distinct, column = torch.unique(features, dim=1, return_inverse=True)
    return distinct, column


def _add_columns(w: Tensor, column: Tensor, distinct: int) -> Tensor:
    return w.new_zeros(*w.shape[:2], distinct).index_add(2, column, w)
