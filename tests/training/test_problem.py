"""The loss as a function of flat weights, against autograd on the equations as written."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.cases import MODELS, make_batch
from tests.training import dense
from torchlpr import Objective
from torchlpr.training.problem import Problem

OBJECTIVE = Objective(mu=0.03, energy_weight=1.7)


def full_hessian(model, batch, objective):
    """Second derivatives of the loss by torch's own hessian, column by column."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    sizes = [p.numel() for p in model.parameters()]

    class At:
        def __init__(self, w):
            self.w = dict(
                zip(
                    names,
                    (q.reshape(s) for q, s in zip(w.split(sizes), shapes, strict=True)),
                    strict=True,
                )
            )

        def __call__(self, features, types):
            return functional_call(model, self.w, (features, types))

        def parameters(self):
            return self.w.values()

    weights = torch.from_numpy(dense.flat(model))
    return torch.autograd.functional.hessian(
        lambda w: dense.loss(At(w), batch, objective), weights
    ).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_gradient_and_hessian(name: str) -> None:
    types, build = MODELS[name]
    batch, model = make_batch(6, types), build()
    problem = Problem(model.requires_grad_(True), batch, OBJECTIVE)
    weights = problem.weights
    gradient, product = problem.derivatives(weights)
    expected = dense.gradient(model, batch, OBJECTIVE)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(
        problem.linearise(weights).gradient, expected, rtol=0, atol=1e-12 * scale
    )
    columns = torch.stack([product(e) for e in torch.eye(len(weights)).double()])
    h = full_hessian(model, batch, OBJECTIVE)
    np.testing.assert_allclose(columns, h, rtol=0, atol=1e-12 * np.abs(h).max())


def test_the_weights_asked_for_are_those_used() -> None:
    types, build = MODELS["mlp two species"]
    batch, model = make_batch(6, types), build()
    problem = Problem(model, batch, OBJECTIVE)
    moved = problem.weights + 0.1
    loss = problem.loss(moved)
    np.testing.assert_array_equal(dense.flat(model), moved)
    assert loss == pytest.approx(float(dense.loss(model, batch, OBJECTIVE).detach()), rel=1e-13)


class Product(nn.Module):
    """Weights that meet each other without a layer between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.full((4,), x).double()) for x in (1.0, 2.0))

    def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return (features * self.a * self.b * self.a).sum(1)


def test_a_hessian_stays_where_it_was_taken() -> None:
    problem = Problem(Product(), make_batch(6), OBJECTIVE)
    weights = problem.weights
    _, product = problem.derivatives(weights)
    vector = torch.linspace(-1, 1, len(weights)).double()
    before = product(vector)
    problem.loss(2 * weights)
    assert torch.equal(product(vector), before)
