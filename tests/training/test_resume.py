"""Killed and started again: the weights and the log of an uninterrupted training, bit by bit."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from tests.cases import MODELS, make_batch
from tests.training import dense
from torchlpr import BehlerParrinelloMLP, InputError, Objective
from torchlpr.models import compression
from torchlpr.training import LBFGSSettings, LMSettings, fit, lbfgs
from torchlpr.training.callbacks import ResumableCheckpoint
from torchlpr.training.network import CHECKPOINT
from torchlpr.training.problem import Linearisation, Problem
from torchlpr.training.resume import SavePoint

OBJECTIVE = Objective(mu=0.02)
TYPES, BUILD = MODELS["mlp bias silu two species"]
BATCH, VALIDATION = make_batch(7, TYPES), make_batch(3, TYPES, seed=1)
WAYS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam", "epochs": 30, "lr": 0.5, "patience": 2, "cooldown": 3},
    "mini-batches": {"optimizer": "adam", "epochs": 12, "batch_size": 2, "seed": 5},
    "iterations": {
        "optimizer": "adam",
        "iterations": 30,
        "batch_size": 2,
        "lr": 0.1,
        "final_lr": 1e-3,
    },
    "early": {"optimizer": "adam", "epochs": 99, "lr": 0.1, "early_stopping": 9},
    "lm": {"optimizer": "lm", "lm_settings": LMSettings(12, 1e-12, 0)},
    "lbfgs": {"optimizer": "lbfgs", "lbfgs_settings": LBFGSSettings(12, 4)},
    "adam+lm": {"optimizer": "adam+lm", "epochs": 8, "lm_settings": LMSettings(12, 1e-8, 0)},
}


class Killed(Exception):
    """Stands for whatever ends a process."""


class StopAfter(L.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise Killed


@pytest.fixture(autouse=True)
def save_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (ResumableCheckpoint, SavePoint):
        monkeypatch.setattr(cls.__init__, "__defaults__", (0.0,))


def train(way: str, out: Path | None, **options: Any) -> tuple[np.ndarray, Any]:
    model = BUILD()
    arguments = WAYS[way] | {"validation": VALIDATION, "progress": False} | options
    result = fit(model, BATCH, OBJECTIVE, out=out, **arguments)
    return dense.flat(model), result


def stop_lm(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the step of that number, and each after it, end the process."""
    real, calls = Linearisation.factor, list[int]()

    def factor(*args: Any) -> Any:
        calls.append(1)
        if len(calls) > step:
            raise Killed
        return real(*args)

    monkeypatch.setattr(Linearisation, "factor", factor)


def same(left: Any, right: Any) -> None:
    np.testing.assert_array_equal(left[0], right[0])
    np.testing.assert_array_equal(left[1].epochs, right[1].epochs)
    np.testing.assert_array_equal(left[1].steps, right[1].steps)
    assert left[1].stationarity == right[1].stationarity


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_gives_the_same_bits(way: str, tmp_path: Path) -> None:
    first = train(way, None)
    torch.rand(3)  # the global generator plays no part
    same(first, train(way, None))
    same(first, train(way, tmp_path))  # nor do checkpoints


