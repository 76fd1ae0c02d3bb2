"""Rigidity is what retraining says: C3 (ridge, any shift) and C4 (network, small shifts)."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import FEATURES, ONE, make_batch
from tests.oracles import autograd_loops, dense, retraining
from torchlpr import (
    AtomBatch,
    BehlerParrinelloMLP,
    LinearModel,
    Objective,
    Rigidity,
    fit,
    prediction_rigidity,
)


@pytest.mark.parametrize("shift", [1e-2, -1.0, 100.0])
@pytest.mark.parametrize("structures", [3, 30])
def test_c3_ridge(structures: int, shift: float) -> None:
    """L* - L = 1/2 LPR eps^2 and multiplier = -eps LPR, for every eps."""
    mu, train, test = 0.02, make_batch(structures, seed=1), make_batch(2, seed=2)
    lpr = Rigidity(LinearModel(FEATURES, ONE), train, Objective(mu=mu)).local(test)
    counts = np.bincount(train.structure)
    rows = dense.group_means(train.features, train.structure)
    for k, g in enumerate(test.features.numpy()):
        rise, multiplier = retraining.ridge(rows, train.energies.numpy() / counts, mu, g, shift)
        np.testing.assert_allclose(multiplier, -shift * lpr[k].item(), rtol=1e-10)
        np.testing.assert_allclose(2 * rise / shift**2, lpr[k].item(), rtol=1e-10)


def test_c3_one_mu_for_each_weight() -> None:
    mu, train = np.array([1e-3, 0.1, 1.0, 30.0]), make_batch(5, seed=1)
    rows = dense.group_means(train.features, train.structure)
    g = train.features[:1]
    lpr = prediction_rigidity(torch.from_numpy(rows), g, torch.from_numpy(mu))
    rise, multiplier = retraining.ridge(rows, np.ones(5), mu, g[0].numpy(), 2.0)
    np.testing.assert_allclose(multiplier, -2.0 * lpr.item(), rtol=1e-10)
    np.testing.assert_allclose(rise, 0.5 * lpr.item() * 2.0**2, rtol=1e-10)


def test_c4_network_without_residuals() -> None:
    """Labels f(w0), ridge centred on w0: Gauss-Newton is exact, the rise is LPR eps^2 / 2."""
    mu, shift = 0.05, 1e-3
    model = BehlerParrinelloMLP(FEATURES, ONE, (3,), seed=2)
    train, test = make_batch(5, seed=1), make_batch(1, seed=2, atoms=2)
    lpr = Rigidity(model, train, Objective(mu=mu)).local(test)
    w0 = nn.utils.parameters_to_vector(model.parameters()).detach()
    counts = torch.bincount(train.structure)

    def means(w: torch.Tensor) -> torch.Tensor:
        local = autograd_loops.with_weights(model, w)(train.features, train.types)
        return local.new_zeros(len(counts)).index_add(0, train.structure, local) / counts

    labels = means(w0)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return 0.5 * (means(w) - labels).square().sum() + 0.5 * mu * (w - w0).square().sum()

    for k in range(len(test)):

        def energy(w: torch.Tensor, k: int = k) -> torch.Tensor:
            local = autograd_loops.with_weights(model, w)(test.features, test.types)
            return local[k]

        rises = [retraining.nonlinear(loss, energy, w0, s) for s in (shift, -shift)]
        np.testing.assert_allclose(sum(rises) / shift**2, lpr[k].item(), rtol=1e-4)


def test_c4_network_with_residuals_at_its_minimum() -> None:
    """The curvature of retraining is 1/(g H^-1 g) with the full Hessian, at a true minimum only."""
    shift, objective = 1e-3, Objective(mu=0.05)
    train, test = make_batch(12, ONE, seed=4), make_batch(1, seed=2, atoms=2)
    train = AtomBatch(3 * train.features, train.types, train.structure, 3 * train.labels())
    model = BehlerParrinelloMLP(FEATURES, ONE, (3,), "tanh", bias=True, seed=2)
    reached = fit(model, train, objective, "lm", progress=False).stationarity
    assert reached.is_minimum
    assert reached.largest_curvature > 1.01  # residuals matter, or Gauss-Newton would do
    w0 = nn.utils.parameters_to_vector(model.parameters()).detach()
    counts = torch.bincount(train.structure)

    def loss(w: torch.Tensor) -> torch.Tensor:
        local = autograd_loops.with_weights(model, w)(train.features, train.types)
        means = local.new_zeros(len(counts)).index_add(0, train.structure, local) / counts
        data = 0.5 * (means - train.labels() / counts).square().sum()
        return data + 0.5 * objective.mu * w.square().sum()

    hessian = torch.func.hessian(loss)(w0)
    for k in range(len(test)):

        def energy(w: torch.Tensor, k: int = k) -> torch.Tensor:
            local = autograd_loops.with_weights(model, w)(test.features, test.types)
            return local[k]

        g = torch.func.grad(energy)(w0)
        rigidity = 1 / float(g @ torch.linalg.solve(hessian, g))
        rises = [retraining.nonlinear(loss, energy, w0, s) for s in (shift, -shift)]
        np.testing.assert_allclose(sum(rises) / shift**2, rigidity, rtol=1e-4)
        gauss_newton = Rigidity(model, train, objective).local(test)[k].item()
        assert abs(gauss_newton / rigidity - 1) > 1e-3
