"""What fit does not take, each told in a sentence that names it."""

import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from tests.cases import MODELS, make_batch
from torchlpr import AtomBatch, InputError, Objective, Rigidity
from torchlpr.training import AdamSettings, energy_rmse, fit
from torchlpr.training.module import PotentialModule

OBJECTIVE = Objective(mu=0.02)


def mlp() -> nn.Module:
    return MODELS["mlp"][1]()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "sgd"}, "optimizer 'sgd' is unknown; use one of auto, adam, lm"),
        ({"optimizer": "closed-form"}, "BehlerParrinelloMLP is not linear in its parameters"),
        ({"optimizer": "adam", "momentum": 1, "beta": 2}, "beta, momentum is no setting of Adam"),
        ({"epochs": 0}, "epochs must be positive"),
        ({"lr": -1.0}, "lr positive"),
        ({"factor": 1.0}, "factor between 0 and 1"),
        *(({"batch_size": size}, "batch_size must be at least 1") for size in (0, 2.5, True)),
        ({"early_stopping": 0}, "early_stopping must be positive, not 0"),
        ({"early_stopping": 5}, "early_stopping 5 needs structures to validate on; give valid"),
        ({"epochs": 1, "seed": -1}, "seed must not be negative"),
        (
            {"iterations": 0},
            "iterations must be positive, or None to train for .*, not 0",
        ),
        ({"final_lr": 0.1}, r"final_lr must be positive and at most lr, .*, not 0.1 with lr 0.005"),
        ({"final_lr": 0.0}, "final_lr must be positive and at most lr"),
    ],
    ids=str,
)
def test_settings(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit(mlp(), make_batch(3), OBJECTIVE, progress=False, **options)


@pytest.mark.parametrize("mu", [0, 0.0, -1.0, float("nan")])
def test_a_loss_without_regulariser(mu: float) -> None:
    with pytest.raises(InputError, match=r"mu must be a positive number, not .*: without the L2"):
        fit(mlp(), make_batch(3), Objective(mu=mu), progress=False)


def test_training_sets() -> None:
    batch = make_batch(3)
    with pytest.raises(InputError, match="training set is empty"):
        fit(mlp(), batch.select([]), OBJECTIVE)
    with pytest.raises(InputError, match="no energies"):
        fit(mlp(), AtomBatch(batch.features, batch.types, batch.structure), OBJECTIVE)
    energies = torch.tensor([0.0, float("nan"), 1.0]).double()
    with pytest.raises(InputError, match="the energy of structure 1 is not finite"):
        AtomBatch(batch.features, batch.types, batch.structure, energies)


def test_models_that_cannot_be_trained() -> None:
    with pytest.raises(InputError, match="has no parameters"):
        fit(nn.Identity(), make_batch(3), OBJECTIVE)
    model = mlp()
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("inf")
    with pytest.raises(InputError, match=r"parameter 'networks.0.0.weight' .* not finite"):
        fit(model, make_batch(3), OBJECTIVE)


class Ignores(nn.Module):
    """Atomic energies that have nothing to do with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3).double())

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        return features.sum(1)


class Columns(Ignores):
    """Energies of shape (atoms, 1), as a linear layer gives them."""

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        return features[:, :3] @ self.weight[:, None]


class Dropout(Ignores):
    """Random in training mode."""

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        drawn = nn.functional.dropout(features[:, :3], 0.5, self.training)
        return (drawn * self.weight.exp()).sum(1)


OPTIMIZERS: list[dict[str, Any]] = [{"optimizer": "lm"}, {"optimizer": "adam", "epochs": 2}]


@pytest.mark.parametrize("options", OPTIMIZERS, ids=str)
def test_modules_that_are_no_potential(options: dict[str, Any], tmp_path: Path) -> None:
    batch = make_batch(3)
    with pytest.raises(InputError, match="energies of Ignores do not depend on its parameters"):
        fit(Ignores(), batch, OBJECTIVE, out=tmp_path, progress=False, **options)
    words = r"one energy for each atom.* shape \(\d+,\), but Columns gives \(\d+, 1\)"
    with pytest.raises(InputError, match=words):
        fit(Columns(), batch, OBJECTIVE, out=tmp_path, progress=False, **options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("options", OPTIMIZERS, ids=str)
def test_frozen_weights_are_not_moved_in_silence(options: dict[str, Any]) -> None:
    model = mlp()
    frozen = dict(model.named_parameters())["networks.0.2.weight"].requires_grad_(False)
    before = frozen.clone()
    with pytest.raises(InputError, match=r"'networks.0.2.weight' is frozen .*requires_grad_"):
        fit(model, make_batch(3), OBJECTIVE, progress=False, **options)
    assert torch.equal(frozen, before)


def test_second_order_training_and_rigidity_see_a_module_as_it_predicts() -> None:
    """A module in training mode may draw random numbers; its minimum is that without them."""
    batch, results = make_batch(6), []
    for training in (True, False):
        model = Dropout().train(training)
        result = fit(model, batch, OBJECTIVE, "lm", progress=False)
        assert model.training is training
        assert result.stationarity.is_minimum
        assert result.rmse == energy_rmse(model.eval(), batch)
        lpr = Rigidity(model.train(training), batch, OBJECTIVE).local(batch)
        results.append((model.weight.detach(), lpr))
    for left, right in zip(*results, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("lr", [1e200, 1e308])
def test_a_loss_that_is_not_finite(lr: float) -> None:
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) in epoch 1; lower the learn"):
        fit(mlp(), make_batch(3), OBJECTIVE, "adam", epochs=5, lr=lr, progress=False)


def test_auto() -> None:
    batch = make_batch(3)
    assert fit(mlp(), batch, OBJECTIVE, progress=False).optimizer == "lm"
    assert fit(mlp(), batch, OBJECTIVE, epochs=1, progress=False).optimizer == "adam"
    given = fit(mlp(), batch, OBJECTIVE, settings=AdamSettings(epochs=1), progress=False)
    assert given.optimizer == "adam"
    assert len(given.epochs) == 1
    linear = MODELS["linear"][1]()
    assert fit(linear, batch, OBJECTIVE).optimizer == "closed-form"


def test_single_settings_go_over_the_whole() -> None:
    settings = AdamSettings(epochs=7, lr=0.1)
    result = fit(mlp(), make_batch(3), OBJECTIVE, settings=settings, epochs=2, progress=False)
    assert [row[4] for row in result.epochs] == [0.1, 0.1]


def test_ctrl_c_is_what_it_is(tmp_path: Path) -> None:
    """Lightning would turn Ctrl-C off for the rest of the process and exit with code 1."""

    class Interrupt(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(mlp(), make_batch(3), OBJECTIVE, epochs=2, progress=False, callbacks=[Interrupt()])
    assert signal.getsignal(signal.SIGINT) is before


def test_lightning_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fit(mlp(), make_batch(3), OBJECTIVE, epochs=2, progress=False)
    assert [*tmp_path.iterdir()] == []
    assert capsys.readouterr() == ("", "")
    fit(mlp(), make_batch(3), OBJECTIVE, "adam+lm", epochs=2, progress=True)
    shown = capsys.readouterr().err
    assert "training" in shown
    assert "levenberg-marquardt" in shown


def test_the_defaults_are_those_of_the_paper() -> None:
    """Adam at 0.005, halved after 100 epochs on a plateau: supporting information, section 2."""
    settings = AdamSettings()
    assert (settings.lr, settings.factor, settings.patience) == (0.005, 0.5, 100)
    optimizers = PotentialModule(mlp(), OBJECTIVE, 3).configure_optimizers()
    adam = optimizers["optimizer"]
    assert type(adam) is torch.optim.Adam
    assert adam.defaults["weight_decay"] == 0
