"""Training on energies and forces: every optimiser against the equations written out."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import MODELS, make_batch
from tests.force_cases import dense as dense_derivatives
from tests.force_cases import make_force_batch
from tests.oracles import autograd_loops
from tests.training import dense
from torchlpr import AtomBatch, BehlerParrinelloMLP, InputError, LinearModel, Objective, Rigidity
from torchlpr.committee import Committee
from torchlpr.models.compression import compress
from torchlpr.training import LMSettings, fit, force_rmse, stationarity
from torchlpr.training.closed_form import fit_linear
from torchlpr.training.constrained import minimise, retrain
from torchlpr.training.grid_search import default_grid, search_mu
from torchlpr.training.problem import Problem

OBJECTIVE = Objective(mu=0.03, energy_weight=1.7, force_weight=0.2)
HEADS = ["linear", "linear two species", "kernel", "kernel two species"]
NETWORKS = ["mlp two species", "mlp bias tanh", "mlp softplus"]


def forces_of(model, batch: AtomBatch) -> torch.Tensor:
    """-sum_k dE/dx_k . dx_k/dr_i with the derivatives as a dense array."""
    x = batch.features.clone().requires_grad_()
    energy = model(x, batch.types).sum()
    (slope,) = torch.autograd.grad(energy, x, create_graph=True)
    blocks = torch.from_numpy(dense_derivatives(batch.derivatives, len(batch)))
    return -torch.einsum("kf,kixf->ix", slope, blocks)


def loss(model, batch: AtomBatch, objective: Objective) -> torch.Tensor:
    """The energies' loss of the oracle, and 1/2 c_F |dF|^2 of the atoms that have forces."""
    known = ~torch.isnan(batch.forces[:, 0])
    error = (forces_of(model, batch) - batch.forces)[known]
    return dense.loss(model, batch, objective) + objective.force_weight * error.square().sum() / 2


def stacked(model: nn.Module, batch: AtomBatch, objective: Objective):
    """Rows and targets of a head linear in its weights: what it predicts for unit weights."""
    r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
    columns, keep = [], model.weight.data.clone()
    for e in torch.eye(len(keep), dtype=torch.float64):
        model.weight.data = e
        columns.append(forces_of(model, batch).detach().reshape(-1).numpy())
    model.weight.data = keep
    root = objective.force_weight**0.5
    known = ~np.isnan(batch.forces.reshape(-1).numpy())
    forces = root * np.stack(columns, axis=1)[known]
    labels = root * batch.forces.reshape(-1).numpy()[known]
    return np.vstack([r, forces]), np.concatenate([t, labels])


@pytest.mark.parametrize("options", [{}, {"per_atom": False}], ids=str)
@pytest.mark.parametrize("structures", [1, 9])
@pytest.mark.parametrize("name", HEADS)
def test_the_closed_form_is_the_stacked_least_squares(
    name: str, structures: int, options: dict
) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_force_batch(structures, types)
    for mu in (10.0, 1e-3, 1e-8):
        objective = replace(OBJECTIVE, mu=mu, **options)
        r, t = stacked(model, batch, objective)
        result = fit(model, batch, objective)
        assert result.optimizer == "closed-form"
        expected = dense.ridge(r, t, mu)
        np.testing.assert_allclose(
            dense.flat(model), expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max()
        )
        assert result.stationarity.is_minimum
        error = forces_of(model, batch).detach() - batch.forces
        assert result.force_rmse == pytest.approx(float(error.square().mean().sqrt()), rel=1e-10)


def test_rows_in_blocks_or_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    types, build = MODELS["linear two species"]
    batch, one, two = make_force_batch(9, types), build(), build()
    fit_linear(one, batch, OBJECTIVE)
    monkeypatch.setattr("torchlpr.curvature.row_chunks.CHUNK_BYTES", 8 * 8 * 5)
    fit_linear(two, batch, OBJECTIVE)
    np.testing.assert_allclose(dense.flat(one), dense.flat(two), rtol=1e-11)


