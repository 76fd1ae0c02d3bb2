"""Adam through Lightning against a loop of twenty lines and a loss written out."""

import math
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import vector_to_parameters

from tests.cases import MODELS, ONE, make_batch
from tests.force_cases import make_force_batch
from tests.training import dense
from torchlpr import AtomBatch, LinearModel, Objective
from torchlpr.structures.datamodule import StructureDataModule
from torchlpr.structures.epochs import EpochSampler
from torchlpr.training import AdamSettings, fit, train_network
from torchlpr.training.module import PotentialModule

OBJECTIVE = Objective(mu=0.02, energy_weight=1.7)


class Plateau:
    """The learning rate of the paper: halved after ``patience`` epochs without a lower loss."""

    def __init__(self, lr: float, factor: float, patience: int, cooldown: int) -> None:
        self.lr, self.factor, self.patience, self.cooldown = lr, factor, patience, cooldown
        self.best, self.bad, self.rest = math.inf, 0, 0

    def step(self, loss: float) -> None:
        better = loss < self.best * (1 - 1e-4)
        self.best, self.bad = (loss, 0) if better else (self.best, self.bad + 1)
        if self.rest:
            self.rest, self.bad = self.rest - 1, 0
        if self.bad > self.patience:
            self.lr, self.rest, self.bad = self.lr * self.factor, self.cooldown, 0


def by_hand(model: nn.Module, batch: AtomBatch, settings: AdamSettings) -> list[list[float]]:
    """Loss and learning rate of every epoch; Adam as Kingma and Ba write it."""
    plateau = Plateau(settings.lr, settings.factor, settings.patience, settings.cooldown)
    first = {p: torch.zeros_like(p) for p in model.parameters()}
    second = {p: torch.zeros_like(p) for p in model.parameters()}
    rows = []
    for epoch in range(1, settings.epochs + 1):
        loss = dense.loss(model, batch, OBJECTIVE)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        for p, g in zip(model.parameters(), gradients, strict=True):
            first[p] = 0.9 * first[p] + 0.1 * g
            second[p] = 0.999 * second[p] + 0.001 * g**2
            m, v = first[p] / (1 - 0.9**epoch), second[p] / (1 - 0.999**epoch)
            p.data -= plateau.lr * m / (v.sqrt() + 1e-8)
        rows.append([float(loss.detach()), plateau.lr])
        plateau.step(float(loss.detach()))
    return rows


@pytest.mark.parametrize("name", ["mlp two species", "mlp bias tanh"])
def test_history_is_the_loss_and_the_rate_of_the_paper(name: str) -> None:
    types, build = MODELS[name]
    batch, validation = make_batch(6, types), make_batch(4, types, seed=1)
    settings = AdamSettings(epochs=30, lr=0.5, patience=2, cooldown=4)
    model, twin = build(), build()
    rows = train_network(model, batch, OBJECTIVE, settings, validation, progress=False)
    expected = by_hand(twin, batch, settings)
    assert [row[0] for row in rows] == list(range(30))
    np.testing.assert_allclose([[row[1], row[4]] for row in rows], expected, rtol=1e-9)
    np.testing.assert_allclose(dense.flat(model), dense.flat(twin), rtol=1e-8)
    rates = [row[4] for row in rows]
    falls = [k for k in range(1, 30) if rates[k] < rates[k - 1]]
    assert len(falls) >= 2  # or this would show nothing
    assert min(np.diff(falls)) > 4 + 2


def test_logged_errors_are_those_before_the_step() -> None:
    types, build = MODELS["mlp two species"]
    batch, validation, model = make_batch(6, types), make_batch(4, types, seed=1), build()
    local = model(batch.features, batch.types).detach().numpy()
    total = np.bincount(batch.structure, local)
    error = (total - batch.labels().numpy()) / np.bincount(batch.structure)
    rows = train_network(
        model, batch, OBJECTIVE, AdamSettings(epochs=1), validation, progress=False
    )
    assert rows[0][2] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    after = np.bincount(
        validation.structure, model(validation.features, validation.types).detach().numpy()
    )
    error = (after - validation.labels().numpy()) / np.bincount(validation.structure)
    assert rows[0][3] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    bare = train_network(model, batch, OBJECTIVE, AdamSettings(epochs=1), progress=False)
    assert math.isnan(bare[0][3])


@pytest.mark.parametrize("mu", [1e-3, 1.0])
def test_a_linear_model_meets_the_closed_form(mu: float) -> None:
    """Explicit L2 in the loss ends at the ridge; decoupled weight decay would not."""
    batch, objective = make_batch(20, seed=3), Objective(mu=mu)
    model = LinearModel(4, ONE)
    plateau = {"epochs": 1200, "lr": 0.1, "patience": 20, "cooldown": 10}
    result = fit(model, batch, objective, "adam", progress=False, **plateau)
    r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
    np.testing.assert_allclose(dense.flat(model), dense.ridge(r, t, mu), rtol=0, atol=1e-6)
    assert result.optimizer == "adam"
    assert result.stationarity.is_minimum


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_gradients_of_minibatches_add_up(size: int) -> None:
    """Weighted by their structures, the gradients of an epoch are that of the full loss."""
    types, build = MODELS["mlp two species"]
    batch, model = make_batch(7, types), build()
    module = PotentialModule(model, OBJECTIVE, batch.n_structures)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    total = np.zeros(sum(p.numel() for p in model.parameters()))
    for part in StructureDataModule(batch, batch_size=size).train_dataloader():
        parts = torch.autograd.grad(module.training_step(part, 0), list(model.parameters()))
        share = part.n_structures / batch.n_structures
        total += share * torch.cat([p.reshape(-1) for p in parts]).numpy()
    np.testing.assert_allclose(total, dense.gradient(model, batch, OBJECTIVE), rtol=1e-11)


