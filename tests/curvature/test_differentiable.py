"""Rigidity is differentiable in rows and gradients, in both shapes."""

import pytest
import torch

from tests.cases import random_tensor
from torchlpr.rigidity import prediction_rigidity


@pytest.mark.parametrize("mu", [0.3, 1e-3])
@pytest.mark.parametrize(("rows", "parameters"), [(3, 5), (6, 3)])
@pytest.mark.parametrize("shape", ["row", "parameter"])
def test_gradcheck(shape: str, rows: int, parameters: int, mu: float) -> None:
    r = random_tensor(0, rows, parameters).requires_grad_()
    g = random_tensor(1, 2, parameters).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: prediction_rigidity(r.detach(), g, mu, shape), (g,))
    assert torch.autograd.gradcheck(lambda r: prediction_rigidity(r, g.detach(), mu, shape), (r,))


@pytest.mark.parametrize("shape", ["row", "parameter"])
def test_derivative_of_a_quadratic_form(shape: str) -> None:
    """d LPR/dg = -2 LPR^2 H^-1 g (SCIENCE D.3)."""
    r, g = random_tensor(2, 4, 6), random_tensor(3, 1, 6).requires_grad_()
    lpr = prediction_rigidity(r, g, 0.1, shape)
    (slope,) = torch.autograd.grad(lpr.sum(), g)
    h = r.mT @ r + 0.1 * torch.eye(6, dtype=r.dtype)
    expected = -2 * lpr**2 * torch.linalg.solve(h, g[0])
    torch.testing.assert_close(slope[0], expected, rtol=1e-10, atol=1e-12)