@pytest.mark.parametrize("name", [*NETWORKS, *HEADS])
def test_c6_the_full_hessian_where_labels_are_the_models_own(name: str) -> None:
    """Without residuals it is R^T R + mu I; with them products are those of autograd."""
    types, build = MODELS[name]
    model, batch = build(), make_force_batch(4, types)
    weights = torch.from_numpy(dense.flat(model))
    local = model(batch.features, batch.types).detach()
    totals = torch.zeros(4, dtype=torch.float64).index_add(0, batch.structure, local)
    exact = replace(batch, energies=totals, forces=forces_of(model, batch).detach())
    for data, residuals in ((exact, False), (batch, True)):
        hessian = autograd_loops.loss_hessian(
            lambda w, d=data: loss(At(model, w), d, OBJECTIVE), weights
        ).numpy()
        problem = Problem(build().requires_grad_(True), data, OBJECTIVE)
        here = problem.linearise(weights)
        scale = np.abs(hessian).max()
        _, product = problem.derivatives(weights)
        columns = torch.stack([product(e) for e in torch.eye(len(weights)).double()])
        np.testing.assert_allclose(columns, hessian, rtol=0, atol=1e-11 * scale)
        if not residuals:
            gauss_newton = (
                here.rows.mT @ here.rows + OBJECTIVE.mu * torch.eye(len(weights)).double()
            )
            np.testing.assert_allclose(gauss_newton, hessian, rtol=0, atol=1e-10 * scale)
            assert float(here.residuals.abs().max()) < 1e-13


