"""The three heads inside TorchScript: energies, gradients by the weights, and both along draws.

A species is its place in the ascending list of atomic numbers. All is float64, whatever the dtype
the weights were trained in.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchlpr.curvature.subsets import Subset
from torchlpr.export.scripted.folding import Folding
from torchlpr.models import BehlerParrinelloMLP, LinearModel, SparseKernelModel
from torchlpr.models.triangular import solve_rows

__all__ = ["KernelBasis", "Layer", "LinearBasis", "Network", "ScriptedHead", "scripted_head"]


class Layer(nn.Module):
    """A linear layer and what follows it.

    Args:
        weight: shape (out, in).
        bias: shape (out,), zeros where the layer has none.
        activation: name in :data:`torchlpr.models.activations.ACTIVATIONS`.
        weight_counts: whether gradients are taken by the weights.
        bias_counts: whether gradients are taken by the biases.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: str,
        weight_counts: bool,
        bias_counts: bool,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.activation = activation
        self.weight_counts, self.bias_counts = weight_counts, bias_counts

    def forward(self, a: Tensor) -> Tensor:
        """Outputs before the activation."""
        return functional.linear(a, self.weight, self.bias)

    def activate(self, z: Tensor) -> Tensor:
        """Outputs."""
        if self.activation == "sigmoid":
            return torch.sigmoid(z)
        if self.activation == "tanh":
            return torch.tanh(z)
        if self.activation == "silu":
            return functional.silu(z)
        if self.activation == "softplus":
            return functional.softplus(z)
        return z

    def slope(self, z: Tensor) -> Tensor:
        """Derivative of the outputs by those before the activation."""
        if self.activation == "sigmoid":
            s = torch.sigmoid(z)
            return s * (1 - s)
        if self.activation == "tanh":
            return 1 - torch.tanh(z).square()
        if self.activation == "silu":
            s = torch.sigmoid(z)
            return s * (1 + z * (1 - s))
        if self.activation == "softplus":
            return torch.where(z > 20, torch.ones_like(z), torch.sigmoid(z))  # as torch has it
        return torch.ones_like(z)


class Network(nn.Module):
    """The network of one species; gradients are signals times activations.

    Args:
        layers: first layer first.
    """

    if TYPE_CHECKING:
        layers: list[Layer]

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Energies, shape (atoms, features) to (atoms,)."""
        for layer in self.layers:
            x = layer.activate(layer(x))
        return x.squeeze(1)

    def gradients(self, x: Tensor) -> Tensor:
        """Shape (atoms, features) to (atoms, chosen weights)."""
        inputs, signals = self._signals(x)
        parts: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            delta = signals[number]
            if layer.weight_counts:
                parts.append((delta.unsqueeze(2) * inputs[number].unsqueeze(1)).flatten(1))
            if layer.bias_counts:
                parts.append(delta)
        return torch.cat(parts, dim=1) if len(parts) > 0 else x.new_zeros(x.shape[0], 0)

    def along(self, x: Tensor, directions: Tensor) -> Tensor:
        """Gradients times directions, shape (draws, chosen weights) to (atoms, draws)."""
        inputs, signals = self._signals(x)
        draws, before = directions.shape[0], 0
        out = x.new_zeros(x.shape[0], draws)
        for number, layer in enumerate(self.layers):
            delta = signals[number]
            rows, columns = layer.weight.shape[0], layer.weight.shape[1]
            if layer.weight_counts:
                d = directions[:, before : before + rows * columns].reshape(-1, columns)
                pushed = (inputs[number] @ d.mT).reshape(-1, draws, rows)  # [atom, draw, out]
                out = out + (pushed @ delta.unsqueeze(2)).squeeze(2)
                before += rows * columns
            if layer.bias_counts:
                out = out + delta @ directions[:, before : before + rows].mT
                before += rows
        return out

    def _signals(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Input and signal d(energy)/d(output before activation) of every layer."""
        inputs: list[Tensor] = []
        slopes: list[Tensor] = []
        weights: list[Tensor] = []
        for layer in self.layers:
            inputs.append(x)
            weights.append(layer.weight)
            z = layer(x)
            slopes.append(layer.slope(z))
            x = layer.activate(z)
        signals = [slopes[-1]]
        for number in range(len(weights) - 1, 0, -1):
            signals.insert(0, signals[0] @ weights[number] * slopes[number - 1])
        return inputs, signals


class LinearBasis(nn.Module):
    """A species of a head whose basis are the features.

    Args:
        weight: shape (features,).
        counts: whether gradients are taken by the weights.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, counts: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.counts = counts

    def basis(self, x: Tensor) -> Tensor:
        """Shape (atoms, features) to (atoms, weights)."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Energies, shape (atoms, features) to (atoms,)."""
        return self.basis(x) @ self.weight

    def gradients(self, x: Tensor) -> Tensor:
        """Shape (atoms, features) to (atoms, chosen weights)."""
        return self.basis(x) if self.counts else x.new_zeros(x.shape[0], 0)

    def along(self, x: Tensor, directions: Tensor) -> Tensor:
        """Gradients times directions, shape (draws, chosen weights) to (atoms, draws)."""
        return self.gradients(x) @ directions.mT


