"""torchlpr calibrate in this process: what is stored, and what torchlpr rigidity makes of it."""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames
from torchlpr.export import Run, load
from torchlpr.serialization import read_document, write_document


def cubic(count: int) -> list[Atoms]:
    """Cells of eight atoms: those of two have a centre of inversion, one environment."""
    return [atoms for atoms in silicon(3 * count, seed=7) if len(atoms) == 8]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate")
    train = write_frames(folder / "si.xyz", silicon(12))
    config = write_config(folder / "c.yaml", train, model={"kind": "kernel"})
    assert torchlpr("fit", "--config", config, "--out", folder / "run") == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained / "run", tmp_path / "run")


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    frames = cubic(16)
    for k, atoms in enumerate(frames):
        atoms.info["kind"] = "even" if k % 2 == 0 else "odd"
    return write_frames(tmp_path / "valid.xyz", frames)


def by_hand(run: Path, valid: Path) -> tuple[np.ndarray, np.ndarray]:
    """Errors per atom and rigidities of the energies per atom."""
    frames = ase.io.read(valid, ":")
    prediction = load(run).predict(frames)
    errors = [
        (float(e) - atoms.get_potential_energy()) / len(atoms)
        for e, atoms in zip(prediction.energies, frames, strict=True)
    ]
    return np.array(errors), prediction.pr.numpy()


