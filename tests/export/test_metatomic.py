"""Exported models, loaded back, against the run they were made of."""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.mixing import SumCalculator

import torchlpr
from tests.cases import make_batch
from tests.export import test_calculator
from tests.export.test_calculator import KINDS, silane, silicon
from torchlpr import Calculator, InputError, Objective, Rigidity, export_metatomic
from torchlpr.calibration import Alpha, Calibration
from torchlpr.cli.main import main
from torchlpr.export import Run
from torchlpr.export.metatomic import scripted_model

metatomic = pytest.importorskip("metatomic.torch")
metatomic_ase = pytest.importorskip(
    "metatomic_ase", reason="needs metatomic-ase: pip install 'torchlpr[metatomic]'"
)

LPR, MU = "torchlpr::local_prediction_rigidity", "torchlpr::mu_fraction"
UNITS = {LPR: "eV^-2", MU: "", "energy": "eV", "energy_ensemble": "eV", "energy_uncertainty": "eV"}
HEADS = ["mlp", "linear", "kernel"]

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.* is (deprecated|not supported).*",
    "ignore:.*energy uncertainties are larger than.*",
)


@pytest.fixture(autouse=True)
def quick_compilation() -> Iterator[None]:
    """Each model runs a few times only: not worth optimising."""
    with torch.jit.optimized_execution(False):
        yield


@functools.cache
def trained(kind: str, head: str, **options: Any) -> Run:
    return test_calculator.make_run(kind, head, **options)


def make_run(kind: str, head: str, **options: Any) -> Run:
    """A run to change."""
    return replace(trained(kind, head, **options))


def in_shape(run: Run, kind: str, shape: str, **options: Any) -> Run:
    """The run with its rigidity built anew."""
    make, _ = KINDS[kind]
    batch = run.descriptor([make(seed) for seed in range(6)])
    old = run.rigidity
    objective = replace(old.objective, mu=options.pop("mu", old.objective.mu))
    return replace(run, rigidity=Rigidity(old.model, batch, objective, shape, **options))


def exported(run: Run, folder: Path, **options: Any) -> Any:
    """A calculator of the model on disk."""
    export_metatomic(run, folder / "model.pt", **options)
    return metatomic_ase.MetatomicCalculator(folder / "model.pt", check_consistency=True)


def ask(calc: Any, atoms: Atoms | list[Atoms], *names: str, kind: str = "atom", **options: Any):
    outputs = {name: metatomic.ModelOutput(unit=UNITS[name], sample_kind=kind) for name in names}
    found = calc.run_model(atoms, outputs, **options)
    assert set(found) == set(names)
    values = [found[name].block().values.squeeze(1) for name in names]
    return values[0] if len(names) == 1 else values


def agrees(run: Run, calc: Any, atoms: Atoms) -> None:
    """Energies, forces, stress and rigidities against torchlpr's own calculator."""
    own = Calculator(run)
    periodic = bool(atoms.pbc.all())
    own.calculate(atoms, ["forces", "stress"] if periodic else ["forces"])
    atoms.calc = calc
    for name in ("energy", "energies", "forces", "stress")[: 4 if periodic else 3]:
        expected = own.results[name]
        tolerance = 1e-10 if name.startswith("energ") else 1e-8
        np.testing.assert_allclose(calc.get_property(name, atoms), expected, atol=tolerance)
    lpr, fraction = ask(calc, atoms, LPR, MU)
    np.testing.assert_allclose(lpr, own.results["lpr"], rtol=1e-8)
    np.testing.assert_allclose(fraction, own.results["lpr_mu_fraction"], rtol=1e-8)
    assert lpr.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "shape"), [*((kind, "row") for kind in KINDS), ("binary", "parameter")]
)
@pytest.mark.parametrize("head", HEADS)
def test_a_loaded_model_agrees_with_the_run(
    kind: str, head: str, shape: str, tmp_path: Path
) -> None:
    run = in_shape(make_run(kind, head, normalize=shape == "parameter"), kind, shape)
    agrees(run, exported(run, tmp_path), KINDS[kind][0](11))


@pytest.mark.parametrize(
    ("kind", "head"), [*((kind, "mlp") for kind in KINDS), ("binary", "kernel")]
)
def test_symmetry_functions(kind: str, head: str, tmp_path: Path) -> None:
    run, atoms = make_run(kind, head, symmetry_functions=True), KINDS[kind][0](11)
    agrees(run, exported(run, tmp_path), atoms)
    wide = torchlpr.SymmetryFunctions(
        cutoff=3.4, types=run.descriptor.types, g2=[(1.0, 0.5)], g4=[(0.1, 2, 1)], g5=[(0.2, 1, -1)]
    )
    model = torchlpr.BehlerParrinelloMLP(wide.n_features, wide.types, (3,), seed=1)
    batch = wide([KINDS[kind][0](seed) for seed in range(4)])
    other = replace(run, descriptor=wide, rigidity=Rigidity(model, batch, Objective(mu=0.1)))
    agrees(other, exported(other, tmp_path), atoms)