class At:
    """A model at weights of one's choice."""

    def __init__(self, model: nn.Module, weights: torch.Tensor) -> None:
        self.call, self.weights = autograd_loops.with_weights(model, weights), weights

    def __call__(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return self.call(features, types)

    def parameters(self) -> list[torch.Tensor]:
        return [self.weights]


@pytest.mark.parametrize("structures", [2, 12])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_that_of_the_dense_normal_equations(name: str, structures: int) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_force_batch(structures, types)
    before = dense.flat(model)
    problem = Problem(build(), batch, OBJECTIVE)
    tall = OBJECTIVE.n_rows(batch) > len(before)
    assert tall == (structures == 12)
    here = problem.linearise(problem.weights)
    gradient = torch.autograd.grad(loss(model, batch, OBJECTIVE), list(model.parameters()))
    gradient = torch.cat([g.reshape(-1) for g in gradient]).numpy()
    r = here.rows.numpy()
    for damped in (2 * OBJECTIVE.mu, 0.5):
        factor = here.factor(damped)
        assert factor.shape_name == ("parameter space" if tall else "row space")
        step = factor.solve(torch.from_numpy(gradient)[None])[0]
        expected = np.linalg.solve(r.T @ r + damped * np.eye(len(gradient)), gradient)
        np.testing.assert_allclose(step, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
    # the first step of the optimiser is this one, where it is accepted
    fit(model, batch, OBJECTIVE, "lm", lm_settings=LMSettings(1, newton_steps=0), progress=False)
    step = np.linalg.solve(r.T @ r + 2 * OBJECTIVE.mu * np.eye(len(gradient)), gradient)
    found = dense.flat(model) - before
    assert np.abs(found).max() == 0 or np.allclose(found, -step, rtol=1e-8, atol=1e-12)
    at_step, at_start = (
        float(loss(At(build(), torch.from_numpy(w)), batch, OBJECTIVE).detach())
        for w in (before - step, before)
    )
    assert (at_step < at_start) == bool(np.abs(found).max() > 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_minimum_is_reached_and_holds(name: str) -> None:
    """The gradient of the loss written out vanishes, and its Hessian has no negative eigenvalue."""
    types, build = MODELS[name]
    model, batch = build(), make_force_batch(5, types)
    objective = replace(OBJECTIVE, mu=0.3)
    result = fit(model, batch, objective, progress=False)
    weights = torch.from_numpy(dense.flat(model))
    gradient = torch.autograd.grad(loss(model, batch, objective), list(model.parameters()))
    size = math.sqrt(sum(float(g.square().sum()) for g in gradient))
    assert size <= 1e-7 * objective.mu * float(weights.norm())
    hessian = autograd_loops.loss_hessian(lambda w: loss(At(model, w), batch, objective), weights)
    assert float(torch.linalg.eigvalsh(hessian.detach())[0]) > 0
    assert result.stationarity.is_minimum
    assert result.loss == pytest.approx(float(loss(model, batch, objective).detach()), rel=1e-12)
    assert f"and {result.force_rmse:.2e} eV/Å" in str(result)
    # C4 with forces: held away from there, the loss rises by half the rigidity times shift^2
    atom = batch.select([0])
    atom = AtomBatch(atom.features[:1], atom.types[:1], atom.structure[:1])
    least = minimise(model, batch, objective)
    rises = [retrain(least, batch, objective, atom, s).rise for s in (1e-3, -1e-3)]
    h = autograd_loops.loss_hessian(
        lambda w: loss(At(least, w), batch, objective), torch.from_numpy(dense.flat(least))
    )
    g = autograd_loops.atomic_gradients(least, atom.features, atom.types)[0].detach()
    rigidity = 1 / float(g @ torch.linalg.solve(h, g))
    assert sum(rises) / 1e-6 == pytest.approx(rigidity, rel=1e-4)


@pytest.mark.parametrize("name", ["linear", "kernel two species"])
def test_retraining_a_linear_head_is_its_rigidity(name: str) -> None:
    types, build = MODELS[name]
    batch = make_force_batch(5, types)
    model = minimise(build(), batch, OBJECTIVE)
    one = batch.select([2])
    atom = AtomBatch(one.features[:1], one.types[:1], one.structure[:1])
    held = retrain(model, batch, OBJECTIVE, atom, 0.7)
    expected = float(Rigidity(model, batch, OBJECTIVE).local(atom))
    assert 2 * held.rise / 0.7**2 == pytest.approx(expected, rel=1e-9)
    assert held.multiplier == pytest.approx(-0.7 * expected, rel=1e-9)


def test_adam_descends_the_loss_written_out() -> None:
    types, build = MODELS["mlp bias tanh"]
    batch, validation = make_force_batch(6, types), make_force_batch(3, types, seed=1)
    gone = torch.isin(batch.structure, torch.tensor([1, 4])).unsqueeze(1)
    batch = replace(batch, forces=torch.where(gone, torch.nan, batch.forces))
    model, twin = build(), build()
    result = fit(model, batch, OBJECTIVE, "adam", epochs=20, lr=0.01, validation=validation,
                 progress=False)  # fmt: skip
    optimizer, history = torch.optim.Adam(twin.parameters(), lr=0.01), []
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(twin, batch, OBJECTIVE)
        value.backward()
        known = ~gone.squeeze(1)
        error = (forces_of(twin, batch) - batch.forces).detach()[known]
        history.append((float(value.detach()), float(error.square().mean().sqrt())))
        optimizer.step()
    np.testing.assert_allclose(dense.flat(model), dense.flat(twin), rtol=1e-9)
    table = np.array(result.epochs)
    np.testing.assert_allclose(table[:, [1, 5]], history, rtol=1e-9)
    assert table[-1, 6] == pytest.approx(force_rmse(model, validation), rel=0.05)


def test_mini_batches_have_the_loss_as_their_mean() -> None:
    """The data terms of an epoch's batches, each scaled up to the whole, average to it."""
    types, build = MODELS["mlp"]
    model, batch = build(), make_force_batch(6, types)
    batch = batch.to(dtype=torch.float32)
    model = model.float()
    result = fit(model, batch, OBJECTIVE, "adam", epochs=1, lr=1e-9, batch_size=2, progress=False)
    expected = float(loss(build(), make_force_batch(6, types), OBJECTIVE).detach())
    assert result.epochs[0][1] == pytest.approx(expected, rel=1e-5)


def test_killed_and_resumed(tmp_path: Path) -> None:
    types, build = MODELS["mlp"]
    batch, settings = make_force_batch(5, types), LMSettings(8, newton_steps=0)
    whole, half = build(), build()
    fit(whole, batch, OBJECTIVE, "lm", lm_settings=settings, progress=False)
    fit(half, batch, OBJECTIVE, "lm", lm_settings=settings, out=tmp_path, progress=False)
    np.testing.assert_array_equal(dense.flat(half), dense.flat(whole))
    other = replace(batch, forces=2 * batch.forces)
    with pytest.raises(InputError, match="belongs to a training on other data"):
        fit(build(), other, OBJECTIVE, "lm", lm_settings=settings, out=tmp_path, progress=False)


def test_a_network_on_the_span_of_features_and_derivatives() -> None:
    """Derivatives that leave the span of the features must not be cut off."""
    rng = np.random.default_rng(0)
    batch, wide = make_force_batch(4), 12
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(wide, wide)))[0])
    d = batch.derivatives
    pad = torch.zeros(*d.values.shape[:2], wide, dtype=torch.float64)
    pad[:, :, 2:6] = d.values  # two dimensions that no feature has
    features = torch.nn.functional.pad(batch.features, (0, wide - 4)) @ turn
    batch = replace(batch, features=features, derivatives=replace(d, values=pad @ turn))
    model = BehlerParrinelloMLP(wide, [14], (3,), "tanh", seed=1)
    small = compress(model, batch)
    assert small is not None
    assert small.basis.shape == (wide, 6)
    reached = fit(model, batch, replace(OBJECTIVE, mu=0.3), progress=False)
    assert reached.stationarity.is_minimum
    assert stationarity(model, batch, replace(OBJECTIVE, mu=0.3)).relative_gradient < 1e-6


