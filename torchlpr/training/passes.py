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

import torch
from torch import Tensor, nn

from torchlpr.models.activations import curve
from torchlpr.models.affine import affine

__all__ = ["NetworkPass"]


class NetworkPass:
    """A network at its weights and n atoms.

    Args:
        network: linear layers with activation functions between them.
        x: features, shape (n, features).

    Attributes:
        energies: shape (n,).
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        assert isinstance(network, nn.Sequential)
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        bends = [layer for layer in network if not isinstance(layer, nn.Linear)]
        self.weights = [layer.weight.detach().clone() for layer in linear]
        self.biased = linear[0].bias is not None
        self.inputs, self.curves = [x], list[tuple[Tensor, Tensor]]()
        for layer, bend in zip(linear[:-1], bends, strict=True):
            z = affine(self.inputs[-1], layer.weight, layer.bias)
            value, slope, curvature = curve(bend, z)
            self.inputs.append(value)
            self.curves.append((slope, curvature))
        last = linear[-1]
        self.energies = affine(self.inputs[-1], last.weight, last.bias).squeeze(1)

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
        twin = copy.copy(self)
        twin.weights = [w.to(x) for w in self.weights]
        twin.inputs = [x, *(a.to(x) for a in self.inputs[1:])]
        twin.curves = [(slope.to(x), bend.to(x)) for slope, bend in self.curves]
        twin.energies = self.energies.to(x)
        signals, before = self.backward
        twin.backward = [s.to(x) for s in signals], [b.to(x) for b in before]
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

    def push(self, directions: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Tangents along a direction of the weights.

        Args:
            directions: of each parameter of the network, in their order.

        Returns:
            Those of the inputs of the activation functions, and of the energies, shape (n, 1).
        """
        weights, biases = self._of_layers(directions)
        pushed, tangent = list[Tensor](), None
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            z = affine(self.inputs[number], weight, bias)
            if tangent is not None:
                z = z + affine(tangent, self.weights[number])
            pushed.append(z)
            if number < len(self.curves):
                tangent = self.curves[number][0] * z
        return pushed[:-1], pushed[-1]

    def second(
        self, c: Tensor, directions: Sequence[Tensor], pushed: list[Tensor], signal: Tensor
    ) -> list[Tensor]:
        """Change of the gradients of sum_k c_k E_k along a direction of the weights.

        Args:
            c: factors, shape (n, 1).
            directions: of each parameter of the network, in their order.
            pushed: as :meth:`push` gives them.
            signal: change of the factors, shape (n, 1).

        Returns:
            One tensor for each parameter of the network, in their order.
        """
        weights, _ = self._of_layers(directions)
        signals, before = self.backward
        found = list[tuple[Tensor, Tensor]]()
        for number in range(len(self.weights) - 1, -1, -1):
            mixed = signal.mT @ self.inputs[number]
            if number:
                slope, bend = self.curves[number - 1]
                own = c * signals[number]
                mixed = mixed + own.mT @ (slope * pushed[number - 1])
                found.insert(0, (mixed, signal.sum(0)))
                back = affine(signal, self.weights[number].mT) + affine(own, weights[number].mT)
                signal = slope * back + c * before[number - 1] * bend * pushed[number - 1]
            else:
                found.insert(0, (mixed, signal.sum(0)))
        return self._in_order(found)

    def _in_order(self, layers: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        return [part for layer in layers for part in (layer if self.biased else layer[:1])]

    def _of_layers(
        self, parts: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
        if self.biased:
            return parts[::2], parts[1::2]
        return parts, [None] * len(parts)
