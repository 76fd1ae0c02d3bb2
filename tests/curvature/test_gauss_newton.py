"""When the Gauss-Newton Hessian is exact: zero residuals (C5), linear networks (C18)."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import FEATURES, MODELS, ONE, make_batch
from tests.oracles import autograd_loops, dense, finite_differences, networks
from torchlpr.curvature import atomic_gradients, build, energy_rows
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.rigidity import prediction_rigidity

MU = 0.05


@pytest.mark.parametrize("name", ["mlp", "mlp bias silu two species", "mlp softplus"])
def test_c5_full_hessian_where_residuals_vanish(name: str) -> None:
    """Labels f(w0), ridge centred on w0: Hessian = R^T R + mu I by autograd and by differences."""
    types, build_model = MODELS[name]
    model, batch = build_model(), make_batch(6, types)
    w0 = nn.utils.parameters_to_vector(model.parameters()).detach()
    counts = torch.bincount(batch.structure)

    def means(w: torch.Tensor) -> torch.Tensor:
        local = autograd_loops.with_weights(model, w)(batch.features, batch.types)
        return local.new_zeros(len(counts)).index_add(0, batch.structure, local) / counts

    labels = means(w0)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return 0.5 * (means(w) - labels).square().sum() + 0.5 * MU * (w - w0).square().sum()

    rows = energy_rows(model, batch, Objective(mu=MU))
    gauss_newton = dense.hessian(rows, MU)
    full = autograd_loops.loss_hessian(loss, w0)
    np.testing.assert_allclose(gauss_newton, full, rtol=0, atol=1e-12)

    slope = torch.func.grad(loss)
    differences = finite_differences.hessian(
        lambda w: slope(torch.from_numpy(w)).numpy(), w0.numpy(), 1e-3
    )
    np.testing.assert_allclose(gauss_newton, differences, rtol=0, atol=1e-9)

    inverse = torch.linalg.inv(full)
    solved = build(rows, MU).solve(torch.eye(len(w0), dtype=w0.dtype))
    torch.testing.assert_close(solved, inverse, rtol=0, atol=1e-10 / MU)


@pytest.mark.parametrize("mu", [1e-6, 1e-3, 1.0])
def test_c18_linear_network_is_ridge_in_transformed_features(mu: float) -> None:
    model = BehlerParrinelloMLP(FEATURES, ONE, (5, 3), activation="linear", seed=3)
    train, test = make_batch(9, seed=1), make_batch(3, seed=2)
    lpr = prediction_rigidity(
        energy_rows(model, train, Objective(mu=mu)),
        atomic_gradients(model, test.features, test.types),
        mu,
    )
    w1, w2, w3 = (p.detach().numpy() for p in model.parameters())
    values, vectors = np.linalg.eigh(networks.linear_network_metric(w1, w2, w3))
    root = vectors * np.sqrt(values) @ vectors.T
    rows = dense.group_means(train.features.numpy() @ root, train.structure)
    expected = dense.prediction_rigidity(rows, test.features.numpy() @ root, mu)
    np.testing.assert_allclose(lpr, expected, rtol=1e-10)
