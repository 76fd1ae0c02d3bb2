r"""One network gone through for the atoms of a batch: activations, energies, signals.

Forwards it gives activations a and energies, backwards signals dE/dz. For factors c of the atoms
and a direction V of the weights,

.. math:: \sum_k c_k \frac{\partial^2 E_k}{\partial w^2} V

is one forward pass of the activations' tangents along V, and one backward pass of the signals'.

Source: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Comput. 6, 147 (1994).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchlpr.models.activations import derivatives
from torchlpr.models.affine import affine

__all__ = ["NetworkPass", "Tangents", "Weighted"]


class Tangents(NamedTuple):
    """Along a direction of the weights, of what enters and what leaves each activation function."""

    before: list[Tensor]
    after: list[Tensor]


class Weighted(NamedTuple):
    """Factors c of the atoms times signals, of each layer, and times what bends before it."""

    signals: list[Tensor]
    bends: list[Tensor]


class NetworkPass:
    """A network at its weights and n atoms; what is not asked for is not computed.

    Args:
        network: linear layers with activation functions between them.
        x: features, shape (n, features).

    Attributes:
        inputs: activations at the input of each linear layer, the features first.
        energies: shape (n,).
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        assert isinstance(network, nn.Sequential)
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        self._functions = [layer for layer in network if not isinstance(layer, nn.Linear)]
        self.weights = [layer.weight.detach().to(x.dtype, copy=True) for layer in linear]
        biases = [b if b is None else b.detach().to(x.dtype) for b in (one.bias for one in linear)]
        self._biased = biases[0] is not None
        self.inputs, self._before = [x], list[Tensor]()
        with torch.no_grad():
            for weight, bias, function in zip(self.weights, biases, self._functions, strict=False):
                self._before.append(affine(self.inputs[-1], weight, bias))
                self.inputs.append(function(self._before[-1]))
            self.energies = affine(self.inputs[-1], self.weights[-1], biases[-1]).squeeze(1)

    @cached_property
    def curves(self) -> list[tuple[Tensor, Tensor]]:
        """Slope and curvature of each activation function."""
        triples = zip(self._functions, self._before, self.inputs[1:], strict=True)
        return [derivatives(*triple) for triple in triples]

    @cached_property
    def backward(self) -> tuple[list[Tensor], list[Tensor]]:
        """Signals dE/dz of each layer, and of each but the last before the slope."""
        signals, before = [self.energies.new_ones(len(self.energies), 1)], list[Tensor]()
        for weight, (slope, _) in zip(self.weights[:0:-1], self.curves[::-1], strict=True):
            before.insert(0, affine(signals[0], weight.mT))
            signals.insert(0, before[0] * slope)
        return signals, before

    @property
    def sensitivity(self) -> Tensor:
        """dE/dx, shape (n, features)."""
        return self.backward[0][0] @ self.weights[0]

    def to(self, x: Tensor) -> NetworkPass:
        """The same in the precision of features that are there already."""

        def cast(parts: Sequence[Tensor]) -> list[Tensor]:
            return [part.to(x).contiguous() for part in parts]  # one order in memory, for speed

        twin = copy.copy(self)
        twin.weights, twin.energies = cast(self.weights), self.energies.to(x)
        twin.inputs = [x, *cast(self.inputs[1:])]
        slopes, bends = zip(*self.curves, strict=True) if self.curves else ((), ())
        twin.curves = list(zip(cast(slopes), cast(bends), strict=True))
        signals, before = self.backward
        twin.backward = cast(signals), cast(before)
        return twin

    def gradients(self, c: Tensor, v: Tensor | None = None) -> list[Tensor]:
        """Of sum_k (c_k E_k + v_k . dE_k/dx_k) by each parameter, in new memory.

        Args:
            c: shape (n, 1).
            v: shape (n, features), or None for zero.

        Returns:
            One tensor for each parameter of the network, in their order.
        """
        signals, before = self.backward
        if v is None:
            return self._in_order([
                ((c * signal).mT @ a, (c * signal).sum(0))
                for signal, a in zip(signals, self.inputs, strict=True)
            ])
        tangents, pushed = [v], []  # of the inputs, and of what an activation function bends
        for weight, (slope, _) in zip(self.weights[:-1], self.curves, strict=True):
            pushed.append(tangents[-1] @ weight.mT)
            tangents.append(slope * pushed[-1])
        signal, found = c, list[tuple[Tensor, Tensor]]()
        for number in range(len(self.weights) - 1, -1, -1):
            mixed = torch.addmm(
                signal.mT @ self.inputs[number], signals[number].mT, tangents[number]
            )
            found.insert(0, (mixed, signal.sum(0)))
            if number:
                slope, bend = self.curves[number - 1]
                second = before[number - 1] * bend * pushed[number - 1]
                signal = torch.addcmul(second, signal @ self.weights[number], slope)
        return self._in_order(found)

    def weighted(self, c: Tensor) -> Weighted:
        """What second derivatives of sum_k c_k E_k take from here, whatever the direction.

        Args:
            c: factors, shape (n, 1).

        Returns:
            c times signals and bends, each of the shape of its layer's output.
        """
        signals, before = self.backward
        bends = [c * b * bend for b, (_, bend) in zip(before, self.curves, strict=True)]
        return Weighted([c * signal for signal in signals], bends)

    def push(self, directions: Sequence[Tensor]) -> Tangents:
        """Tangents along a direction of the weights.

        Args:
            directions: of each parameter of the network, in their order.

        Returns:
            Those of the inputs and outputs of the activation functions.
        """
        found = Tangents([], [])
        weights, biases = self._of_layers(directions)
        for number, (slope, _) in enumerate(self.curves):
            z = affine(self.inputs[number], weights[number], biases[number])
            if number:
                z = z + affine(found.after[-1], self.weights[number])
            found.before.append(z)
            found.after.append(slope * z)
        return found

    def energy_change(self, directions: Sequence[Tensor], tangents: Tangents) -> Tensor:
        """Tangents of the energies along a direction of the weights.

        Args:
            directions: of each parameter of the network, in their order.
            tangents: as :meth:`push` gives them.

        Returns:
            Shape (n,).
        """
        weights, biases = self._of_layers(directions)
        change = affine(self.inputs[-1], weights[-1], biases[-1])
        if tangents.after:
            change = change + affine(tangents.after[-1], self.weights[-1])
        return change.squeeze(1)

    def second(
        self,
        weighted: Weighted,
        directions: Sequence[Tensor],
        tangents: Tangents,
        signal: Tensor | None = None,
    ) -> list[Tensor]:
        """Change of the gradients of sum_k c_k E_k along a direction of the weights.

        Args:
            weighted: as :meth:`weighted` gives it.
            directions: of each parameter of the network, in their order.
            tangents: as :meth:`push` gives them.
            signal: change of the factors c, shape (n, 1); None for zero.

        Returns:
            One tensor for each parameter of the network, in their order.
        """
        weights, _ = self._of_layers(directions)
        found = list[tuple[Tensor, Tensor]]()
        for number in range(len(self.weights) - 1, -1, -1):
            mixed = torch.zeros_like(weights[number])
            total = mixed.new_zeros(len(mixed))
            if signal is not None:
                mixed, total = signal.mT @ self.inputs[number], signal.sum(0)
            if number:
                own = weighted.signals[number]
                mixed = mixed + own.mT @ tangents.after[number - 1]
                back = affine(own, weights[number].mT)
                if signal is not None:
                    back = back + affine(signal, self.weights[number].mT)
                bent = weighted.bends[number - 1] * tangents.before[number - 1]
                signal = torch.addcmul(bent, self.curves[number - 1][0], back)
            found.insert(0, (mixed, total))
        return self._in_order(found)

    def _in_order(self, layers: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        return [part for layer in layers for part in (layer if self._biased else layer[:1])]

    def _of_layers(
        self, parts: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
        if self._biased:
            return parts[::2], parts[1::2]
        return parts, [None] * len(parts)
