"""torchlpr.Calculator against finite differences, the run itself, and ASE's own machinery."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import torchlpr
from torchlpr import SOAP, Calculator, InputError, Objective, Rigidity
from torchlpr.calibration import Alpha, Calibration
from torchlpr.descriptors import soap_gradients
from torchlpr.export import Run
from torchlpr.models.inducing import select_inducing
from torchlpr.structures.tersoff_energy import tersoff_site_energies
from torchlpr.training import fit

HYPERS = {"cutoff": 3.4, "max_radial": 3, "max_angular": 2, "width": 0.5, "smoothing": 0.5}


def silicon(seed: int) -> Atoms:
    atoms = bulk("Si", cubic=seed % 2 == 0)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * np.eye(3)[[1, 2, 0]]), True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def carbide(seed: int) -> Atoms:
    atoms = bulk("SiC", "zincblende", a=4.3, cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def silane(seed: int) -> Atoms:
    atoms = molecule("SiH4" if seed % 2 == 0 else "Si2H6")
    atoms.rattle(0.1, seed=seed)
    return atoms


KINDS = {"periodic": (silicon, ["Si"]), "binary": (carbide, ["C", "Si"]),
         "molecule": (silane, ["H", "Si"])}  # fmt: skip


def make_run(kind: str, head: str, dtype: torch.dtype = torch.float64, **soap: object) -> Run:
    """A run of random energies: forces are judged by their own energy."""
    make, types = KINDS[kind]
    frames = [make(seed) for seed in range(6)]
    if soap.pop("symmetry_functions", False):
        wide = torchlpr.SymmetryFunctions.standard(3.4, types, n_radial=4, n_angular=2)
        descriptor = wide.scaled(frames, "range")
    else:
        descriptor = SOAP(**HYPERS, types=types, **soap)
    rng = np.random.default_rng(4)
    for atoms in frames:
        atoms.info["energy"] = len(atoms) * rng.normal() - 4.0 * len(atoms)
    batch = descriptor(frames)
    baseline = torchlpr.CompositionBaseline.fit(batch, types)
    batch = baseline.subtract(batch)
    if head == "kernel":
        model = torchlpr.SparseKernelModel(select_inducing(batch, 8, 2), 2, dtype)
    elif head == "linear":
        model = torchlpr.LinearModel(descriptor.n_features, types, dtype)
    else:
        model = torchlpr.BehlerParrinelloMLP(
            descriptor.n_features, types, (5,), "tanh", seed=0, dtype=dtype
        )
    objective = Objective(mu=1e-3)
    result = fit(model, batch.to(dtype=dtype), objective, progress=False)
    return Run(descriptor, baseline, Rigidity(model, batch, objective), result.stationarity, {})


@pytest.mark.parametrize(
    "descriptor", [{"normalize": False}, {"normalize": True}, {"symmetry_functions": True}]
)
@pytest.mark.parametrize("head", ["mlp", "linear", "kernel"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_forces_and_stress_are_finite_differences(
    kind: str, head: str, descriptor: dict[str, bool]
) -> None:
    run = make_run(kind, head, **descriptor)
    atoms = KINDS[kind][0](11)
    atoms.calc = Calculator(run)
    forces = atoms.get_forces()
    scale = np.abs(forces).max()
    assert scale > 1e-3
    numerical = calculate_numerical_forces(atoms, eps=2e-5, iatoms=[0, len(atoms) - 1])
    np.testing.assert_allclose(forces[[0, -1]], numerical, atol=1e-6 * max(1, scale))
    np.testing.assert_allclose(forces.sum(0), 0, atol=1e-12 * max(1, scale))
    if kind == "molecule":
        with pytest.raises(NotImplementedError):
            atoms.get_stress()
        return
    stress = atoms.get_stress()
    numerical = calculate_numerical_stress(atoms, eps=2e-5)
    np.testing.assert_allclose(stress, numerical, atol=1e-6 * np.abs(stress).max())


@pytest.mark.parametrize("head", ["mlp", "linear", "kernel"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_energies_and_rigidities_are_those_of_the_run(kind: str, head: str) -> None:
    run = make_run(kind, head)
    atoms = KINDS[kind][0](12)
    expected = run.predict([atoms])
    atoms.calc = Calculator(run)
    for _ in range(2):  # by features alone, then with their gradients
        assert atoms.get_potential_energy() == pytest.approx(float(expected.energies), rel=1e-12)
        np.testing.assert_allclose(atoms.get_potential_energies(), expected.local_energies, 1e-11)
        np.testing.assert_allclose(atoms.calc.results["lpr"], expected.lpr, rtol=1e-8)
        fraction = atoms.calc.results["lpr_mu_fraction"]
        np.testing.assert_allclose(fraction, expected.lpr_mu_fraction, rtol=1e-8)
        atoms.calc.results.clear()
        atoms.get_forces()
    assert "energy_uncertainty" not in atoms.calc.results


def test_chunks_of_atoms_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("binary", "mlp")
    atoms = carbide(3)
    whole, parts = Calculator(run), Calculator(run)
    whole.calculate(atoms, ["forces", "stress"])
    monkeypatch.setattr(soap_gradients, "_DOUBLES", 3 * 180 * run.descriptor.n_features)
    chunks = list(soap_gradients.soap_gradients(run.descriptor, atoms))
    assert [chunk.atoms for chunk in chunks] == [slice(0, 3), slice(3, 6), slice(6, 8)]
    parts.calculate(atoms, ["forces", "stress"])
    for name, value in whole.results.items():
        np.testing.assert_allclose(parts.results[name], value, rtol=1e-11, atol=1e-13)


def test_single_precision_models() -> None:
    run, reference = (
        make_run("periodic", "mlp", dtype) for dtype in (torch.float32, torch.float64)
    )
    atoms = silicon(5)
    for calculator in (Calculator(run), Calculator(reference)):
        calculator.calculate(atoms, ["forces"])
        numerical = calculator.results["forces"]
        assert numerical.dtype == np.float64
        assert calculator.results["energies"].dtype == np.float64


def test_rigidity_on_request() -> None:
    run = make_run("periodic", "linear")
    atoms = silicon(7)
    atoms.calc = Calculator(run, lpr=False)
    atoms.get_forces()
    assert "lpr" not in atoms.calc.results
    lpr = atoms.calc.get_property("lpr", atoms)
    np.testing.assert_allclose(lpr, run.predict([atoms]).lpr, rtol=1e-8)


def test_calibrated_uncertainties() -> None:
    run = make_run("periodic", "linear")
    groups = {"defect": Alpha(3.0, 0.1, 9)}
    run.calibration = Calibration(
        Alpha(2.0, 0.1, 50), "likelihood", group_key="site", groups=groups
    )
    atoms = silicon(2)
    atoms.arrays["site"] = np.array(["defect"] + ["bulk"] * (len(atoms) - 1))
    atoms.calc = Calculator(run)
    atoms.get_potential_energy()
    results = atoms.calc.results
    alpha = np.array([3.0] + [2.0] * (len(atoms) - 1))
    np.testing.assert_allclose(results["energy_uncertainty"], alpha / np.sqrt(results["lpr"]))
    expected = run.predict([atoms]).local_uncertainty
    np.testing.assert_allclose(results["energy_uncertainty"], expected, rtol=1e-8)


def test_unknown_species_and_bad_geometries_are_one_sentence() -> None:
    calculator = Calculator(make_run("periodic", "linear"))
    foreign = bulk("GaAs", "zincblende", a=5.6)
    foreign.calc = calculator
    with pytest.raises(InputError, match=r"^the structure holds Ga, As, but the run .* Si alone"):
        foreign.get_potential_energy()
    slab = bulk("Si")
    slab.pbc = (True, True, False)
    slab.calc = calculator
    for ask in (slab.get_potential_energy, slab.get_forces):
        with pytest.raises(InputError, match=r"pbc=\[True, True, False\]"):
            ask()


@pytest.fixture(scope="module")
def tersoff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved run of rattled silicon with the energies of Tersoff's potential."""
    frames = []
    for seed in range(40):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.02 + 0.1 * seed / 40, seed=seed)
        atoms.info["energy"] = float(tersoff_site_energies(atoms).sum())
        frames.append(atoms)
    descriptor = SOAP(**HYPERS | {"max_radial": 5, "max_angular": 3}, types=["Si"], normalize=True)
    batch = descriptor(frames)
    baseline = torchlpr.CompositionBaseline.fit(batch)
    batch = baseline.subtract(batch)
    model, objective = torchlpr.LinearModel(descriptor.n_features, ["Si"]), Objective(mu=1e-6)
    result = fit(model, batch, objective, progress=False)
    run = Run(descriptor, baseline, Rigidity(model, batch, objective), result.stationarity, {})
    path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    run.save(path)
    return path