def test_weights_in_single_precision(tmp_path: Path) -> None:
    run, atoms = make_run("periodic", "mlp", dtype=torch.float32), silicon(2)
    energies, lpr = ask(exported(run, tmp_path), atoms, "energy", LPR)
    expected = run.predict([atoms])
    np.testing.assert_allclose(energies, expected.local_energies, rtol=1e-6, atol=2e-5)
    np.testing.assert_allclose(lpr, expected.lpr, rtol=1e-8)


@pytest.mark.parametrize("tolerance", [1e-6, 0.1, 0.9])
@pytest.mark.parametrize("mu", [1e-9, 1e-2, 10.0])
@pytest.mark.parametrize("head", HEADS)
def test_truncation_keeps_its_bounds(head: str, mu: float, tolerance: float) -> None:
    run = in_shape(make_run("periodic", head), "periodic", "row", mu=mu)
    atoms = [silicon(seed) for seed in range(20, 26)]
    module = scripted_model(run, tolerance=tolerance)
    systems = [with_neighbours(frame, module) for frame in atoms]
    outputs = {n: metatomic.ModelOutput(unit=UNITS[n], sample_kind="atom") for n in (LPR, MU)}
    found = module(systems, outputs)
    expected = run.predict(atoms)
    ratio = expected.lpr / found[LPR].block().values.squeeze(1)
    assert float(ratio.min()) >= 1 - 1e-8
    assert float(ratio.max()) <= (1 + tolerance) * (1 + 1e-8)
    fraction = found[MU].block().values.squeeze(1) / expected.lpr_mu_fraction
    assert float((fraction - 1).abs().max()) <= (1 + tolerance) ** 2 - 1 + 1e-8
    s = torch.linalg.svdvals(run.rigidity.factor.state_dict()["rows"]).square()
    assert len(module.forms.strengths) == int((s > tolerance * mu).sum())


def test_atoms_that_no_weight_moves(tmp_path: Path) -> None:
    run = in_shape(make_run("binary", "mlp"), "binary", "row", parameters="species:Si")
    atoms = KINDS["binary"][0](12)
    lpr, fraction = ask(exported(run, tmp_path), atoms, LPR, MU)
    carbon = torch.from_numpy(atoms.numbers == 6)
    assert lpr[carbon].isinf().all()
    assert fraction[carbon].isnan().all()
    assert lpr[~carbon].isfinite().all()


@pytest.mark.parametrize("mu", [1e-9, 1e3])
@pytest.mark.parametrize("head", HEADS)
def test_extreme_regularisers(head: str, mu: float, tmp_path: Path) -> None:
    run = in_shape(make_run("periodic", head), "periodic", "row", mu=mu)
    calc, atoms = exported(run, tmp_path), silicon(12)
    expected = run.predict([atoms])
    alone = ask(calc, atoms, LPR)  # less refined than with the regulariser's share
    lpr, fraction = ask(calc, atoms, LPR, MU)
    for found in (alone, lpr):
        np.testing.assert_allclose(found, expected.lpr, rtol=1e-8)
    np.testing.assert_allclose(fraction, expected.lpr_mu_fraction, rtol=1e-6)


@pytest.mark.parametrize("parameters", ["last-layer", "species:Si", ["networks.1.0.*"]])
@pytest.mark.parametrize("head", HEADS)
def test_rigidity_of_some_weights(head: str, parameters: Any, tmp_path: Path) -> None:
    if head != "mlp" and isinstance(parameters, list):
        parameters = "all"
    run = make_run("binary", head)
    run = in_shape(run, "binary", "row", parameters=parameters)
    calc, atoms = exported(run, tmp_path), KINDS["binary"][0](12)
    if parameters == "species:Si" or isinstance(parameters, list):
        atoms = atoms[atoms.numbers == 14]  # carbon has no gradient by these weights
    np.testing.assert_allclose(ask(calc, atoms, LPR), run.predict([atoms]).lpr, rtol=1e-8)
    everything = ask(exported(run, tmp_path, members=3), atoms, "energy_ensemble")
    assert everything.shape == (len(atoms), 3)


