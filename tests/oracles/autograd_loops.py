"""Derivatives by plain autograd: one backward pass an atom, one a structure, full Hessians."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["atomic_gradients", "gradient", "loss_hessian", "structure_rows", "with_weights"]


def atomic_gradients(model: nn.Module, features: Tensor, types: Tensor) -> Tensor:
    """d(energy of atom k)/d(parameters), one backward pass an atom."""
    return torch.stack([gradient(model, energy) for energy in model(features, types)])


def structure_rows(
    model: nn.Module, features: Tensor, types: Tensor, structure: Tensor, scale: Tensor
) -> Tensor:
    """d(scale_A E_A)/d(parameters), one backward pass a structure."""
    local = model(features, types)
    totals = [scale[a] * local[structure == a].sum() for a in range(len(scale))]
    return torch.stack([gradient(model, total) for total in totals])


def with_weights(model: nn.Module, weights: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The model's forward with its parameters read from one flat vector."""
    values, start = {}, 0
    for name, parameter in model.named_parameters():
        values[name] = weights[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return lambda features, types: torch.func.functional_call(model, values, (features, types))


def loss_hessian(loss: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
    """Full Hessian of a loss of one flat vector, by double backward."""
    return torch.autograd.functional.hessian(loss, weights)


def gradient(model: nn.Module, value: Tensor) -> Tensor:
    """d(value)/d(parameters) as one flat vector; the graph is kept."""
    parts = torch.autograd.grad(
        value, list(model.parameters()), retain_graph=True, materialize_grads=True
    )
    return torch.cat([part.reshape(-1) for part in parts])