@pytest.mark.parametrize(
    ("way", "stop"),
    [
        *itertools.product(("adam", "mini-batches", "early"), (1, 6, 11)),
        *itertools.product(("iterations",), (1, 6, 7)),  # of eight epochs
    ],
)
def test_adam_goes_on(way: str, stop: int, tmp_path: Path) -> None:
    whole = train(way, tmp_path / "whole")
    with pytest.raises(Killed):
        train(way, tmp_path / "cut", callbacks=[StopAfter(stop)])
    saved = torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)
    assert saved["epoch"] == stop - 1
    same(whole, train(way, tmp_path / "cut"))
    tables = [(tmp_path / run / "metrics.csv").read_text() for run in ("whole", "cut")]
    assert tables[0] == tables[1]
    assert tables[0].splitlines()[0] == "epoch,loss,rmse_train,rmse_validation,lr"
    assert len(tables[0].splitlines()) == 1 + len(whole[1].epochs)
    assert (len(whole[1].epochs) < WAYS[way].get("epochs", 8)) == (way == "early")


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_lbfgs_goes_on(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("lbfgs", tmp_path / "whole")
    real = lbfgs._Run.step

    def killed(run: Any) -> None:
        if len(run.rows) == stop:
            raise Killed
        real(run)

    with monkeypatch.context() as patch:
        patch.setattr(lbfgs._Run, "step", killed)
        with pytest.raises(Killed):
            train("lbfgs", tmp_path / "cut")
    same(whole, train("lbfgs", tmp_path / "cut"))
    tables = [(tmp_path / run / "metrics.csv").read_text() for run in ("whole", "cut")]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 13


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_levenberg_marquardt_goes_on(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("lm", tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_lm(patch, stop)
        with pytest.raises(Killed):
            train("lm", tmp_path / "cut")
    same(whole, train("lm", tmp_path / "cut"))
    tables = [(tmp_path / run / "steps.csv").read_text() for run in ("whole", "cut")]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == 13


@pytest.mark.parametrize("stop", [3, 5, 7])
def test_newton_goes_on(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LMSettings(steps=4, tolerance=1e-14, newton_steps=6)
    whole = train("lm", tmp_path / "whole", lm_settings=settings)
    assert [row[1] for row in whole[1].steps] == [0] * 4 + [1] * 6
    with monkeypatch.context() as patch:
        stop_lm(patch, stop)
        with pytest.raises(Killed):
            train("lm", tmp_path / "cut", lm_settings=settings)
    same(whole, train("lm", tmp_path / "cut", lm_settings=settings))


@pytest.mark.parametrize("stop_adam", [True, False])
def test_both_phases_go_on(
    stop_adam: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("adam+lm", tmp_path / "whole")
    with monkeypatch.context() as patch:
        if not stop_adam:
            stop_lm(patch, 4)
        with pytest.raises(Killed):
            train("adam+lm", tmp_path / "cut", callbacks=[StopAfter(3)] if stop_adam else ())
    same(whole, train("adam+lm", tmp_path / "cut"))


@pytest.mark.parametrize("way", WAYS)
def test_a_finished_training_is_not_done_again(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log gets no further row either; for LM also where the tolerance ended it."""
    options: dict[str, Any] = {}
    if way == "lm":
        options["lm_settings"] = LMSettings(steps=200, tolerance=1e-3, newton_steps=0)
    first = train(way, tmp_path, **options)
    assert way != "lm" or len(first[1].steps) < 200
    stop_lm(monkeypatch, 0)
    same(first, train(way, tmp_path, callbacks=[StopAfter(0)], **options))


OTHERS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "data": lambda: (BUILD(), make_batch(7, TYPES, seed=8), OBJECTIVE),
    "energies": lambda: (BUILD(), other_energies(), OBJECTIVE),
    "objective": lambda: (BUILD(), BATCH, Objective(mu=0.021)),
    "start": lambda: (MODELS["mlp bias silu two species"][1]().requires_grad_(), BATCH, OBJECTIVE),
}


def other_energies() -> Any:
    energies = BATCH.labels().clone()
    energies[3] += 1e-9
    return type(BATCH)(BATCH.features, BATCH.types, BATCH.structure, energies)


@pytest.mark.parametrize("what", [*OTHERS, "settings"])
@pytest.mark.parametrize("way", ["adam", "lm", "lbfgs"])
def test_the_save_point_of_another_training(way: str, what: str, tmp_path: Path) -> None:
    train(way, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model, batch, objective = OTHERS[what]() if what in OTHERS else (BUILD(), BATCH, OBJECTIVE)
    options = dict(WAYS[way])
    if what == "start":
        with torch.no_grad():
            next(model.parameters()).add_(1e-12)
    if what == "settings":
        options |= {
            "adam": {"epochs": 31},
            "lm": {"lm_settings": LMSettings(steps=13)},
            "lbfgs": {"lbfgs_settings": LBFGSSettings(13)},
        }[way]
    with pytest.raises(InputError, match="other data or with other settings; choose another"):
        fit(model, batch, objective, out=tmp_path, progress=False, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("way", ["adam", "lm"])
def test_the_save_point_of_another_architecture(way: str, tmp_path: Path) -> None:
    """Its weights are of the same shapes, so that nothing else would tell."""
    train(way, tmp_path)
    model = BehlerParrinelloMLP(4, TYPES, (4, 2), "tanh", bias=True, seed=7)
    model.load_state_dict(BUILD().state_dict())  # silu
    with pytest.raises(InputError, match="belongs to a training on other data or with other"):
        fit(model, BATCH, OBJECTIVE, out=tmp_path, progress=False, **WAYS[way])


class Spoil(L.Callback):
    """Weights that are not finite, before or after the step of epoch 3."""

    def __init__(self, after: bool, value: float) -> None:
        self.after, self.value = after, value

    def _spoil(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch == 3:
            with torch.no_grad():
                next(module.parameters()).fill_(self.value)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.after:
            self._spoil(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.after:
            self._spoil(trainer, pl_module)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("after", [False, True])
def test_the_last_good_checkpoint_outlives_a_bad_loss(
    after: bool, value: float, tmp_path: Path
) -> None:
    whole = train("adam", tmp_path / "whole")
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) in epoch [34]"):
        train("adam", tmp_path / "cut", callbacks=[Spoil(after, value)])
    saved = torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)
    assert saved["epoch"] == 2
    same(whole, train("adam", tmp_path / "cut"))


@pytest.mark.parametrize("stop", [2, 5])
def test_the_save_point_of_lm_outlives_a_bad_loss(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("lm", tmp_path / "whole")
    real = Problem.value

    def value(self: Problem, residuals: torch.Tensor, weights: torch.Tensor) -> float:
        calls.append(1)
        return real(self, residuals, weights) if len(calls) < 2 * stop else float("nan")

    calls = list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(Problem, "value", value)
        # refused steps look like any other; the first accepted one is looked at again
        patch.setattr(Problem, "loss", lambda self, w: real(self, self.residuals(w), w))
        with pytest.raises(FloatingPointError, match="the loss is nan; look at energies"):
            train("lm", tmp_path / "cut")
    same(whole, train("lm", tmp_path / "cut"))


@pytest.mark.parametrize("way", ["adam", "lm"])
def test_save_points_wait_for_their_time(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cls in (ResumableCheckpoint, SavePoint):
        monkeypatch.setattr(cls.__init__, "__defaults__", (1e6,))
    writes = []
    real = torch.save
    monkeypatch.setattr(torch, "save", lambda *a, **k: (writes.append(1), real(*a, **k)))
    train(way, tmp_path)
    assert len(writes) == (0 if way == "adam" else 1)


def test_a_damaged_save_point(tmp_path: Path) -> None:
    train("lm", tmp_path)
    path = tmp_path / "training.lm"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated or no torchlpr training file"):
        train("lm", tmp_path)


@pytest.mark.parametrize("stop", [2, 6])
def test_a_compressed_training_goes_on_in_its_own_basis(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.random.default_rng(0).normal(size=(BATCH.features.shape[1], 30))
    wide = replace(BATCH, features=BATCH.features @ torch.from_numpy(frame))

    def run(out: Path) -> np.ndarray:
        model = BehlerParrinelloMLP(30, TYPES, (4,), seed=0)
        fit(
            model,
            wide,
            OBJECTIVE,
            "lm",
            lm_settings=LMSettings(4, 1e-14, 6),
            out=out,
            progress=False,
        )
        return dense.flat(model)

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_lm(patch, stop)
        with pytest.raises(Killed):
            run(tmp_path / "cut")
    # another machine finds another basis of the same span
    real = compression.feature_span
    monkeypatch.setattr(compression, "feature_span", lambda x: real(x).flip(1).neg())
    np.testing.assert_array_equal(run(tmp_path / "cut"), whole)
