"""torchlpr rigidity in this process: arrays in the file, report, chemiscope file and plot."""

import gzip
import importlib
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest

from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames
from torchlpr.export import load

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
