"""torchlpr explain in this process: table, JSON, CSV and plot, on every head."""

import csv
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames
from torchlpr.export import load
from torchlpr.rigidity import attribute

HEADS = ["mlp", "linear", "kernel"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    frames = silicon(12)
    rng = np.random.default_rng(0)
    for atoms in frames:
        atoms.arrays["forces"] = rng.normal(size=(len(atoms), 3))
    train = write_frames(folder / "si.xyz", frames)
    for kind in HEADS:
        config = write_config(folder / f"{kind}.yaml", train, model={"kind": kind})
        assert torchlpr("fit", "--config", config, "--out", folder / kind) == 0
    forces = {"mu": 1e-3, "force_weight": 0.2}
    config = write_config(folder / "f.yaml", train, model={"kind": "linear"}, objective=forces)
    assert torchlpr("fit", "--config", config, "--out", folder / "forces") == 0
    write_frames(folder / "one.xyz", silicon(1, seed=3))
    write_frames(folder / "two.xyz", silicon(2, seed=3))
    return folder


@pytest.mark.parametrize("kind", [*HEADS, "forces"])
def test_shares_are_those_of_the_training_structures(
    kind: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["explain", runs / kind, runs / "one.xyz", "--atom", 5, "--top", 3]
    table, plot = tmp_path / "o.csv", tmp_path / "o.png"
    capsys.readouterr()
    assert torchlpr(*words, "--json", "--csv", table, "--plot", plot) == 0
    shown = json.loads(capsys.readouterr().out)
    assert plot.read_bytes().startswith(b"\x89PNG")
    run, frames = load(runs / kind), ase.io.read(runs / "si.xyz", ":")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    indices = [int(row["structure"]) for row in rows]
    assert len(set(indices)) == run.metrics["structures"]["train"] < len(frames)
    # the structures that the table names are those of the fit: their energies are its own
    train = run.descriptor([frames[i] for i in indices], derivatives=kind == "forces")
    new = run.descriptor(ase.io.read(runs / "one.xyz", ":"))
    found = attribute(run.rigidity, new, 5, train)
    np.testing.assert_allclose([float(row["energy"]) for row in rows], found.energies, atol=1e-12)
    np.testing.assert_allclose([float(row["forces"]) for row in rows], found.forces, atol=1e-12)
    total = sum(shown[f"share_of_{name}"] for name in ("energies", "forces", "regulariser"))
    assert total == pytest.approx(1, abs=1e-9)
    assert (shown["share_of_forces"] > 0) == (kind == "forces")
    prediction = run.predict(ase.io.read(runs / "one.xyz", ":"))
    assert shown["lpr"] == pytest.approx(float(prediction.lpr[5]), rel=1e-9)
    assert shown["share_of_regulariser"] == pytest.approx(
        float(prediction.lpr_mu_fraction[5]), rel=1e-9
    )
    best = np.argsort([-float(r["energy"]) - float(r["forces"]) for r in rows])[:3]
    assert [s["structure"] for s in shown["structures"]] == [indices[i] for i in best]
    assert [s["formula"] for s in shown["structures"]] == [rows[i]["formula"] for i in best]
    assert torchlpr(*words) == 0
    text = capsys.readouterr().out
    assert "atom 5 (Si): LPR" in text
    assert f"{indices[best[0]]}" in text.splitlines()[-3]


def test_one_of_several_structures(
    runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["explain", runs / "linear", runs / "two.xyz", "--atom", 1, "--index", 1, "--json"]
    capsys.readouterr()
    assert torchlpr(*words) == 0
    expected = load(runs / "linear").predict(ase.io.read(runs / "two.xyz", "1:")).lpr[1]
    assert json.loads(capsys.readouterr().out)["lpr"] == pytest.approx(float(expected), rel=1e-9)


def test_a_training_file_that_moved(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = tmp_path / "si.xyz"
    write_frames(original, silicon(12))
    config = write_config(tmp_path / "c.yaml", original, model={"kind": "linear"})
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    original.rename(tmp_path / "moved.xyz")
    line = ["explain", tmp_path / "run", runs / "one.xyz", "--atom", 0]
    refused(capsys, line, [f"training file {original} does not exist", "say where it is now"])
    assert torchlpr(*line, "--train", tmp_path / "moved.xyz") == 0
    write_frames(tmp_path / "other.xyz", silicon(12, seed=8))
    refused(
        capsys,
        [*line, "--train", tmp_path / "other.xyz"],
        ["add up to", "not the structures that the rigidity was built with"],
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--atom": 8}, ["no atom 8", "8 atoms have the numbers 0 to 7"]),
        ({"--atom": -1}, ["no atom -1"]),
        ({"structure": "two.xyz"}, ["holds 2 structures", "index 0 to 1"]),
        ({"structure": "two.xyz", "--index": 2}, ["no structure 2", "0 to 1"]),
        ({"structure": "absent.xyz"}, ["absent.xyz does not exist"]),
        ({"run": "nowhere"}, ["nowhere does not exist", "torchlpr fit wrote"]),
        ({"--top": 0}, ["at least 1, not 0"]),
        ({"--plot": "o.gif"}, ["o.gif must end in"]),
        ({"--csv": "o.txt"}, ["o.txt must end in .csv"]),
    ],
)
def test_bad_input_is_one_sentence(
    change: dict, words: list, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"run": "linear", "structure": "one.xyz", "--atom": 0} | change
    line = ["explain", runs / options.pop("run"), runs / options.pop("structure")]
    before = set(tree(runs))
    refused(capsys, [*line, *(w for pair in options.items() for w in pair)], words)
    assert set(tree(runs)) == before
