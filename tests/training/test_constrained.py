"""Re-training under a constraint against dense KKT systems and against its own definition."""

import numpy as np
import pytest
import torch

from tests.cases import FEATURES, MODELS, ONE, make_batch, mlp
from tests.oracles import retraining
from tests.training import dense
from torchlpr import BehlerParrinelloMLP, InputError, LinearModel, Objective, Rigidity, fit
from torchlpr.training import constrained
from torchlpr.training.constrained import full_hessian_rigidity, minimise, retrain

OBJECTIVE = Objective(0.02, energy_weight=1.7)
ATOM = make_batch(1, seed=6, atoms=1)


@pytest.mark.parametrize("shift", [1e-3, -1.0, 50.0])
@pytest.mark.parametrize("structures", [3, 40])
@pytest.mark.parametrize("name", ["linear", "linear two species", "kernel"])
def test_linear_heads_against_the_kkt_system(name: str, structures: int, shift: float) -> None:
    types, build = MODELS[name]
    batch, atom = make_batch(structures, types), make_batch(1, types, seed=6, atoms=1)
    model = minimise(build(), batch, OBJECTIVE)
    found = retrain(model, batch, OBJECTIVE, atom, shift)
    r, t = dense.rows(model, batch, OBJECTIVE), dense.targets(batch, OBJECTIVE)
    with torch.no_grad():
        g = model.basis(atom.features, atom.types)[0].numpy()
    rise, multiplier = retraining.ridge(r, t, OBJECTIVE.mu, g, shift)
    assert found.multiplier == pytest.approx(multiplier, rel=1e-9)
    # the loss itself has been subtracted: what is left of its digits
    scale = float(dense.loss(model, batch, OBJECTIVE).detach())
    assert found.rise == pytest.approx(rise, rel=1e-10, abs=1e-14 * scale)
    lpr = float(Rigidity(model, batch, OBJECTIVE).local(atom))
    assert found.rise == pytest.approx(lpr * shift**2 / 2, rel=1e-10, abs=1e-14 * scale)
    moved = found.model(atom.features, atom.types) - model(atom.features, atom.types)
    assert float(moved.detach()) == pytest.approx(shift, rel=1e-9)


def network() -> tuple[BehlerParrinelloMLP, object]:
    model = BehlerParrinelloMLP(FEATURES, ONE, (3,), "tanh", seed=2)
    batch = make_batch(12, seed=4)
    fit(model, batch, OBJECTIVE, "lm", progress=False)
    return minimise(model, batch, OBJECTIVE), batch


def test_c4_a_network_has_the_curvature_of_its_full_hessian() -> None:
    model, batch = network()
    full = float(full_hessian_rigidity(model, batch, OBJECTIVE, ATOM))
    errors = []
    for eps in (1e-2, 1e-3):
        rises = [retrain(model, batch, OBJECTIVE, ATOM, s).rise for s in (eps, -eps)]
        errors.append(abs(sum(rises) / eps**2 / full - 1))
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.3)  # of order eps^2
    gauss_newton = float(Rigidity(model, batch, OBJECTIVE).local(ATOM))
    assert abs(gauss_newton / full - 1) > 0.01  # residuals remain


@pytest.mark.parametrize("shift", [1e-3, -0.05])
def test_a_network_is_stationary_under_the_constraint(shift: float) -> None:
    model, batch = network()
    found = retrain(model, batch, OBJECTIVE, ATOM, shift)
    moved = found.model(ATOM.features, ATOM.types) - model(ATOM.features, ATOM.types)
    assert float(moved.detach()) == pytest.approx(shift, rel=1e-10)
    # stationary: grad L = -multiplier g, by plain autograd at its weights
    slope = dense.gradient(found.model, batch, OBJECTIVE)
    energy = found.model(ATOM.features, ATOM.types)[0]
    g = torch.autograd.grad(energy, list(found.model.parameters()))
    g = torch.cat([part.reshape(-1) for part in g]).numpy()
    np.testing.assert_allclose(slope, -found.multiplier * g, rtol=0, atol=1e-10)
    before = float(dense.loss(model, batch, OBJECTIVE).detach())
    after = float(dense.loss(found.model, batch, OBJECTIVE).detach())
    assert found.rise == pytest.approx(after - before, rel=1e-6)
    assert found.rise > 0


def test_the_full_hessian_is_that_of_finite_differences() -> None:
    model, batch = network()
    w0, step = dense.flat(model), 1e-5
    columns = []
    for k in range(len(w0)):
        ends = []
        for sign in (1, -1):
            w = torch.from_numpy(w0 + sign * step * np.eye(len(w0))[k])
            torch.nn.utils.vector_to_parameters(w, model.parameters())
            ends.append(dense.gradient(model, batch, OBJECTIVE))
        columns.append((ends[0] - ends[1]) / (2 * step))
    torch.nn.utils.vector_to_parameters(torch.from_numpy(w0), model.parameters())
    g = torch.autograd.grad(model(ATOM.features, ATOM.types)[0], list(model.parameters()))
    g = torch.cat([part.reshape(-1) for part in g]).numpy()
    expected = 1 / (g @ np.linalg.solve(np.array(columns), g))
    found = float(full_hessian_rigidity(model, batch, OBJECTIVE, ATOM))
    assert found == pytest.approx(expected, rel=1e-7)


def test_products_in_place_of_dense_hessians(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = network()
    atoms = make_batch(2, seed=6)
    dense_rigidity = full_hessian_rigidity(model, batch, OBJECTIVE, atoms)
    held = [retrain(model, batch, OBJECTIVE, ATOM, s) for s in (0.02, -0.02)]
    monkeypatch.setattr(constrained, "MAX_PARAMETERS", 0)
    found = full_hessian_rigidity(model, batch, OBJECTIVE, atoms)
    np.testing.assert_allclose(found, dense_rigidity, rtol=1e-9)
    for before in held:
        after = retrain(model, batch, OBJECTIVE, ATOM, before.shift)
        assert after.multiplier == pytest.approx(before.multiplier, rel=1e-7)
        assert after.rise == pytest.approx(before.rise, rel=1e-7)
        np.testing.assert_allclose(dense.flat(after.model), dense.flat(before.model), atol=1e-7)


def test_no_minimum_no_rigidity(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = mlp(ONE, bias=True, activation="tanh")(), make_batch(12, seed=4)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    for largest in (2000, 0):
        monkeypatch.setattr(constrained, "MAX_PARAMETERS", largest)
        with pytest.raises(InputError, match="at no minimum; train further"):
            full_hessian_rigidity(model, batch, Objective(1e-4), ATOM)


def test_a_minimum_to_rounding() -> None:
    model, batch = network()
    assert np.abs(dense.gradient(model, batch, OBJECTIVE)).max() < 1e-13


def test_bad_input() -> None:
    batch, linear = make_batch(4), LinearModel(FEATURES, ONE)
    with pytest.raises(InputError, match="one atom is held at a time, not 3"):
        retrain(linear, batch, OBJECTIVE, make_batch(1, atoms=3), 1.0)
    for shift in (0.0, float("nan")):
        with pytest.raises(InputError, match="other than zero"):
            retrain(linear, batch, OBJECTIVE, ATOM, shift)
    wide = mlp(ONE, hidden=(500,))()
    with pytest.raises(InputError, match="full Hessian of 2500 parameters is too large"):
        minimise(wide, batch, OBJECTIVE)
