"""torchlpr rigidity in this process: arrays in the file, report, chemiscope file and plot."""

import gzip
import importlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames
from torchlpr.calibration import Calibration
from torchlpr.calibration.alpha import Alpha
from torchlpr.export import load
from torchlpr.pipeline.config import DataConfig
from torchlpr.pipeline.data import read_parts
from torchlpr.rigidity import Rigidity

HEADS = ["mlp", "linear", "kernel"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    train = write_frames(folder / "si.xyz", silicon(12))
    for kind in HEADS:
        config = write_config(folder / f"{kind}.yaml", train, model={"kind": kind})
        assert torchlpr("fit", "--config", config, "--out", folder / kind) == 0
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    frames = silicon(5, seed=3)
    frames[1].info["note"] = "kept"
    frames[1].arrays["charge_"] = np.arange(float(len(frames[1])))
    return write_frames(tmp_path / "new.xyz", frames)


@pytest.mark.parametrize("kind", HEADS)
def test_files_and_report(
    kind: str, runs: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot, scope = tmp_path / "o.xyz", tmp_path / "o.png", tmp_path / "o.json.gz"
    words = ["rigidity", runs / kind, new, "--out", out, "--plot", plot, "--chemiscope", scope]
    capsys.readouterr()
    assert torchlpr(*words) == 0
    shown = capsys.readouterr().out
    before, after = ase.io.read(new, ":"), ase.io.read(out, ":")
    expected = load(runs / kind).predict(before)
    for name in ("lpr", "lpr_mu_fraction", "local_energy"):
        found = np.concatenate([atoms.arrays[name] for atoms in after])
        np.testing.assert_array_equal(found, expected.per_atom()[name], err_msg=name)
    for old, atoms, energy in zip(before, after, expected.energies, strict=True):
        np.testing.assert_array_equal(atoms.positions, old.positions)
        np.testing.assert_array_equal(atoms.cell, old.cell)
        assert atoms.get_potential_energy() == old.get_potential_energy()
        assert atoms.arrays["local_energy"].sum() == pytest.approx(float(energy), rel=1e-13)
        assert (atoms.arrays["lpr"] > 0).all()
        fraction = atoms.arrays["lpr_mu_fraction"]
        assert ((fraction > 0) & (fraction <= 1)).all()
    assert after[1].info["note"] == "kept"
    np.testing.assert_array_equal(after[1].arrays["charge_"], np.arange(float(len(after[1]))))
    assert plot.read_bytes().startswith(b"\x89PNG")
    content = json.loads(gzip.decompress(scope.read_bytes()))
    assert content["properties"]["lpr"]["values"] == pytest.approx(expected.lpr.tolist())
    assert len(content["structures"]) == 5
    lpr = expected.lpr.numpy()
    owner, weakest = expected.batch.structure.numpy(), int(lpr.argmin())
    first = int(np.flatnonzero(owner == owner[weakest])[0])
    table = shown.split("the atoms that the training set pins down least")[1].splitlines()
    row = next(line.split() for line in table if line[:1].isdigit() or line.strip()[:1].isdigit())
    assert row[:3] == [str(owner[weakest]), str(weakest - first), "Si"]
    assert f"RMSE of the energy: {expected.rmse():.3e} eV/atom" in shown
    assert load(runs / kind).stationarity.sentence() in shown


def test_json(runs: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert torchlpr("rigidity", runs / "mlp", new, "--out", tmp_path / "o.xyz", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    after = ase.io.read(tmp_path / "o.xyz", ":")
    lpr = np.concatenate([atoms.arrays["lpr"] for atoms in after])
    fraction = np.concatenate([atoms.arrays["lpr_mu_fraction"] for atoms in after])
    assert found["structures"] == 5
    assert found["atoms"] == len(lpr)
    assert found["share_with_mu_fraction_over_0.9"] == pytest.approx((fraction > 0.9).mean())
    errors = [(a.arrays["local_energy"].sum() - a.get_potential_energy()) / len(a) for a in after]
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)
    assert "minimum" in found["verdict"]
    assert str(float(np.median(lpr)))[:6] in json.dumps(found["lpr_by_species"])
    assert found["files"] == {"out": str(tmp_path / "o.xyz")}
    totals = load(runs / "mlp").predict(ase.io.read(new, ":")).pr
    for k, (atoms, one) in enumerate(zip(after, found["by_structure"], strict=True)):
        assert (one["structure"], one["atoms"]) == (k, len(atoms))
        assert one["pr"] == pytest.approx(float(totals[k]), rel=1e-9)
        quantiles = np.quantile(atoms.arrays["lpr"], [0, 0.25, 0.5, 0.75, 1])
        assert list(one["lpr"].values()) == pytest.approx(quantiles, rel=1e-12)


def fresh(run: Path, parameters: str | list[str]) -> Rigidity:
    """The rigidity by some weights, from the training file that the run was made of."""
    opened = load(run)
    config = DataConfig(**yaml.safe_load((run / "config.yaml").read_text())["data"])
    train = opened.descriptor(read_parts(config).train)
    return Rigidity(opened.rigidity.model, train, opened.rigidity.objective, "row", parameters)


@pytest.mark.parametrize("shape", ["auto", "row", "parameter", "matrix-free"])
@pytest.mark.parametrize("parameters", [None, ["last-layer"], ["networks.0.0.*", "*.2.weight"]])
def test_shape_and_parameters(
    parameters: list[str] | None,
    shape: str,
    runs: Path,
    new: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["rigidity", runs / "mlp", new, "--out", tmp_path / "o.xyz", "--shape", shape]
    words += [] if parameters is None else ["--parameters", *parameters]
    capsys.readouterr()
    assert torchlpr(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert torchlpr(*words) == 0
    line = next(text for text in capsys.readouterr().out.splitlines() if text[:7] == "LPR by ")
    after = ase.io.read(tmp_path / "o.xyz", ":")
    batch = load(runs / "mlp").descriptor(after)
    expected = fresh(runs / "mlp", parameters or "all")
    lpr = np.concatenate([atoms.arrays["lpr"] for atoms in after])
    np.testing.assert_allclose(
        lpr, expected.local(batch), rtol=2e-6 if shape == "matrix-free" else 1e-9
    )
    names = {"row": "row space", "parameter": "parameter space", "matrix-free": "matrix-free"}
    n, total = len(expected.subset), expected.subset.total
    assert found["parameters"] == (parameters or ["all"])
    assert found["n_parameters"] == n
    assert found["algorithm"].startswith(f"{found['shape']}, ")
    if (shape, parameters) == ("row", None):  # which it was already
        assert found["algorithm"] == load(runs / "mlp").rigidity.reason
    elif shape != "auto":
        assert (found["shape"], found["algorithm"]) == (names[shape], f"{names[shape]}, as asked")
    else:  # it says why
        assert re.search(rf", \d+ rows, {n} parameters: the .* \(at least", found["algorithm"])
    weights = f"all {total} weights"
    if parameters:
        weights = f"{n} of {total} weights ({' '.join(parameters)}), the others frozen"
    assert line == f"LPR by {weights}; {found['algorithm']}"
    for atoms in after:
        assert atoms.info["lpr_parameters"] == " ".join(parameters or ["all"])
        assert atoms.info["lpr_shape"] == found["shape"]


def test_a_calibration_is_of_the_weights_that_it_was_made_with(
    runs: Path, new: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "mlp", folder)
    run = load(folder)
    replace(run, calibration=Calibration(Alpha(0.5, 0.1, 10), "likelihood")).save(
        folder / "checkpoint.pt"
    )
    out = tmp_path / "o.xyz"
    for words, there in (([], True), (["--shape", "parameter"], True),
                         (["--parameters", "last-layer"], False)):  # fmt: skip
        assert torchlpr("rigidity", folder, new, "--out", out, *words) == 0
        assert ("energy_uncertainty" in ase.io.read(out, 0).arrays) == there


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--shape", "columns"], ["shape", "matrix-free"]),
        (["--parameters", "netwrok.*"], ["no parameter is called 'netwrok.*'", "last-layer"]),
        (["--parameters", "species:C"], ["the model has no weights for species 6, only for [14]"]),
    ],
)
def test_shapes_and_parameters_that_there_are_not(
    words: list[str],
    expected: list[str],
    runs: Path,
    new: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tree(tmp_path)
    out = tmp_path / "o.xyz"
    refused(capsys, ["rigidity", runs / "mlp", new, "--out", out, *words], expected)
    assert tree(tmp_path) == before


def test_rows_cannot_be_had_from_parameter_space(
    runs: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs / "mlp", folder)
    run = load(folder)
    replace(run, rigidity=run.rigidity.recast("parameter")).save(folder / "checkpoint.pt")
    line = ["rigidity", folder, new, "--out", tmp_path / "o.xyz", "--shape", "row"]
    refused(capsys, line, ["shape='row' needs the rows", "use shape='parameter'"])
    assert not (tmp_path / "o.xyz").exists()


def test_structures_without_energies(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = silicon(2, seed=4)
    for atoms in frames:
        atoms.info.clear()
    new = write_frames(tmp_path / "bare.xyz", frames)
    assert torchlpr("rigidity", runs / "linear", new, "--out", tmp_path / "o.xyz") == 0
    assert "RMSE" not in capsys.readouterr().out
    assert "lpr" in ase.io.read(tmp_path / "o.xyz", 1).arrays


@pytest.mark.parametrize(("package", "option"), [("matplotlib", "--plot"), ("chemiscope", None)])
def test_a_missing_extra_is_named_before_anything_is_written(
    package: str,
    option: str | None,
    runs: Path,
    new: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = importlib.import_module

    def absent(name: str, *rest: object) -> object:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    before = tree(tmp_path)
    target = tmp_path / ("o.png" if option else "o.json")
    words = [option or "--chemiscope", target, "--out", tmp_path / "o.xyz"]
    assert torchlpr("rigidity", runs / "linear", new, *words) == 2
    error = capsys.readouterr().err
    assert f"{package} is not installed; install it with: pip install 'torchlpr[plots]'" in error
    assert tree(tmp_path) == before
    assert torchlpr("rigidity", runs / "linear", new, "--out", tmp_path / "o.xyz") == 0


@pytest.mark.parametrize(
    ("option", "name"), [("--plot", "o.gif"), ("--chemiscope", "o.txt"), ("--out", "o.traj")]
)
def test_endings_that_cannot_be_written(
    option: str,
    name: str,
    runs: Path,
    new: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = tree(tmp_path)
    outputs = {"--out": "o.xyz", "--plot": "o.png", "--chemiscope": "o.json"} | {option: name}
    words = [word for key, value in outputs.items() for word in (key, tmp_path / value)]
    assert torchlpr("rigidity", runs / "linear", new, *words) == 2
    assert name in capsys.readouterr().err
    assert tree(tmp_path) == before