def test_mu_is_chosen_by_the_loss_with_forces() -> None:
    types, build = MODELS["linear two species"]
    train, valid = make_force_batch(6, types), make_force_batch(5, types, seed=1)
    search = search_mu(build(), train, valid, OBJECTIVE, [100.0, 1.0, 1e-2])
    values = []
    for mu in search.mus:
        trial = build()
        fit(trial, train, replace(OBJECTIVE, mu=mu))
        penalty = mu / 2 * float(np.square(dense.flat(trial)).sum())
        values.append(float(loss(trial, valid, replace(OBJECTIVE, mu=mu)).detach()) - penalty)
    assert search.best == search.mus[int(np.argmin(values))]
    r, _ = stacked(build(), train, OBJECTIVE)
    largest = np.linalg.norm(r, 2) ** 2
    assert default_grid(build(), train, OBJECTIVE)[0] == pytest.approx(0.1 * largest, rel=1e-10)


def test_rows_that_do_not_fit_are_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    types, build = MODELS["mlp"]
    model, batch = build(), make_force_batch(3, types)
    before, n_rows = dense.flat(model), OBJECTIVE.n_rows(batch)
    monkeypatch.setattr("torchlpr.training.second_order.memory_limit", lambda device: 1000)
    with pytest.raises(InputError, match=f"{n_rows} rows of 26 .* 1 kB .*optimizer='adam'"):
        fit(model, batch, OBJECTIVE, "lm", progress=False)
    np.testing.assert_array_equal(dense.flat(model), before)


def test_what_is_missing_is_said_before_training() -> None:
    types, build = MODELS["mlp"]
    batch = make_force_batch(3, types)
    with pytest.raises(InputError, match=r"forces weigh 0\.2, but this batch has no derivatives"):
        fit(build(), make_batch(3, types), OBJECTIVE)
    with pytest.raises(InputError, match="no forces, which the objective weighs"):
        fit(build(), replace(batch, forces=None), OBJECTIVE)
    with pytest.raises(InputError, match=r"trained on energies alone, but force_weight is 0\.2"):
        Committee.train(LinearModel(4, types), batch, OBJECTIVE)
    assert force_rmse(build(), make_batch(3, types)) is None
    # forces that do not weigh are as if they were not there
    one, two = build(), build()
    fit(one, batch, replace(OBJECTIVE, force_weight=0.0), progress=False)
    fit(two, make_batch(3, types), replace(OBJECTIVE, force_weight=0.0), progress=False)
    np.testing.assert_array_equal(dense.flat(one), dense.flat(two))