def test_forces_are_finite_differences(tmp_path: Path) -> None:
    atoms = silane(5)
    atoms.calc = exported(make_run("molecule", "mlp"), tmp_path)
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 3])
    np.testing.assert_allclose(atoms.get_forces()[[0, 3]], numerical, atol=1e-6)


def test_several_systems_and_selected_atoms(tmp_path: Path) -> None:
    run = make_run("molecule", "mlp")
    run.calibration = Calibration(Alpha(0.5, 0.1, 9), "likelihood")
    calc, frames = exported(run, tmp_path, chunk=3), [silane(1), silane(2), silane(3)]
    names = ["energy", LPR, "energy_uncertainty"]
    whole = ask(calc, frames, *names)
    expected = run.predict(frames)
    for found, value in zip(
        whole, (expected.local_energies, expected.lpr, expected.local_uncertainty), strict=True
    ):
        np.testing.assert_allclose(found, value, rtol=1e-8)
    totals = ask(calc, frames, "energy", "energy_uncertainty", kind="system")
    np.testing.assert_allclose(totals[0], expected.energies, atol=1e-10)
    np.testing.assert_allclose(totals[1], expected.uncertainty, rtol=1e-8)
    # in another order, and none of the second system
    chosen = torch.tensor([[2, 4], [0, 1], [2, 0], [0, 3]])
    labels = metatomic_labels(chosen)
    rows = torch.tensor([0, 8, 13])[chosen[:, 0]] + chosen[:, 1]
    assert [len(atoms) for atoms in frames] == [8, 5, 8]
    some = ask(calc, frames, *names, selected_atoms=labels)
    for found, value in zip(some, whole, strict=True):
        np.testing.assert_allclose(found, value[rows], rtol=1e-9)
    energy, sigma = ask(
        calc, frames, "energy", "energy_uncertainty", kind="system", selected_atoms=labels
    )
    sums = torch.zeros(3, dtype=torch.float64).index_add(0, chosen[:, 0], whole[0][rows])
    np.testing.assert_allclose(energy, sums, atol=1e-10)
    assert sigma[1] == 0
    nothing = metatomic_labels(torch.zeros(0, 2, dtype=torch.int64))
    assert ask(calc, frames, LPR, selected_atoms=nothing).shape == (0,)
    assert ask(calc, frames, "energy", kind="system", selected_atoms=nothing).tolist() == [0, 0, 0]


def metatomic_labels(values: torch.Tensor) -> Any:
    from metatensor.torch import Labels

    return Labels(["system", "atom"], values)


@pytest.mark.parametrize(
    ("head", "shape"), [("mlp", "row"), ("linear", "row"), ("kernel", "parameter")]
)
def test_the_ensemble_has_the_variance_of_the_rigidity(
    head: str, shape: str, tmp_path: Path
) -> None:
    run = in_shape(make_run("binary", head), "binary", shape)
    run.calibration = Calibration(Alpha(0.3, 0.1, 9), "likelihood")
    calc, atoms = exported(run, tmp_path, members=1000), KINDS["binary"][0](12)
    energies, lpr = ask(calc, atoms, "energy", LPR)
    members = ask(calc, atoms, "energy_ensemble")
    error = 6 * (2 / 1000) ** 0.5  # of a variance, six times its standard error
    variance = (members - energies[:, None]).square().mean(1)
    np.testing.assert_allclose(variance * lpr / 0.3**2, 1, atol=error)
    whole = ask(calc, atoms, "energy_ensemble", kind="system")
    np.testing.assert_allclose(whole, members.sum(0, keepdim=True), atol=1e-9)
    sigma = ask(calc, atoms, "energy_uncertainty", kind="system")
    spread = (whole - energies.sum()).square().mean()
    assert float(spread / sigma**2) == pytest.approx(1, abs=error)
    again = ask(exported(run, tmp_path, members=1000), atoms, "energy_ensemble")
    other = ask(exported(run, tmp_path, members=1000, seed=1), atoms, "energy_ensemble")
    assert torch.equal(members, again)
    assert not torch.equal(members, other)


def test_ensemble_energies_have_forces(tmp_path: Path) -> None:
    run = make_run("molecule", "mlp")
    module, atoms = scripted_model(run, members=2), silane(2)
    moved = [atoms.copy() for _ in range(2)]
    for sign, frame in zip((1, -1), moved, strict=True):
        frame.positions[1, 2] += sign * 1e-4
    calc = exported(run, tmp_path, members=2)
    up, down = ask(calc, moved, "energy_ensemble", kind="system")
    system = with_neighbours(atoms, module, requires_grad=True)
    output = {"energy_ensemble": metatomic.ModelOutput(unit="eV", sample_kind="system")}
    second = module([system], output)["energy_ensemble"].block().values[0, 1]
    second.backward()
    numerical = float(up[1] - down[1]) / 2e-4
    assert float(system.positions.grad[1, 2]) == pytest.approx(numerical, rel=1e-5)


