"""The activation functions of networks with their first two derivatives in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "curve", "derivatives"]

# smooth ones only: rigidity gradients need two derivatives
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "linear": nn.Identity,
}


def curve(layer: nn.Module, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, slope and curvature of one of :data:`ACTIVATIONS`.

    Args:
        layer: the activation function.
        z: where, any shape.

    Returns:
        f(z), f'(z) and f''(z), each of the shape of z.

    Raises:
        TypeError: if the function is another one.
    """
    value = layer(z)
    return value, *derivatives(layer, z, value)


def derivatives(layer: nn.Module, z: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and curvature of one of :data:`ACTIVATIONS` where its value is known.

    Args:
        layer: the activation function.
        z: where, any shape.
        value: f(z), of the shape of z.

    Returns:
        f'(z) and f''(z), each of the shape of z.

    Raises:
        TypeError: if the function is another one.
    """
    if isinstance(layer, nn.Sigmoid):
        slope = value * (1 - value)
        return slope, slope * (1 - 2 * value)
    if isinstance(layer, nn.Tanh):
        slope = 1 - value.square()
        return slope, -2 * value * slope
    if isinstance(layer, nn.SiLU):
        s = torch.sigmoid(z)
        steep = s * (1 - s)
        return s + z * steep, steep * (2 + z * (1 - 2 * s))
    if isinstance(layer, nn.Softplus):
        inside = z * layer.beta <= layer.threshold  # beyond, torch takes z itself
        s = torch.sigmoid(z * layer.beta)
        bend = torch.where(inside, layer.beta * s * (1 - s), 0.0)
        return torch.where(inside, s, 1.0), bend
    if isinstance(layer, nn.Identity):
        return torch.ones_like(z), torch.zeros_like(z)
    raise TypeError(f"the derivatives of {type(layer).__name__} are not known")
