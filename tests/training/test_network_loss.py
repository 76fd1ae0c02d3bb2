"""The loss of a network in closed form, against autograd through the equations as written."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from tests.cases import ONE, TWO, make_batch, mlp
from tests.training import dense
from tests.training.test_problem import full_hessian
from torchlpr import Objective
from torchlpr.models.activations import ACTIVATIONS
from torchlpr.training.network_loss import NetworkLoss, NetworkStructures
from torchlpr.training.problem import Problem

OBJECTIVE = Objective(mu=0.03, energy_weight=1.7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("types", "hidden"), [(ONE, ()), (ONE, (5,)), (TWO, (4, 3)), (TWO, (3, 4, 2))]
)
def test_gradient_and_second_derivatives(types, hidden, bias: bool, activation: str) -> None:
    batch = make_batch(6, types)
    model = mlp(types, hidden=hidden, bias=bias, activation=activation)()
    loss = NetworkLoss(model, NetworkStructures(model, batch, OBJECTIVE))
    flat = parameters_to_vector(model.parameters()).detach()
    expected = dense.gradient(model, batch, OBJECTIVE)
    found = (loss.gradient() + OBJECTIVE.mu * flat).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    h = torch.from_numpy(full_hessian(model, batch, OBJECTIVE))
    identity = torch.eye(len(flat)).double()
    product = torch.stack([loss.product(e) for e in identity]) + OBJECTIVE.mu * identity
    np.testing.assert_allclose(product, h, rtol=0, atol=1e-12 * float(h.abs().max()))
    rows = Problem(model, batch, OBJECTIVE).linearise(flat).rows
    bend = torch.stack([loss.bend(e) for e in identity])
    curved = h - rows.mT @ rows - OBJECTIVE.mu * identity
    limit = 1e-5 * float(curved.abs().max()) + 1e-11
    np.testing.assert_allclose(bend, curved, rtol=0, atol=limit)


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_single_precision_does_not_underflow(size: float) -> None:
    batch, model = make_batch(6, TWO), mlp(TWO)()
    loss = NetworkLoss(model, NetworkStructures(model, batch, OBJECTIVE))
    vector = torch.linspace(-1, 1, len(dense.flat(model))).double()
    np.testing.assert_allclose(loss.bend(size * vector), size * loss.bend(vector), rtol=1e-5)
    assert not loss.bend(0 * vector).any()


def test_a_loss_stays_where_it_was_taken() -> None:
    batch, model = make_batch(6, TWO), mlp(TWO, bias=True)()
    loss = NetworkLoss(model, NetworkStructures(model, batch, OBJECTIVE))
    vector = torch.linspace(-1, 1, len(dense.flat(model))).double()
    before = loss.product(vector)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    np.testing.assert_array_equal(loss.product(vector), before)
