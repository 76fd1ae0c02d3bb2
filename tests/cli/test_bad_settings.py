"""Settings and checkpoints that are not right: exit code 2, one sentence, nothing on disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, tree, write_config, write_frames
from torchlpr.cli.main import main

SETTINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown section": ({"optimiser": {"lr": 1}}, ["optimiser"]),
    "unknown key": ({"training": {"learning_rate": 1}}, ["learning_rate"]),
    "word for a number": ({"training": {"epochs": "many"}}, ["training.epochs", "many"]),
    "fraction for an integer": ({"training": {"steps": 1.5}}, ["training.steps", "1.5"]),
    "unknown choice": ({"model": {"kind": "forest"}}, ["model.kind", "forest", "kernel"]),
    "list of words": ({"model": {"hidden": ["a"]}}, ["model.hidden"]),
    "unknown activation": (
        {"model": {"activation": "relu"}},
        ["activation 'relu' is unknown", "sigmoid"],
    ),
    "no width": ({"model": {"hidden": [0]}}, ["layer widths must be positive", "0"]),
    "negative mu": ({"objective": {"mu": -1.0}}, ["mu must be a positive number, not -1.0"]),
    "zero mu": ({"objective": {"mu": 0.0}}, ["mu must be a positive number, not 0"]),
    "negative mu in the grid": (
        {"objective": {"mu": "auto", "grid": [1e-3, -1e-3]}, "model": {"kind": "linear"}},
        ["mu must be a positive number, not -0.001"],
    ),
    "word for mu": ({"objective": {"mu": "large"}}, ["objective.mu", "large"]),
    "weight": ({"objective": {"energy_weight": 0.0}}, ["energy_weight must be a positive"]),
    "no validation for auto": (
        {"objective": {"mu": "auto"}, "data": {"validation": 0}},
        ["objective.mu is auto but data.validation is 0", "fixed mu"],
    ),
    "no validation to stop at": (
        {"objective": {"mu": 1.0}, "training": {"early_stopping": 5}, "data": {"validation": 0}},
        ["training.early_stopping is 5 but data.validation is 0", "a fraction to set aside"],
    ),
    "fractions": (
        {"data": {"validation": 0.7, "test": 0.4}},
        ["fractions of the training file", "0.7"],
    ),
    "closed form of a network": (
        {"training": {"optimizer": "closed-form"}},
        ["not linear in its parameters", "use optimizer='lm'"],
    ),
    "learning rate": ({"training": {"optimizer": "adam", "lr": -0.1}}, ["lr positive", "-0.1"]),
    "batch size": (
        {"training": {"optimizer": "adam", "batch_size": 0}},
        ["batch_size must be at least 1", "0"],
    ),
    "cutoff": ({"descriptor": {"cutoff": -2.0}}, ["cutoff must be a positive length", "-2.0"]),
    "types": ({"descriptor": {"types": ["C"]}}, ["structure 0 of the train set", "Si", "C (6)"]),
    "element": ({"descriptor": {"types": ["Xx"]}}, ["Xx"]),
    "energy key": (
        {"data": {"energy_key": "dft"}},
        ["si.xyz has 'dft'", "energy_key among: energy"],
    ),
    "group key": ({"data": {"group_key": "run"}}, ["no info entry 'run'"]),
    "too few inducing points": (
        {"model": {"kind": "kernel", "n_inducing": 0}},
        ["0 inducing environments are too few"],
    ),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, words = SETTINGS[what]
    train = write_frames(tmp_path / "si.xyz", silicon(10))
    config = write_config(tmp_path / "c.yaml", train, **changes)
    before = tree(tmp_path)
    refused(capsys, ["fit", "--config", config, "--out", tmp_path / "run"], words)
    assert tree(tmp_path) == before
    assert not (tmp_path / "run").exists()


def test_a_diverging_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_frames(tmp_path / "si.xyz", silicon(8))
    training = {"optimizer": "adam", "lr": 1e200, "epochs": 5}
    config = write_config(tmp_path / "c.yaml", train, training=training)
    capsys.readouterr()
    assert main(["fit", "--config", str(config), "--out", str(tmp_path / "run")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("torchlpr: the loss is ")
    assert "lower the learning rate (lr is 1e+200)" in last
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


CONFIGS: dict[str, tuple[str | None, list[str]]] = {
    "missing": (None, ["c.yaml"]),
    "empty": ("", ["config"]),
    "no mapping": ("- 1\n- 2\n", ["Unexpected config", "- 1 - 2"]),
    "no YAML": ("data: {train: [\n", ["Problems parsing config", "line 2"]),
    "no training file": ("data: {validation: 0.1}\n", ["train"]),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_config_files(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, words = CONFIGS[what]
    config = tmp_path / "c.yaml"
    if content is not None:
        config.write_text(content)
    before = tree(tmp_path)
    refused(capsys, ["fit", "--config", config, "--out", tmp_path / "run"], words)
    assert tree(tmp_path) == before


LINES: dict[str, tuple[list[str], list[str]]] = {
    "unknown command": (["predict"], ["predict", "rigidity"]),
    "unknown option": (["fit", "--data.train", "x.xyz", "--fast"], ["--fast"]),
    "unknown setting": (["fit", "--data.train", "x.xyz", "--model.depth", "3"], ["model.depth"]),
    "wrong type": (["fit", "--data.train", "x.xyz", "--training.epochs", "x"], ["training.epochs"]),
    "no data": (["fit"], ["data.train"]),
    "no output": (["rigidity", "run", "new.xyz"], ["out"]),
    "no structures": (["rigidity", "run"], ["structures"]),
}


@pytest.mark.parametrize("what", LINES)
def test_command_lines(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    line, words = LINES[what]
    assert "see torchlpr --help" in refused(capsys, line, words)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def newer(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"version": 99}, path)


CHECKPOINTS = {
    "truncated": (truncate, ["is truncated or no torchlpr run file", "write it again"]),
    "newer": (newer, ["has format version 99, newer", "update torchlpr"]),
    "foreign": (lambda path: torch.save({"w": torch.ones(2)}, path), ["is not a torchlpr run"]),
    "text": (lambda path: path.write_text("hello"), ["is truncated or no torchlpr run file"]),
    "unfinished": (lambda path: path.unlink(), ["is not finished", "run torchlpr fit again"]),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_checkpoints(
    what: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, words = CHECKPOINTS[what]
    run = tmp_path / "run"
    run.mkdir()
    for name, content in tree(finished).items():
        (run / name).write_bytes(content)
    damage(run / "checkpoint.pt")
    new = write_frames(tmp_path / "new.xyz", silicon(2))
    before = tree(tmp_path)
    name = str(run) if what == "unfinished" else str(run / "checkpoint.pt")
    refused(capsys, ["rigidity", run, new, "--out", tmp_path / "o.xyz"], [name, *words])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("config", ["a: [", "not the settings", ""])
def test_a_damaged_config_in_the_run(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_frames(tmp_path / "si.xyz", silicon(8))
    settings = write_config(tmp_path / "c.yaml", train)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config)
    before = tree(tmp_path)
    line = ["fit", "--config", settings, "--out", tmp_path / "run"]
    refused(capsys, line, [str(tmp_path / "run"), "config.yaml", "choose another --out"])
    assert tree(tmp_path) == before


def test_no_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().out
    for word in ("usage: torchlpr", "demo", "fit", "rigidity", "--debug"):
        assert word in shown


def test_print_config_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--data.train", "x.xyz", "--print_config"])
    assert caught.value.code in {0, None}
    assert yaml.safe_load(capsys.readouterr().out)["data"]["train"] == "x.xyz"


def test_the_output_cannot_be_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_frames(tmp_path / "si.xyz", silicon(8))
    config = write_config(tmp_path / "c.yaml", train)
    line = ["fit", "--config", config, "--out", train]
    refused(capsys, line, ["cannot make the folder", str(train), "choose another"])


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from torchlpr.pipeline import fit

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit_run", interrupt)
    assert main(["fit", "--data.train", "x.xyz"]) == 130
    assert capsys.readouterr().err == "torchlpr: interrupted; the same command resumes\n"
