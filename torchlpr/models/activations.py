"""The activation functions of networks with their first two derivatives in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "curve"]

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
    if isinstance(layer, nn.Sigmoid):
        value = torch.sigmoid(z)
        slope = value * (1 - value)
        return value, slope, slope * (1 - 2 * value)
    if isinstance(layer, nn.Tanh):
        value = torch.tanh(z)
        slope = 1 - value.square()
        return value, slope, -2 * value * slope
    if isinstance(layer, nn.SiLU):
        s = torch.sigmoid(z)
        value, steep = z * s, s * (1 - s)
        return value, s + z * steep, steep * (2 + z * (1 - 2 * s))
    if isinstance(layer, nn.Softplus):
        inside = z * layer.beta <= layer.threshold  # beyond, torch takes z itself
        s = torch.sigmoid(z * layer.beta)
        bend = torch.where(inside, layer.beta * s * (1 - s), 0.0)
        return layer(z), torch.where(inside, s, 1.0), bend
    if isinstance(layer, nn.Identity):
        return z, torch.ones_like(z), torch.zeros_like(z)
    raise TypeError(f"the derivatives of {type(layer).__name__} are not known")
