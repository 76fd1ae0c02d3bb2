"""Slopes and curvatures of the activation functions against autograd."""

import pytest
import torch
from torch import nn

from torchlpr.models.activations import ACTIVATIONS, curve


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_two_derivatives(name: str) -> None:
    layer = ACTIVATIONS[name]()
    z = torch.linspace(-40, 40, 802, dtype=torch.float64).requires_grad_()
    value = layer(z)
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    bend = torch.zeros_like(z)
    if slope.requires_grad:
        (bend,) = torch.autograd.grad(slope.sum(), z)
    for found, expected in zip(curve(layer, z.detach()), (value, slope, bend), strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-14)


def test_others_are_refused() -> None:
    with pytest.raises(TypeError, match="derivatives of ReLU are not known"):
        curve(nn.ReLU(), torch.zeros(2))