def test_alpha_is_stored_and_used(
    run: Path, valid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "reliability.png"
    words = ["calibrate", run, valid, "--plot", plot, "--group_key", "kind", "--json"]
    before = load(run)
    capsys.readouterr()
    assert torchlpr(*words) == 0
    shown = json.loads(capsys.readouterr().out)
    r, pr = by_hand(run, valid)
    even = np.arange(len(r)) % 2 == 0
    assert shown["alpha"][0] == pytest.approx(np.sqrt(np.mean(r**2 * pr)), rel=1e-12)
    assert shown["groups"]["even"][0] == pytest.approx(np.sqrt(np.mean(r[even] ** 2 * pr[even])))
    assert shown["groups"]["odd"][2] == (~even).sum()
    assert shown["scores"]["even"]["rms_z"] == pytest.approx(1)
    assert shown["stored"] is True
    assert plot.read_bytes().startswith(b"\x89PNG")
    after = load(run)
    assert after.calibration is not None
    assert after.calibration.alpha.value == shown["alpha"][0]
    # nothing else of the run has changed, and no temporary file is left
    frames = ase.io.read(valid, ":")
    old, new = before.predict(frames), after.predict(frames)
    for name in ("energies", "local_energies", "lpr", "pr", "pr_mu_fraction"):
        assert getattr(old, name).equal(getattr(new, name))
    assert not [p for p in run.rglob(".*") if p.is_file()]
    assert old.local_uncertainty is None
    out = tmp_path / "out.xyz"
    assert torchlpr("rigidity", run, valid, "--out", out, "--chemiscope", tmp_path / "o.json") == 0
    assert "(calibrated)" in capsys.readouterr().out
    for k, atoms in enumerate(ase.io.read(out, ":")):
        alpha = shown["groups"]["even" if k % 2 == 0 else "odd"][0]
        expected = alpha / np.sqrt(atoms.arrays["lpr"])
        np.testing.assert_allclose(atoms.arrays["energy_uncertainty"], expected, rtol=1e-12)
        whole = alpha * len(atoms) / np.sqrt(float(new.pr[k]))
        assert float(new.uncertainty[k]) == pytest.approx(whole, rel=1e-12)


def test_atoms_of_a_group_by_an_array(run: Path, valid: Path, tmp_path: Path) -> None:
    frames = ase.io.read(valid, ":")
    for k, atoms in enumerate(frames):
        atoms.arrays["site"] = np.full(len(atoms), k % 3)
    frames[0].arrays["site"][0] = 1  # mixed: counts for the whole only
    ase.io.write(valid, frames)
    assert torchlpr("calibrate", run, valid, "--group_key", "site") == 0
    calibration = load(run).calibration
    assert {name: alpha.n for name, alpha in calibration.groups.items()} == {
        "0": 5, "1": 5, "2": 5
    }  # fmt: skip
    prediction = load(run).predict(frames)
    alpha = [calibration.groups[str(s)].value for s in frames[0].arrays["site"]]
    sigma = np.array(alpha) / prediction.lpr[: len(frames[0])].sqrt().numpy()
    np.testing.assert_allclose(prediction.local_uncertainty[: len(frames[0])], sigma, rtol=1e-12)
    mixed = calibration.alpha.value * len(frames[0]) / float(prediction.pr[0]) ** 0.5
    assert float(prediction.uncertainty[0]) == pytest.approx(mixed)


def test_invariant_points_are_a_local_calibration(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crystals, rng = [], np.random.default_rng(2)
    for _ in range(7):
        atoms = bulk("Si")  # two atoms: one environment however a file rounds it
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), True)
        distances = atoms.get_all_distances(mic=True)
        atoms.info["energy"] = float(np.exp(-distances).sum() - 5.4 * len(atoms))
        crystals.append(atoms)
    valid = write_frames(tmp_path / "both.xyz", [*cubic(9), *crystals])
    only = write_frames(tmp_path / "only.xyz", crystals)
    capsys.readouterr()
    assert torchlpr("calibrate", run, valid, "--on", "invariant", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    prediction = load(run).predict(ase.io.read(only, ":"))
    # z = (local energy - E/N) sqrt(LPR), from any one atom of each crystal
    first = np.cumsum([0, *[len(atoms) for atoms in crystals]])[:-1]
    local = prediction.local_energies.numpy()[first]
    reference = [atoms.info["energy"] / len(atoms) for atoms in crystals]
    z = (local - reference) * prediction.lpr.sqrt().numpy()[first]
    assert shown["alpha"][0] == pytest.approx(np.sqrt(np.mean(z**2)), rel=1e-9)
    assert (shown["alpha"][2], shown["on"]) == (7, "invariant")
    assert torchlpr("calibrate", run, valid, "--dry_run", "--json") == 0
    total = json.loads(capsys.readouterr().out)
    assert total["stored"] is False
    assert total["invariant_alpha"] == pytest.approx(shown["alpha"])
    assert total["alpha"][2] == 16
    assert load(run).calibration.on == "invariant"  # the dry run has not replaced it
    assert torchlpr("calibrate", run, only) == 0
    assert load(run).calibration.alpha.value == pytest.approx(shown["alpha"][0])


def test_runs_of_before_there_was_calibration(run: Path) -> None:
    file = run / "checkpoint.pt"
    content = read_document(file, "run")
    del content["calibration"]
    write_document(file, "run", content)
    assert load(run).calibration is None
    assert load(run).predict(silicon(2)).uncertainty is None


def test_a_failed_write_leaves_the_run_as_it_was(
    run: Path, valid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(run)

    def full_disk(content: object, file: object) -> None:
        Path(str(file)).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="disk full"):
        torchlpr("calibrate", run, valid)
    assert tree(run) == before


def test_training_structures_are_noticed(
    trained: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert torchlpr("calibrate", run, trained / "si.xyz", "--dry_run", "--json") == 0
    share = json.loads(capsys.readouterr().out)["share_as_rigid_as_training"]
    assert share >= 8 / 12  # what is not set aside for validation and test


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--group_key", "absent"], ["'absent'", "info entry"]),
        (["--on", "invariant"], ["0 single-environment structures", "too few"]),
        (["--method", "mle"], ["method"]),
        (["--plot", "p.gif"], ["p.gif", ".png"]),
    ],
)
def test_bad_input_is_one_sentence(
    options: list, words: list, run: Path, valid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(run)
    refused(capsys, ["calibrate", run, valid, *options], words)
    assert tree(run) == before


def test_too_few_structures_and_no_energies(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_frames(tmp_path / "few.xyz", silicon(4))
    refused(capsys, ["calibrate", run, few], ["4 structures", "too few"])
    bare = silicon(6)
    for atoms in bare:
        atoms.info.clear()
    bare_file = write_frames(tmp_path / "bare.xyz", bare)
    refused(capsys, ["calibrate", run, bare_file], ["structure 0", "no energy"])
    assert isinstance(load(run), Run)