def requested(descriptor: Any) -> list[Any]:
    return getattr(descriptor, "calculator", descriptor).requested_neighbor_lists()


def with_neighbours(atoms: Atoms, module: Any, unit: str = "Angstrom", requires_grad=False) -> Any:
    from vesin.metatomic import NeighborList

    system = metatomic.systems_to_torch(atoms, dtype=torch.float64)
    positions = system.positions.clone().requires_grad_(requires_grad)
    system = metatomic.System(system.types, positions, system.cell, system.pbc)
    for options in requested(module.descriptor):
        options.length_unit = "Angstrom"
        NeighborList(options, length_unit=unit).add_neighbor_list([system], copy=True)
    return system


def test_only_what_is_asked_for_is_computed() -> None:
    run = make_run("periodic", "mlp")
    run.calibration = Calibration(Alpha(0.5, 0.1, 9), "likelihood")
    module = scripted_model(run)
    called: list[str] = []

    def watch(owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def wrapped(*arguments: Any) -> Any:
            called.append(name)
            return original(*arguments)

        object.__setattr__(owner, name, wrapped)

    watch(module.head, "forward")
    watch(module.head, "gradients")
    watch(module.head, "along")
    watch(module.forms, "forward")
    system = with_neighbours(silicon(2), module)
    rigid = ["gradients", "forward"]
    cases = {
        ("energy",): ["forward"],
        ("energy_ensemble",): ["forward", "along"],
        (LPR,): rigid,
        (MU,): rigid,
        (LPR, MU, "energy_uncertainty"): rigid,
        ("energy", LPR): ["forward", *rigid],
        (): [],
    }
    for names, expected in cases.items():
        called.clear()
        outputs = {n: metatomic.ModelOutput(unit=UNITS[n], sample_kind="atom") for n in names}
        found = module([system], outputs)
        assert called == expected, names
        assert set(found) == set(names)


@pytest.mark.parametrize("symmetry_functions", [False, True])
@pytest.mark.parametrize("kind", ["periodic", "binary"])
def test_ghost_atoms_instead_of_a_cell(kind: str, symmetry_functions: bool) -> None:
    """As engines do that decompose space: images are atoms of their own, not asked about."""
    run = make_run(kind, "mlp", symmetry_functions=symmetry_functions)
    atoms = KINDS[kind][0](6)
    module, n = scripted_model(run), len(atoms)
    ghosts = atoms * (3, 3, 3)
    ghosts.pbc = False
    ghosts.cell = None
    middle = 13 * n
    system = with_neighbours(ghosts, module, requires_grad=True)
    local = torch.stack([torch.zeros(n), torch.arange(middle, middle + n)], dim=1).long()
    names = {"energy": "system", LPR: "atom"}
    outputs = {
        name: metatomic.ModelOutput(unit=UNITS[name], sample_kind=sample_kind)
        for name, sample_kind in names.items()
    }
    found = module([system], outputs, metatomic_labels(local))
    expected = Calculator(run)
    expected.calculate(atoms, ["forces"])
    energy = found["energy"].block().values
    assert float(energy.detach()) == pytest.approx(expected.results["energy"], abs=1e-10)
    lpr = found[LPR].block().values.squeeze(1)
    np.testing.assert_allclose(lpr, expected.results["lpr"], rtol=1e-8)
    energy.sum().backward()
    forces = -system.positions.grad.reshape(27, n, 3).sum(0)  # back to the atoms they are images of
    np.testing.assert_allclose(forces, expected.results["forces"], atol=1e-8)


def test_units_of_the_engine(tmp_path: Path) -> None:
    run, atoms = make_run("periodic", "linear"), silicon(4)
    model = export_metatomic(run, tmp_path / "model.pt")
    lengths = atoms.copy()
    lengths.set_cell(atoms.cell / 10, scale_atoms=True)
    system = with_neighbours(lengths, model.module, "nm")
    outputs = {
        "energy": metatomic.ModelOutput(unit="meV", sample_kind="system"),
        LPR: metatomic.ModelOutput(unit="meV^-2", sample_kind="atom"),
    }
    options = metatomic.ModelEvaluationOptions(length_unit="nm", outputs=outputs)
    found, expected = model([system], options, check_consistency=True), run.predict([atoms])
    energy = float(found["energy"].block().values)
    assert energy == pytest.approx(1000 * float(expected.energies), rel=1e-9)
    lpr = found[LPR].block().values.squeeze(1)
    np.testing.assert_allclose(lpr, expected.lpr / 1e6, rtol=1e-7)


def test_what_the_model_offers(tmp_path: Path) -> None:
    run, path = make_run("binary", "linear"), tmp_path / "m.pt"

    def outputs(**options: Any) -> dict[str, str]:
        capabilities = export_metatomic(run, path, **options).capabilities()
        assert capabilities.atomic_types == [6, 14]
        assert capabilities.interaction_range == run.descriptor.cutoff
        return {name: output.unit for name, output in capabilities.outputs.items()}

    offered = {name: UNITS[name] for name in ("energy", LPR, MU, "energy_ensemble")}
    assert outputs() == offered
    size = path.stat().st_size
    assert outputs(members=0) == {name: offered[name] for name in ("energy", LPR, MU)}
    assert outputs(rigidity=False) == {"energy": "eV"}
    assert path.stat().st_size < size
    run.calibration = Calibration(Alpha(0.5, 0.1, 9), "likelihood")
    assert outputs() == offered | {"energy_uncertainty": "eV"}


def test_rigidity_is_per_atom(tmp_path: Path) -> None:
    calc = exported(make_run("periodic", "linear"), tmp_path)
    with pytest.raises(torch.jit.Error, match="is one number an atom; ask for it per atom"):
        ask(calc, silicon(1), LPR, kind="system")


def test_mixed_calculators_of_ase(tmp_path: Path) -> None:
    run, atoms = make_run("periodic", "mlp"), silicon(6)
    calc = exported(run, tmp_path)
    atoms.calc = SumCalculator([calc, Calculator(run)])
    energy = atoms.get_potential_energy()
    assert energy == pytest.approx(2 * float(run.predict([atoms]).energies), rel=1e-12)
    assert np.abs(atoms.get_forces()).max() > 1e-3


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    run = make_run("periodic", "linear")
    free = in_shape(run, "periodic", "matrix-free")
    whole = in_shape(run, "periodic", "parameter")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.tex").write_text("")
    cases: list[tuple[Run, str, dict[str, Any], str]] = [
        (free, "a.pt", {}, "a rigidity in matrix-free.* cannot be exported.* --no_rigidity"),
        (run, "a.xyz", {}, r"must end in \.pt; choose another name"),
        (run, "a.pt", {"tolerance": 1.5}, "tolerance must be from 0 to below 1, not 1.5"),
        (whole, "a.pt", {"tolerance": 0.1}, "in parameter space has no rows to leave out"),
        (run, "a.pt", {"members": -1}, "members=-1 must not be negative"),
        (run, "a.pt", {"extensions": kept}, r"would be emptied .* holds thesis\.tex"),
    ]
    for chosen, name, options, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            export_metatomic(chosen, tmp_path / name, **options)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    export_metatomic(free, tmp_path / "a.pt", rigidity=False)


def test_a_foreign_factor_of_other_sizes_is_refused() -> None:
    objective = Objective(mu=1.0)
    batch = make_batch(3)
    model = torch.nn.Linear(4, 1).double()

    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return self.inner(features).squeeze(1)

    run = make_run("periodic", "linear")
    own = replace(run, rigidity=Rigidity(Own(), batch, objective))
    with pytest.raises(InputError, match="a Own cannot be exported, only torchlpr's three heads"):
        scripted_model(own)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, atoms = make_run("periodic", "mlp"), silicon(3)
    (tmp_path / "run").mkdir()
    run.save(tmp_path / "run" / "checkpoint.pt")
    model, folder = tmp_path / "model.pt", tmp_path / "extensions"
    words = ["export", str(tmp_path / "run"), str(model), "--extensions", str(folder)]
    assert main([*words, "--json"]) == 0
    offered = json.loads(capsys.readouterr().out)
    assert offered["model"] == str(model)
    assert offered["outputs"][LPR] == "eV^-2"
    assert any("featomic" in file.name for file in folder.rglob("*"))
    assert main(words) == 0  # the folder of extensions may be emptied
    assert "torchlpr::local_prediction_rigidity, eV^-2" in capsys.readouterr().out
    calc = metatomic_ase.MetatomicCalculator(model, extensions_directory=folder)
    np.testing.assert_allclose(ask(calc, atoms, LPR), run.predict([atoms]).lpr, rtol=1e-8)
    assert calc.metadata().name == "run"
    assert main([*words[:-1], str(tmp_path / "run")]) == 2
    assert "holds checkpoint.pt" in capsys.readouterr().err