class KernelBasis(LinearBasis):
    """A species of the sparse kernel head: kernels with its inducing environments, whitened.

    Args:
        weight: shape (inducing,).
        counts: whether gradients are taken by the weights.
        points: inducing environments, shape (inducing, features).
        cholesky: lower factor of their kernel matrix, shape (inducing, inducing).
        zeta: exponent of the kernel.
    """

    points: Tensor
    cholesky: Tensor

    def __init__(
        self, weight: Tensor, counts: bool, points: Tensor, cholesky: Tensor, zeta: int
    ) -> None:
        super().__init__(weight, counts)
        self.register_buffer("points", points)
        self.register_buffer("cholesky", cholesky)
        self.zeta = zeta

    def basis(self, x: Tensor) -> Tensor:
        """Shape (atoms, features) to (atoms, weights)."""
        kernel = (x @ self.points.mT) ** self.zeta
        return solve_rows(self.cholesky.mT, kernel, upper=True)


class ScriptedHead(nn.Module):
    """One part for each species.

    Args:
        parts: of the species in ascending order: networks or bases.
        widths: how many chosen weights each has.
    """

    if TYPE_CHECKING:
        parts: Sequence[Network | LinearBasis]

    def __init__(self, parts: "Sequence[Network | LinearBasis]", widths: list[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)  # type: ignore[assignment]
        self.widths, self.n_parameters = widths, sum(widths)

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """Energies, shape (atoms, features) and (atoms,) to (atoms,)."""
        out = x.new_zeros(x.shape[0])
        for number, part in enumerate(self.parts):
            atoms = (species == number).nonzero().squeeze(1)
            out = out.index_copy(0, atoms, part(x[atoms]))
        return out

    def gradients(self, x: Tensor, species: Tensor) -> Tensor:
        """By the chosen weights of all species, shape (atoms, parameters)."""
        out = x.new_zeros(x.shape[0], self.n_parameters)
        before = 0
        for number, part in enumerate(self.parts):
            atoms = (species == number).nonzero().squeeze(1)
            width = self.widths[number]
            if len(self.widths) == 1:
                return part.gradients(x)
            out[:, before : before + width].index_copy_(0, atoms, part.gradients(x[atoms]))
            before += width
        return out

    def along(self, x: Tensor, species: Tensor, directions: Tensor) -> Tensor:
        """Gradients times directions, shape (draws, parameters) to (atoms, draws)."""
        out = x.new_zeros(x.shape[0], directions.shape[0])
        before = 0
        for number, part in enumerate(self.parts):
            atoms = (species == number).nonzero().squeeze(1)
            d = directions[:, before : before + self.widths[number]]
            out = out.index_copy(0, atoms, part.along(x[atoms], d))
            before += self.widths[number]
        return out


def scripted_head(
    model: BehlerParrinelloMLP | LinearModel | SparseKernelModel, subset: Subset, folding: Folding
) -> ScriptedHead:
    """The twin of a head.

    Args:
        model: the head.
        subset: weights that gradients are taken by.
        folding: of its features.

    Returns:
        The head for folded features.
    """
    if isinstance(model, BehlerParrinelloMLP):
        return _networks(model, subset, folding)
    parts: list[LinearBasis] = []
    start, widths = 0, []
    for z in model.types:
        kernel = isinstance(model, SparseKernelModel)
        n = len(model.get_buffer(f"inducing_{z}")) if kernel else model.n_features
        weight = model.weight.detach()[start : start + n].to(torch.float64)
        counts = subset.position(start, start + n) is not None
        start += n
        if isinstance(model, SparseKernelModel):
            points = folding(model.get_buffer(f"inducing_{z}"))
            cholesky = model.get_buffer(f"cholesky_{z}").to(torch.float64)
            part: LinearBasis = KernelBasis(weight, counts, points, cholesky, model.zeta)
        else:
            part = LinearBasis(folding(weight), counts)
        parts.append(part)
        widths.append(part.weight.numel() if counts else 0)
    return ScriptedHead(parts, widths)


def _networks(model: BehlerParrinelloMLP, subset: Subset, folding: Folding) -> ScriptedHead:
    parts: list[Network] = []
    widths, start = [], 0
    for network in model.networks:
        assert isinstance(network, nn.Sequential)
        linear = [layer for layer in network if isinstance(layer, nn.Linear)]
        layers, width = [], 0
        for number, layer in enumerate(linear):
            weight = layer.weight.detach().to(torch.float64)
            middle = start + weight.numel()
            stop = middle if layer.bias is None else middle + layer.bias.numel()
            weight = folding(weight) if number == 0 else weight.clone()
            bias = weight.new_zeros(len(weight))
            if layer.bias is not None:
                bias = layer.bias.detach().to(torch.float64, copy=True)
            chosen = subset.position(start, middle) is not None
            bias_chosen = stop > middle and subset.position(middle, stop) is not None
            width += chosen * weight.numel() + bias_chosen * len(bias)
            activation = model.activation if number + 1 < len(linear) else "linear"
            layers.append(Layer(weight, bias, activation, chosen, bias_chosen))
            start = stop
        parts.append(Network(layers))
        widths.append(width)
    return ScriptedHead(parts, widths)
