"""The activation functions of networks with their first two derivatives in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "curve", "derivatives", "overwrite", "slope"]

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


def overwrite(layer: nn.Module, z: Tensor) -> Tensor:
    """Value of an activation function, in the memory of z where :func:`slope` does without z.

    Args:
        layer: one of :data:`ACTIVATIONS`.
        z: where, any shape.

    Returns:
        f(z).
    """
    if isinstance(layer, nn.Sigmoid):
        return z.sigmoid_()
    if isinstance(layer, nn.Tanh):
        return z.tanh_()
    value: Tensor = layer(z)
    return value


def slope(layer: nn.Module, z: Tensor, value: Tensor) -> Tensor:
    """Slope of one of :data:`ACTIVATIONS` where its value is known.

    Args:
        layer: the activation function.
        z: where, any shape.
        value: f(z), of the shape of z.

    Returns:
        f'(z), of the shape of z.

    Raises:
        TypeError: if the function is another one.
    """
    if isinstance(layer, nn.Sigmoid):
        return torch.addcmul(value, value, value, value=-1)
    if isinstance(layer, nn.Tanh):
        return 1 - value.square()
    if isinstance(layer, nn.SiLU):
        s = torch.sigmoid(z)
        return s + z * (s * (1 - s))
    if isinstance(layer, nn.Softplus):
        # beyond the threshold torch takes z itself
        inside = z * layer.beta <= layer.threshold
        return torch.where(inside, torch.sigmoid(z * layer.beta), 1.0)
    if isinstance(layer, nn.Identity):
        return torch.ones_like(z)
    raise TypeError(f"the derivatives of {type(layer).__name__} are not known")


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
    if isinstance(layer, nn.SiLU):
        s = torch.sigmoid(z)
        steep = s * (1 - s)
        return s + z * steep, steep * (2 + z * (1 - 2 * s))
    first = slope(layer, z, value)
    if isinstance(layer, nn.Sigmoid):
        return first, first * (1 - 2 * value)
    if isinstance(layer, nn.Tanh):
        return first, -2 * value * first
    if isinstance(layer, nn.Softplus):  # a slope of one is beyond the threshold, or bends as little
        return first, layer.beta * first * (1 - first)
    return first, torch.zeros_like(z)
