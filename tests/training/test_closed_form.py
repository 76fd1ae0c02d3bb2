"""Closed forms against numpy's least squares on the stacked system, and against many digits."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import MODELS, ONE, TWO, make_batch
from tests.training import dense
from torchlpr import AtomBatch, LinearModel, Objective, SparseKernelModel
from torchlpr.training import fit
from torchlpr.training.closed_form import RidgePath, fit_linear, ridge_path

HEADS = ["linear", "linear two species", "kernel", "kernel two species"]
OBJECTIVES = [{}, {"energy_weight": 2.5}, {"per_atom": False, "energy_weight": 0.3}]


def graded(structures: int, types: tuple[int, ...], seed: int = 0) -> AtomBatch:
    """Features of sizes 1 to 1e-5, so that the eigenvalues of R^T R span ten decades."""
    batch = make_batch(structures, types, seed)
    return AtomBatch(
        batch.features * torch.logspace(0, -5, 4, dtype=torch.float64),
        batch.types,
        batch.structure,
        batch.energies,
    )


def head(name: str) -> nn.Module:
    return MODELS[name][1]()


@pytest.mark.parametrize("options", OBJECTIVES, ids=str)
@pytest.mark.parametrize("structures", [3, 40])
@pytest.mark.parametrize("name", HEADS)
def test_the_minimum_is_the_stacked_least_squares(
    name: str, structures: int, options: dict[str, float]
) -> None:
    model, batch = head(name), make_batch(structures, MODELS[name][0])
    for mu in (1e3, 1.0, 1e-3, 1e-8):
        objective = Objective(mu=mu, **options)
        fit_linear(model, batch, objective)
        r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
        np.testing.assert_allclose(
            dense.flat(model), dense.ridge(r, t, mu), rtol=1e-8, atol=1e-12 * np.abs(t).max()
        )


@pytest.mark.parametrize("relative", [10.0, 1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("types", [ONE, TWO], ids=str)
@pytest.mark.parametrize("structures", [3, 20])
def test_small_mu_keeps_its_digits(
    structures: int, types: tuple[int, ...], relative: float
) -> None:
    """The normal equations would lose all of them: the condition number is up to 1e12."""
    batch, model = graded(structures, types), LinearModel(4, types)
    r = dense.rows(model, batch, Objective(mu=1.0))
    mu = relative * float(np.linalg.norm(r, 2)) ** 2
    objective = Objective(mu=mu)
    fit_linear(model, batch, objective)
    t = dense.targets(batch, objective)
    exact = dense.ridge_of_many_digits(r, t, mu)
    scale = float(np.abs(exact).max())
    np.testing.assert_allclose(dense.flat(model), exact, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(dense.ridge(r, t, mu), exact, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("name", ["kernel", "kernel two species"])
def test_the_kernel_head_minimises_over_kernel_weights(name: str) -> None:
    """min |t - K_NM c|^2 + mu c^T K_MM c, in the weights of the kernels themselves."""
    model, batch = head(name), make_batch(30, MODELS[name][0])
    assert isinstance(model, SparseKernelModel)
    fit_linear(model, batch, Objective(mu=1e-3))
    inducing = model.inducing_batch()
    k = (batch.features.numpy() @ inducing.features.numpy().T) ** 2
    k *= batch.types.numpy()[:, None] == inducing.types.numpy()
    k_mm = (inducing.features.numpy() @ inducing.features.numpy().T) ** 2
    k_mm *= inducing.types.numpy()[:, None] == inducing.types.numpy()
    means = np.stack([k[batch.structure == a].mean(0) for a in range(30)])
    stacked = np.vstack([means, np.sqrt(1e-3) * np.linalg.cholesky(k_mm).T])
    right = np.concatenate([dense.targets(batch, Objective(mu=1.0)), np.zeros(len(k_mm))])
    c = np.linalg.lstsq(stacked, right, rcond=None)[0]
    found = torch.cat([*model.kernel_weights().values()]).detach()
    np.testing.assert_allclose(found, c, rtol=1e-9)
    local = model(batch.features, batch.types).detach()
    np.testing.assert_allclose(local, k @ c, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5)])
def test_effective_dof_is_a_trace(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    r, t = rng.normal(size=shape), rng.normal(size=shape[0])
    path = RidgePath(torch.from_numpy(r), torch.from_numpy(t))
    for mu in (1e-3, 0.7, 50.0):
        h = r.T @ r + mu * np.eye(shape[1])
        expected = np.trace(np.linalg.solve(h, r.T @ r))
        assert path.effective_dof(mu) == pytest.approx(expected, rel=1e-12)


def test_the_path_is_every_fit() -> None:
    batch, model = make_batch(20, TWO), head("linear two species")
    path = ridge_path(model, batch, Objective(mu=1.0))
    for mu in (1e-6, 1e-2, 10.0):
        result = fit(model, batch, Objective(mu=mu))
        assert result.optimizer == "closed-form"
        np.testing.assert_array_equal(dense.flat(model), path.weights(mu))
        assert result.stationarity.is_minimum
        expected = float(dense.loss(model, batch, Objective(mu=mu)).detach())
        assert result.loss == pytest.approx(expected, rel=1e-12)
        errors = [
            float(model(x.features, x.types).detach().mean() - x.labels() / len(x))
            for x in (batch.select([a]) for a in range(20))
        ]
        assert result.rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-12)
