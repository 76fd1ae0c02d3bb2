"""Derivatives of rigidities, and the biased calculator, against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.optimize import BFGS
from torch import Tensor

from tests.cases import MODELS, make_batch
from tests.export.test_calculator import KINDS, make_run, silane, silicon
from torchlpr import BiasedCalculator, Calculator, InputError, Objective, Rigidity, lpr_gradient
from torchlpr.export import Run
from torchlpr.export.bias import mean_log, soft_minimum
from torchlpr.rigidity.gradient import rigidity_by_features


def slope(of: Callable[[float], float], step: float = 2e-3) -> float:
    """Central difference of sixth order; small steps where a neighbour may cross the cutoff."""
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    return sum(w * (of(k * step) - of(-k * step)) for k, w in weights.items()) / step


@pytest.mark.parametrize("shape", ["row", "parameter", "matrix-free"])
@pytest.mark.parametrize("name", MODELS)
def test_derivatives_by_features(name: str, shape: str) -> None:
    types, build = MODELS[name]
    model, train, new = build(), make_batch(12, types, seed=1), make_batch(3, types, seed=2)
    parameters = "all" if shape == "row" or "mlp" not in name else "last-layer"
    rigidity = Rigidity(model, train, Objective(mu=0.02), shape, parameters)
    c = torch.linspace(-1, 2, len(new), dtype=torch.float64)
    found = rigidity_by_features(rigidity, new.features, new.types, c)
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=new.features.shape))

    def value(step: float) -> float:
        moved = type(new)(new.features + step * direction, new.types, new.structure)
        return float(c @ rigidity.local(moved))

    expected = slope(value)
    tolerance = 1e-6 if shape == "matrix-free" else 1e-7
    assert float((found * direction).sum()) == pytest.approx(expected, rel=tolerance)


class Own(torch.nn.Module):
    """A model of no known kind."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.linspace(0.2, 1.0, 4).double())

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        return torch.sin(features * self.w).prod(1)


def test_derivatives_of_any_model() -> None:
    train, new = make_batch(5, seed=1), make_batch(2, seed=2)
    rigidity = Rigidity(Own(), train, Objective(mu=0.1))
    found = rigidity_by_features(rigidity, new.features, new.types, torch.ones(len(new)))
    step = torch.zeros_like(new.features)
    step[1, 2] = 1.0

    def value(t: float) -> float:
        return float(
            rigidity.local(type(new)(new.features + t * step, new.types, new.structure)).sum()
        )

    assert float(found[1, 2]) == pytest.approx(slope(value), rel=1e-7)


def moved(atoms: Atoms, step: np.ndarray) -> Atoms:
    other = atoms.copy()
    other.positions += step
    return other


CASES = [(kind, head, {}) for kind in KINDS for head in ("mlp", "linear", "kernel")]
CASES += [("periodic", "mlp", {"normalize": True}), ("binary", "kernel", {"normalize": True})]
CASES += [(kind, "mlp", {"symmetry_functions": True}) for kind in ("binary", "molecule")]


@pytest.mark.parametrize(("kind", "head", "descriptor"), CASES, ids=str)
def test_derivatives_by_positions_and_cell(
    kind: str, head: str, descriptor: dict[str, bool]
) -> None:
    run, atoms = make_run(kind, head, **descriptor), KINDS[kind][0](11)
    rng = np.random.default_rng(3)
    direction = rng.normal(size=atoms.positions.shape)
    found = lpr_gradient(run, atoms, 1)

    def lpr(changed: Atoms) -> float:
        return float(run.predict([changed]).lpr[1])

    assert found.value == pytest.approx(lpr(atoms), rel=1e-12)
    expected = slope(lambda t: lpr(moved(atoms, t * direction)), 1e-4)
    by_positions = float((found.positions.numpy() * direction).sum())
    assert by_positions == pytest.approx(expected, rel=1e-6)
    force = np.abs(found.positions.numpy()).max()
    np.testing.assert_allclose(found.positions.sum(0), 0, atol=1e-9 * force)
    if kind == "molecule":
        return
    deformation = rng.normal(size=(3, 3))

    def strained(t: float) -> float:
        other = atoms.copy()
        other.set_cell(atoms.cell @ (np.eye(3) + t * deformation), scale_atoms=True)
        return lpr(other)

    assert float((found.strain.numpy() * deformation).sum()) == pytest.approx(
        slope(strained, 2e-5), rel=1e-6
    )

    def stretched(t: float) -> float:
        other = atoms.copy()
        other.set_cell(atoms.cell + t * deformation, scale_atoms=True)
        return lpr(other)

    assert float((found.cell(atoms).numpy() * deformation).sum()) == pytest.approx(
        slope(stretched, 1e-4), rel=1e-6
    )


