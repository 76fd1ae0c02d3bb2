"""L-BFGS: the minimum of Levenberg-Marquardt and Newton, a log that can be checked, refusals."""

import numpy as np
import pytest
import torch

from tests.cases import MODELS, make_batch
from tests.force_cases import make_force_batch
from tests.training import dense
from tests.training.test_forces import loss as loss_with_forces
from torchlpr import InputError, Objective
from torchlpr.training import LBFGSSettings, energy_rmse, fit, force_rmse, train_lbfgs

QUIET = {"progress": False}
OBJECTIVES = {"energies": Objective(0.02, 1.7), "forces": Objective(0.02, 1.7, force_weight=0.2)}


def data(kind: str, types: tuple[int, ...], structures: int = 7, seed: int = 0):
    make = make_force_batch if kind == "forces" else make_batch
    return make(structures, types, seed)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("mlp bias tanh", "forces"), ("kernel two species", "energies"), ("kernel", "forces")],
)
def test_a_minimum_is_reached(name: str, kind: str) -> None:
    types, build = MODELS[name]
    model, batch, objective = build(), data(kind, types), OBJECTIVES[kind]
    result = fit(model, batch, objective, "lbfgs", lbfgs_settings=LBFGSSettings(400, 100, 1e-6),
                 **QUIET)  # fmt: skip
    assert result.optimizer == "lbfgs"
    assert len(result.epochs) < 400  # the tolerance, or rounding, ended it
    assert result.stationarity.is_minimum
    assert result.stationarity.newton_decrement < 1e-12 * result.loss
    if name.startswith("kernel"):
        twin = build()
        fit(twin, batch, objective, "closed-form")
        np.testing.assert_allclose(dense.flat(model), dense.flat(twin), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_rows_say_where_a_step_began(kind: str) -> None:
    types, build = MODELS["mlp bias tanh"]
    batch, valid, objective = data(kind, types), data(kind, types, 4, 1), OBJECTIVES[kind]
    write = loss_with_forces if kind == "forces" else dense.loss
    for epochs in (1, 2, 5):
        model = build()
        settings = LBFGSSettings(epochs)
        rows = train_lbfgs(model, batch, objective, settings, valid, **QUIET)
        twin = build()
        if epochs > 1:
            train_lbfgs(twin, batch, objective, LBFGSSettings(epochs - 1), valid, **QUIET)
        epoch, loss, rmse, validation, length, *forces = rows[-1]
        assert (epoch, len(rows)) == (epochs - 1, epochs)
        assert loss == pytest.approx(float(write(twin, batch, objective).detach()), rel=1e-10)
        assert float(write(model, batch, objective).detach()) < loss  # strong Wolfe descends
        assert length > 0
        assert rmse == pytest.approx(energy_rmse(twin, batch), rel=1e-10)
        assert validation == pytest.approx(energy_rmse(twin, valid), rel=1e-10)
        if kind == "forces":
            expected = force_rmse(twin, batch), force_rmse(twin, valid)
            assert forces == pytest.approx(expected, rel=1e-10)
        else:
            assert not forces


def test_packed_or_not_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    types, build = MODELS["mlp two species"]
    batch, objective, ends = data("forces", types), OBJECTIVES["forces"], []
    for packed in (True, False):
        monkeypatch.setattr("torchlpr.training.lbfgs.packs", lambda *_, packed=packed: packed)
        model = build()
        train_lbfgs(model, batch, objective, LBFGSSettings(10), **QUIET)
        ends.append(dense.flat(model))
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-7, atol=1e-9)


def test_single_precision_is_trained_in_double() -> None:
    types, build = MODELS["mlp bias tanh"]
    model = build().float()
    result = fit(model, make_batch(6, types), OBJECTIVES["energies"], "lbfgs", **QUIET)
    assert next(model.parameters()).dtype == torch.float32
    assert result.stationarity.relative_gradient < 1e-4


def test_settings() -> None:
    for wrong in ({"epochs": 0}, {"history": 0}, {"tolerance": 0.0}):
        with pytest.raises(InputError, match="epochs, history and tolerance of L-BFGS must be po"):
            LBFGSSettings(**wrong)
    assert LBFGSSettings().epochs == 800


def test_a_loss_that_is_not_finite() -> None:
    types, build = MODELS["mlp"]
    model = build()
    with torch.no_grad():
        next(model.parameters()).fill_(1e200)
    with pytest.raises(FloatingPointError, match="in epoch 0; look at energies and features"):
        fit(model, make_batch(3, types), OBJECTIVES["energies"], "lbfgs", **QUIET)