def test_optimisation_finds_the_crystal(tersoff: Path) -> None:
    atoms = bulk("Si", cubic=True)
    crystal = atoms.copy()
    atoms.rattle(0.05, seed=99)
    for structure in (atoms, crystal):
        structure.calc = Calculator(tersoff)
    assert BFGS(atoms, logfile=None).run(fmax=1e-3, steps=60)
    assert atoms.get_potential_energy() == pytest.approx(crystal.get_potential_energy(), abs=1e-3)
    assert (atoms.calc.results["lpr"] > 0).all()


def test_molecular_dynamics_conserves_energy_and_writes_lpr(tersoff: Path, tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.01, seed=1)
    atoms.calc = Calculator(tersoff)
    spread = np.sqrt(100 * units.kB * atoms.get_masses())[:, None]  # at 100 K
    atoms.set_momenta(spread * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    energies, path = [], tmp_path / "md.xyz"

    def record() -> None:
        energies.append(atoms.get_total_energy())
        snapshot = atoms.copy()
        snapshot.arrays["lpr"] = atoms.calc.results["lpr"]
        ase.io.write(path, snapshot, append=True)

    dynamics.attach(record, interval=2)
    dynamics.run(40)
    kinetic = atoms.get_kinetic_energy()
    assert np.ptp(energies) < 0.01 * kinetic
    written = ase.io.read(path, ":")
    assert len(written) == len(energies) == 21
    assert all((frame.arrays["lpr"] > 0).all() for frame in written)
    ase.io.write(tmp_path / "last.traj", atoms)
    last = ase.io.read(tmp_path / "last.traj")
    assert last.get_potential_energy() == pytest.approx(atoms.get_potential_energy())
