"""torchlpr design in this process: files, table, and gains that re-training confirms."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames
from torchlpr import AtomBatch, Objective, Rigidity
from torchlpr.export import load
from torchlpr.training import fit

N = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("design")
    train = write_frames(folder / "si.xyz", silicon(12))
    for kind in ("linear", "kernel", "mlp"):
        changes = {"model": {"kind": kind}, "data": {"validation": 0, "test": 0}}
        config = write_config(folder / f"{kind}.yaml", train, **changes)
        assert torchlpr("fit", "--config", config, "--out", folder / kind) == 0
    pool, targets = silicon(9, seed=5), silicon(4, seed=6)
    for atoms in pool:
        atoms.info = {"name": "kept"}  # no energies
    for k, atoms in enumerate(targets):
        atoms.arrays["wanted"] = (np.arange(len(atoms)) == k % 2).astype(int)
    write_frames(folder / "pool.xyz", pool)
    write_frames(folder / "targets.xyz", targets)
    return folder


@pytest.mark.parametrize("kind", ["linear", "kernel"])
def test_predicted_gain_is_realised_after_training_again(
    kind: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["design", files / kind, files / "pool.xyz", "--targets", files / "targets.xyz"]
    words += ["-n", N, "--target_key", "wanted", "--out", tmp_path / "next"]
    capsys.readouterr()
    assert torchlpr(*words, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "next/design.json").read_text())
    assert (shown["candidates"], shown["targets"]) == (9, 4)
    assert torchlpr(*words) == 0
    text = capsys.readouterr().out
    assert f"{shown['picks'][0]['gain']:.4g}" in text
    picks = ase.io.read(tmp_path / "next/picks.xyz", ":")
    pool = ase.io.read(files / "pool.xyz", ":")
    assert len(picks) == N
    for k, atoms in enumerate(picks):
        original = pool[atoms.info["candidate"]]
        np.testing.assert_array_equal(atoms.positions, original.positions)
        assert atoms.info["pick"] == k + 1
        assert atoms.info["name"] == "kept"
        assert atoms.info["predicted_gain"] == pytest.approx(shown["picks"][k]["gain"])
    assert {p.name for p in (tmp_path / "next").iterdir()} == {
        "picks.xyz", "design.json", "gain.png", "targets.json.gz"
    }  # fmt: skip
    # train again with the picks, one after the other, whatever their energies
    run = load(files / kind)
    frames = ase.io.read(files / "si.xyz", ":")
    targets = run.descriptor(ase.io.read(files / "targets.xyz", ":"))
    wanted = np.concatenate([a.arrays["wanted"] for a in ase.io.read(files / "targets.xyz", ":")])
    for count in range(N + 1):
        together = run.descriptor([*frames, *picks[:count]])
        labels = torch.linspace(-1, 1, together.n_structures, dtype=torch.float64)
        batch = AtomBatch(together.features, together.types, together.structure, labels)
        model, objective = run.rigidity.model, Objective(**run.rigidity.objective.as_dict())
        fit(model, batch, objective, progress=False)
        lpr = Rigidity(model, batch, objective).local(targets)[torch.from_numpy(wanted > 0)]
        mean = float(lpr.log().mean().exp())
        assert shown["geometric_mean_lpr"][count] == pytest.approx(mean, rel=1e-8)
        assert shown["min_lpr"][count] == pytest.approx(float(lpr.min()), rel=1e-8)


@pytest.mark.parametrize("criterion", ["mean-log", "min", "A", "D"])
def test_every_criterion_works_on_a_network(
    criterion: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["design", files / "mlp", files / "pool.xyz", "--targets", files / "targets.xyz"]
    words += ["-n", 9, "--criterion", criterion, "--out", tmp_path / "next", "--json"]
    capsys.readouterr()
    assert torchlpr(*words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert sorted(p["candidate"] for p in shown["picks"]) == list(range(9))
    assert all(p["gain"] >= -1e-10 for p in shown["picks"])
    # all candidates are taken in the end, in whatever order
    run = load(files / "mlp")
    frames = ase.io.read(files / "si.xyz", ":") + ase.io.read(files / "pool.xyz", ":")
    targets = run.descriptor(ase.io.read(files / "targets.xyz", ":"))
    rebuilt = Rigidity(run.rigidity.model, run.descriptor(frames), run.rigidity.objective)
    lpr = rebuilt.local(targets)
    assert shown["min_lpr"][-1] == pytest.approx(float(lpr.min()), rel=1e-8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"-n": 10}, ["cannot choose 10 of 9 candidates"]),
        ({"--target_key": "defect"}, ["structure 0", "'defect'", "wanted"]),
        ({"--criterion": "E"}, ["criterion"]),
        ({"--targets": "absent.xyz"}, ["absent.xyz does not exist"]),
    ],
)
def test_bad_input_is_one_sentence(
    change: dict, words: list, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"--targets": files / "targets.xyz", "--out": tmp_path / "next"} | change
    line = ["design", files / "linear", files / "pool.xyz"]
    refused(capsys, [*line, *(w for pair in options.items() for w in pair)], words)
    assert tree(tmp_path) == {}
