"""Is it a minimum: every number against dense algebra, and what the vertex shift means."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import MODELS, ONE, TWO, make_batch
from tests.oracles import autograd_loops
from tests.training import dense
from torchlpr import InputError, LinearModel, Objective, Rigidity
from torchlpr.curvature import energy_rows
from torchlpr.training import Stationarity, fit, stationarity

OBJECTIVE = Objective(mu=0.03, energy_weight=1.7)


def atoms(model: nn.Module, batch: object) -> np.ndarray:
    return autograd_loops.atomic_gradients(model, batch.features, batch.types).numpy()


@pytest.mark.parametrize("per_atom", [True, False])
@pytest.mark.parametrize("structures", [4, 70])
@pytest.mark.parametrize("name", MODELS)
def test_against_dense_algebra(name: str, structures: int, per_atom: bool) -> None:
    types, build = MODELS[name]
    objective = Objective(mu=0.03, energy_weight=1.7, per_atom=per_atom)
    model, batch = build(), make_batch(structures, types, seed=4)
    r, g = dense.rows(model, batch, objective), dense.gradient(model, batch, objective)
    w, h = dense.flat(model), r.T @ r + 0.03 * np.eye(r.shape[1])
    found = stationarity(model, batch, objective)
    assert found.gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-11)
    relative = np.linalg.norm(g) / (0.03 * np.linalg.norm(w))
    assert found.relative_gradient == pytest.approx(relative, rel=1e-11)
    assert found.newton_decrement == pytest.approx(g @ np.linalg.solve(h, g), rel=1e-10)
    shifts = [-gk @ np.linalg.solve(h, g) for gk in atoms(model, batch)]
    assert found.vertex_shift == pytest.approx(np.abs(shifts).max(), rel=1e-10)
    local = model(batch.features, batch.types).detach().numpy()
    assert found.local_std == pytest.approx(local.std(), rel=1e-12)
    dof = np.trace(np.linalg.solve(h, r.T @ r))
    assert found.effective_dof == pytest.approx(dof, rel=1e-10)
    loss = float(dense.loss(model, batch, objective).detach())
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.noise == pytest.approx(np.sqrt(2 * loss / structures), rel=1e-12)
    forms = [gk @ np.linalg.solve(h, gk) for gk in atoms(model, batch)]
    in_std = np.abs(shifts) / np.sqrt(2 * loss / structures * np.array(forms))
    assert found.vertex_shift_in_std == pytest.approx(in_std.max(), rel=1e-9)
    assert found.vertex_shift_in_std <= found.newton_decrement**0.5 / found.noise * (1 + 1e-12)


def test_the_std_of_the_largest_shifts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("torchlpr.training.stationarity")
    monkeypatch.setattr(module, "MOST_ATOMS", 7)
    model, batch = MODELS["mlp"][1](), make_batch(30, seed=4)
    r, g = dense.rows(model, batch, OBJECTIVE), dense.gradient(model, batch, OBJECTIVE)
    h = r.T @ r + OBJECTIVE.mu * np.eye(r.shape[1])
    each = atoms(model, batch)
    shifts = np.abs(each @ np.linalg.solve(h, g))
    sigma = np.sqrt(2 * float(dense.loss(model, batch, OBJECTIVE).detach()) / 30)
    ratios = shifts / sigma / np.sqrt(np.sum(each * np.linalg.solve(h, each.T).T, axis=1))
    found = stationarity(model, batch, OBJECTIVE).vertex_shift_in_std
    assert found == pytest.approx(ratios[np.argsort(shifts)[-7:]].max(), rel=1e-9)


def test_a_fit_without_error_has_no_std() -> None:
    batch, model = make_batch(4), LinearModel(4, ONE)
    batch.labels().zero_()
    assert stationarity(model, batch, OBJECTIVE).vertex_shift_in_std == 0.0


def test_checkpoints_of_before() -> None:
    """They know eight numbers; the sentence does without the others."""
    types, build = MODELS["mlp"]
    found = stationarity(build(), make_batch(5, types), OBJECTIVE)
    words = f"({found.vertex_shift_in_std:.1e} of the predicted std; atomic energies spread over "
    assert words in found.sentence()
    old = {k: v for k, v in found.as_dict().items() if k not in {"vertex_shift_in_std", "noise"}}
    loaded = Stationarity(**old)
    assert loaded.vertex_shift_in_std is None
    assert "eV (atomic energies spread over " in loaded.sentence()
    assert loaded.is_minimum == found.is_minimum


@pytest.mark.parametrize("structures", [3, 30])
def test_the_vertex_of_the_loss_profile(structures: int) -> None:
    """L*(eps) = min L with atom k's energy held at its prediction + eps, solved with multipliers.

    Away from the minimum it is a parabola of curvature LPR_k with its vertex at delta_k.
    """
    batch, model = make_batch(structures, TWO, seed=2), LinearModel(4, TWO)
    model.weight.data = torch.from_numpy(np.random.default_rng(3).normal(size=8))
    r, t = dense.rows(model, batch, OBJECTIVE), dense.targets(batch, OBJECTIVE)
    w, h = dense.flat(model), r.T @ r + OBJECTIVE.mu * np.eye(8)

    def profile(gk: np.ndarray, eps: float) -> float:
        kkt = np.block([[h, gk[:, None]], [gk[None], np.zeros((1, 1))]])
        v = np.linalg.solve(kkt, np.concatenate([r.T @ t, [gk @ w + eps]]))[:-1]
        return 0.5 * np.sum((t - r @ v) ** 2) + 0.5 * OBJECTIVE.mu * v @ v

    vertices, curvatures = [], []
    for gk in atoms(model, batch):
        low, middle, high = (profile(gk, eps) for eps in (-2.0, 0.0, 2.0))
        curvatures.append((high - 2 * middle + low) / 4)
        vertices.append(-(high - low) / 4 / curvatures[-1])
    found = stationarity(model, batch, OBJECTIVE)
    assert found.vertex_shift == pytest.approx(np.abs(vertices).max(), rel=1e-9)
    lpr = Rigidity(model, batch, OBJECTIVE).local(batch)
    np.testing.assert_allclose(curvatures, lpr, rtol=1e-9)
    assert found.vertex_shift > 0.1  # far from the minimum, or the test would show nothing
    fit(model, batch, OBJECTIVE)
    gained = 2 * (found.loss - float(dense.loss(model, batch, OBJECTIVE).detach()))
    assert found.newton_decrement == pytest.approx(gained, rel=1e-9)


def test_verdicts() -> None:
    types, build = MODELS["mlp"]
    batch, model = make_batch(9, types), build()
    before = stationarity(model, batch, OBJECTIVE)
    assert not before.is_minimum
    for words in ("not yet at a minimum", "give more steps or epochs", "vertex shift"):
        assert words in before.sentence()
    assert f"{before.relative_gradient:.1e} of mu|w|" in before.sentence()
    after = fit(model, batch, OBJECTIVE, "lm", progress=False)
    assert after.stationarity.is_minimum
    assert after.stationarity.sentence().startswith("The weights are at a minimum")
    assert after.stationarity.sentence() in str(after)
    assert str(after).startswith("lm: loss ")


@pytest.mark.parametrize(
    ("gradient", "shift", "verdict"),
    [(9e-4, 0.09, True), (1.1e-3, 0.0, False), (0.0, 0.11, False), (0.0, 0.0, True)],
)
def test_both_measures_must_be_small(gradient: float, shift: float, verdict: bool) -> None:
    made = Stationarity(
        gradient_norm=1.0,
        relative_gradient=gradient,
        newton_decrement=0.0,
        vertex_shift=shift,
        local_std=1.0,
        effective_dof=3.0,
        loss=1.0,
        smallest_curvature=0.1,
        largest_curvature=2.0,
    )
    assert made.is_minimum == verdict
    assert Stationarity(**made.as_dict()) == made


def test_zero_weights() -> None:
    model, batch = LinearModel(4, ONE), make_batch(4)
    assert stationarity(model, batch, OBJECTIVE).relative_gradient == float("inf")


def test_single_precision_is_judged_in_double() -> None:
    types, build = MODELS["mlp two species"]
    model, batch = build().to(torch.float32), make_batch(5, types).to(dtype=torch.float32)
    assert energy_rows(model, batch, OBJECTIVE).dtype == torch.float64
    double = build()
    double.load_state_dict(model.state_dict())
    assert stationarity(model, batch, OBJECTIVE) == stationarity(
        double, batch.to(dtype=torch.float64), OBJECTIVE
    )
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_model_is_left_alone() -> None:
    types, build = MODELS["mlp"]
    model, batch = build(), make_batch(5, types)
    model.requires_grad_(False)
    before = dense.flat(model).copy()
    assert stationarity(model, batch, OBJECTIVE).gradient_norm > 0
    np.testing.assert_array_equal(dense.flat(model), before)
    assert not any(p.requires_grad for p in model.parameters())


def test_a_batch_without_energies() -> None:
    types, build = MODELS["mlp"]
    batch = make_batch(3, types)
    bare = type(batch)(batch.features, batch.types, batch.structure)
    with pytest.raises(InputError, match="no energies"):
        stationarity(build(), bare, OBJECTIVE)