def test_sums_and_functions_of_rigidities() -> None:
    run, atoms = make_run("molecule", "mlp"), silane(2)
    c = torch.linspace(-1, 1, len(atoms), dtype=torch.float64)
    single = [lpr_gradient(run, atoms, k) for k in range(len(atoms))]
    total = lpr_gradient(run, atoms, c)
    expected = torch.stack([part.positions for part in single]).mul(c[:, None, None]).sum(0)
    np.testing.assert_allclose(total.positions, expected, rtol=1e-9, atol=1e-12)
    lpr = run.predict([atoms]).lpr
    assert total.value == pytest.approx(float(c @ lpr), rel=1e-12)
    logs = lpr_gradient(run, atoms, mean_log)
    of_logs = lpr_gradient(run, atoms, 1 / (len(lpr) * lpr))
    np.testing.assert_allclose(logs.positions, of_logs.positions, rtol=1e-9, atol=1e-14)
    assert logs.value == pytest.approx(float(lpr.log().mean()), rel=1e-12)
    np.testing.assert_array_equal(logs.lpr, lpr)


def test_the_soft_minimum_lies_above_the_minimum() -> None:
    lpr = torch.tensor([3.0, 50.0, 4.0e5], dtype=torch.float64)
    assert float(soft_minimum(lpr)) == pytest.approx(np.log(3 / (1 / 3 + 1 / 50 + 1 / 4e5)))
    values = [float(soft_minimum(lpr, beta)) for beta in (0.1, 1.0, 10.0, 1000.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(np.log(3.0), abs=2e-3)
    assert values[-1] > np.log(3.0)


@pytest.mark.parametrize(
    ("kind", "head", "function"),
    [
        ("periodic", "mlp", "soft-minimum"),
        ("periodic", "linear", "mean-log"),
        ("periodic", "kernel", "soft-minimum"),
        ("molecule", "mlp", lambda lpr: lpr[0].sqrt()),
    ],
)
def test_biased_forces_are_finite_differences(kind: str, head: str, function: Any) -> None:
    run, atoms = make_run(kind, head), KINDS[kind][0](12)
    biased, plain = BiasedCalculator(run, 2.0, function, sharpness=2.0), Calculator(run)
    atoms.calc = biased
    wanted = ["forces", "stress"] if kind == "periodic" else ["forces"]
    plain.calculate(atoms, wanted)
    biased.calculate(atoms, wanted)
    found = dict(biased.results)
    assert found["energy"] == found["free_energy"] == found["unbiased_energy"] + found["bias"]
    assert found["unbiased_energy"] == pytest.approx(plain.results["energy"], abs=1e-10)
    np.testing.assert_allclose(found["lpr"], plain.results["lpr"], rtol=1e-12)
    forces = found["forces"]
    assert np.abs(forces - plain.results["forces"]).max() > 1e-3
    numerical = calculate_numerical_forces(atoms, eps=3e-5, iatoms=[0, 1])
    np.testing.assert_allclose(forces[:2], numerical, atol=1e-6 * max(1, np.abs(forces).max()))
    if kind == "periodic":
        stress = calculate_numerical_stress(atoms, eps=2e-5)
        np.testing.assert_allclose(found["stress"], stress, atol=1e-6 * np.abs(stress).max())


def test_no_bias_is_the_plain_calculator() -> None:
    run, atoms = make_run("periodic", "linear"), silicon(4)
    biased, plain = BiasedCalculator(run, 0.0), Calculator(run)
    for calculator in (biased, plain):
        calculator.calculate(atoms, ["forces", "stress"])
    for name, value in plain.results.items():
        np.testing.assert_allclose(biased.results[name], value, rtol=1e-10, atol=1e-12)


def test_the_bias_leads_to_what_is_not_known() -> None:
    run: Run = make_run("molecule", "linear")
    start = silane(4)
    atoms = start.copy()
    atoms.calc = BiasedCalculator(run, 500.0)
    BFGS(atoms, logfile=None, maxstep=0.02).run(steps=5)
    before, after = (run.predict([frame]).lpr for frame in (start, atoms))
    assert float(soft_minimum(after)) < float(soft_minimum(before))


def test_what_is_refused() -> None:
    run, atoms = make_run("molecule", "linear"), silane(2)
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: lpr_gradient(run, atoms, 99), "there is no atom 99 among"),
        (lambda: lpr_gradient(run, atoms, torch.ones(2)), "one for each atom, not .2,."),
        (lambda: lpr_gradient(run, atoms, lambda lpr: 1.0), "a tensor of one number that depends"),
        (lambda: lpr_gradient(run, atoms, torch.log), "a tensor of one number that depends"),
        (lambda: BiasedCalculator(run, float("nan")), "kappa must be a finite number"),
        (lambda: BiasedCalculator(run, 1.0, "lowest"), "function 'lowest' is unknown; use one of"),
        (lambda: BiasedCalculator(run, 1.0, sharpness=0.0), "sharpness must be positive, not 0.0"),
    ]
    for call, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
