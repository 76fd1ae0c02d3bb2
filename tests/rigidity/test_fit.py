"""The closed form: minimum of the loss, and the labels' part of the retraining picture."""

import numpy as np
import pytest
import torch

from tests.cases import MODELS, make_batch
from tests.oracles import autograd_loops, dense
from torchlpr import Objective, fit

LINEAR = ["linear", "linear two species", "kernel", "kernel two species"]


@pytest.mark.parametrize("size", [3, 70])
@pytest.mark.parametrize("name", LINEAR)
def test_closed_form_is_the_ridge_solution(name: str, size: int) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_batch(size, types)
    basis = autograd_loops.atomic_gradients(model, batch.features, batch.types).numpy()
    counts = np.bincount(batch.structure)
    rows = np.sqrt(1.5) * dense.group_means(basis, batch.structure)
    targets = np.sqrt(1.5) * batch.energies.numpy() / counts
    expected = np.linalg.solve(dense.hessian(rows, 0.3), rows.T @ targets)
    fit(model, batch, Objective(mu=0.3, energy_weight=1.5))
    np.testing.assert_allclose(model.weight.detach(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LINEAR)
def test_the_gradient_of_the_loss_vanishes(name: str) -> None:
    types, build = MODELS[name]
    model, batch, objective = build(), make_batch(9, types), Objective(mu=1e-3)
    fit(model, batch, objective)
    local = model(batch.features, batch.types)
    residuals = objective.residuals(local, batch.structure, batch.counts, batch.energies)
    loss = objective.data_loss(residuals) + objective.penalty(model.parameters())
    (slope,) = torch.autograd.grad(loss, model.weight)
    assert float(slope.norm()) < 1e-11