def test_minibatches_are_steps_of_their_own() -> None:
    types, build = MODELS["mlp"]
    batch = make_batch(6, types)
    models = [build() for _ in range(4)]
    options = [(None, 0), (2, 0), (2, 0), (2, 1)]
    for model, (size, seed) in zip(models, options, strict=True):
        settings = AdamSettings(epochs=3, batch_size=size, seed=seed)
        rows = train_network(model, batch, OBJECTIVE, settings, progress=False)
        assert len(rows) == 3
    full, one, again, other = map(dense.flat, models)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, full)
    assert not np.array_equal(one, other)


def test_a_float32_model_trains_and_is_judged_in_float64() -> None:
    types, build = MODELS["mlp two species"]
    batch, model = make_batch(6, types), build().to(torch.float32)
    result = fit(model, batch, OBJECTIVE, "adam", epochs=20, progress=False)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert result.epochs[-1][1] < result.epochs[0][1]
    double = build()
    double.load_state_dict(model.state_dict())
    rounded = AtomBatch(
        batch.features.float().double(), batch.types, batch.structure, batch.energies
    )
    expected = float(dense.loss(double, rounded, OBJECTIVE).detach())
    assert result.loss == pytest.approx(expected, rel=1e-13)
    norm = float(np.linalg.norm(dense.gradient(double, rounded, OBJECTIVE)))
    assert result.stationarity.gradient_norm == pytest.approx(norm, rel=1e-10)


@pytest.mark.parametrize("forces", [False, True])
def test_the_recipe_of_yoo(forces: bool) -> None:
    """Batches of two in the sampler's order, the rate 0.01 (0.00017/0.01)^(t/(T-1)), T steps."""
    types, build = MODELS["mlp bias tanh"]
    batch = make_force_batch(5, types) if forces else make_batch(5, types)
    objective = Objective(0.02, 1.7, force_weight=0.2 if forces else 0.0)
    settings = replace(AdamSettings.yoo(seed=3), batch_size=2, iterations=17)
    model, twin = build(), build()
    rows = train_network(model, batch, objective, settings, progress=False)
    optimizer, sampler = torch.optim.Adam(twin.parameters()), EpochSampler(5, 2, 3)
    rates, losses = [], []
    for step in range(17):
        epoch, place = divmod(step, 3)
        sampler.set_epoch(epoch)
        part = batch.select(list(sampler)[place])
        rates.append(0.01 * (0.00017 / 0.01) ** (step / 16))
        optimizer.param_groups[0]["lr"] = rates[-1]
        optimizer.zero_grad()
        scale = 5 / part.n_structures
        loss = scale * objective.data_loss(objective.batch_residuals(twin, part))
        loss = loss + objective.penalty(twin.parameters())
        loss.backward()
        losses.append((float(loss.detach()), part.n_structures))
        optimizer.step()
    np.testing.assert_allclose(dense.flat(model), dense.flat(twin), rtol=1e-8, atol=1e-12)
    assert len(rows) == 6  # five epochs of three batches, and two steps
    for epoch, row in enumerate(rows):
        values, sizes = np.array(losses[3 * epoch : 3 * epoch + 3]).T
        assert row[1] == pytest.approx(np.average(values, weights=sizes), rel=1e-9)
    assert rows[-1][4] <= 0.00017 * 1.0001
    assert rates[-1] == pytest.approx(0.00017)


class Weights(L.Callback):
    """Those after every epoch."""

    def __init__(self) -> None:
        self.seen = list[np.ndarray]()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.append(dense.flat(pl_module))


@pytest.mark.parametrize("epochs", [3, 200])
@pytest.mark.parametrize("patience", [1, 6])
@pytest.mark.parametrize("name", ["mlp two species", "mlp linear"])
def test_early_stopping_goes_back_to_the_least_validation_error(
    name: str, patience: int, epochs: int
) -> None:
    types, build = MODELS[name]
    batch, validation = make_batch(6, types), make_batch(4, types, seed=1)
    settings = AdamSettings(epochs=epochs, lr=0.05, early_stopping=patience)
    model, weights = build(), Weights()
    rows = train_network(
        model, batch, OBJECTIVE, settings, validation, progress=False, callbacks=[weights]
    )
    errors, twin = [], build()
    for flat in weights.seen:
        vector_to_parameters(torch.from_numpy(flat), twin.parameters())
        local = twin(validation.features, validation.types).detach().numpy()
        n = np.bincount(validation.structure)
        total = np.bincount(validation.structure, local)
        errors.append(np.sqrt(np.mean(((total - validation.labels().numpy()) / n) ** 2)))
    np.testing.assert_allclose([row[3] for row in rows], errors, rtol=1e-10)
    best = int(np.argmin(errors))
    np.testing.assert_array_equal(dense.flat(model), weights.seen[best])
    if epochs == 200:
        assert len(rows) == best + patience + 1 < epochs  # or this would show nothing
    assert all(k - int(np.argmin(errors[: k + 1])) < patience for k in range(len(errors) - 1))
