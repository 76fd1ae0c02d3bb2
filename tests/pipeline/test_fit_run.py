"""torchlpr fit in this process: what it writes, and what a second call does."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames
from torchlpr.export import Run, load
from torchlpr.pipeline import fit as pipeline
from torchlpr.pipeline.config import DataConfig
from torchlpr.pipeline.data import read_parts
from torchlpr.structures.io import energy_of, read

HEADS = ["mlp", "linear", "kernel"]
ALWAYS = {"checkpoint.pt", "config.yaml", "summary.json", "parity.png"}


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "si.xyz", silicon(12))


def rmse(run: Run, frames: list) -> float:
    found = run.predict(frames).energies.numpy()
    errors = [(e - energy_of(a)) / len(a) for e, a in zip(found, frames, strict=True)]
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.parametrize("mu", [1e-4, "auto"])
@pytest.mark.parametrize("kind", HEADS)
def test_what_a_fit_leaves_behind(
    kind: str, mu: object, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {"mu": mu, "grid": [1e-3, 1e-5]} if mu == "auto" else {"mu": mu}
    config = write_config(tmp_path / "c.yaml", train, model={"kind": kind}, objective=search)
    out = tmp_path / "run"
    assert torchlpr("fit", "--config", config, "--out", out) == 0
    files = set(tree(out))
    expected = set(ALWAYS)
    if kind == "mlp":
        expected |= {"learning.png"}
        folders = ["training/"]
        if mu == "auto":
            folders = [f"training/{name}/" for name in ("mu-0.001", "mu-1e-05", "minimum")]
        expected |= {
            f"{folder}{name}" for folder in folders for name in ("steps.csv", "training.lm")
        }
    if mu == "auto":
        expected |= {"mu.csv", "mu.png"}
    assert files == expected
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["model"]["kind"] == kind
    assert settings["training"]["steps"] == 12
    assert settings["descriptor"]["width"] == 0.5  # defaults are written down as well

    run, parts = load(out), read_parts(DataConfig(str(train), 0.2, 0.2))
    summary = json.loads((out / "summary.json").read_text())
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [8, 2, 2]
    assert summary["structures"] == {"train": 8, "validation": 2, "test": 2}
    for name in ("train", "validation", "test"):
        assert summary[f"rmse_{name}"] == pytest.approx(rmse(run, getattr(parts, name)), rel=1e-9)
    energies = [energy_of(a) / len(a) for a in parts.train]
    base = float(run.baseline.energies[0])
    share = 100 * summary["rmse_train"] / np.std(np.array(energies) - base, ddof=1)
    assert summary["percent_rmse_train"] == pytest.approx(share, rel=1e-9)
    assert summary["mu"] == run.rigidity.objective.mu
    assert summary["mu_at_edge_of_grid"] == (True if mu == "auto" else None)
    assert summary["optimizer"] == ("lm" if kind == "mlp" else "closed-form")
    assert summary["verdict"] == run.stationarity.sentence()
    assert summary["stationarity"] == run.stationarity.as_dict()
    assert summary["parameters"] == sum(p.numel() for p in run.rigidity.model.parameters())
    assert set(summary["seconds"]) == {"read", "features", "training", "rigidity"}
    assert summary["versions"]["torch"] == torch.__version__
    lpr = run.predict(parts.test).lpr.numpy()
    assert summary["lpr_of"] == "test"
    assert summary["lpr_quantiles"]["0.5"] == pytest.approx(np.quantile(lpr, 0.5), rel=1e-9)
    if mu == "auto":
        table = summary["grid_search"]
        assert [row["mu"] for row in table] == [1e-3, 1e-5]
        with (out / "mu.csv").open() as file:
            written = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        assert written == table
        assert summary["mu_rule"] == "minimum"
        best = min(table, key=lambda row: row["rmse_validation"])
        assert summary["mu"] == best["mu"]
        if kind != "mlp":  # a network goes on from the best of the table to its minimum
            assert summary["rmse_validation"] == pytest.approx(best["rmse_validation"], rel=1e-9)
    else:
        assert summary["grid_search"] is None
    shown = capsys.readouterr().out
    assert f"RMSE test: {summary['rmse_test']:.3e} eV/atom" in shown
    assert summary["verdict"] in shown
    assert f"torchlpr rigidity {out} STRUCTURES" in shown
    # of two values the best is at an end
    assert ("at an end of the grid" in shown) == (mu == "auto")


@pytest.mark.parametrize(("rule", "column"), [("leave-one-out", 2), ("evidence", 3)])
@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_mu_without_a_validation_set(
    kind: str, rule: str, column: int, train: Path, tmp_path: Path
) -> None:
    search = {"mu": "auto", "grid": [1e-2, 1e-4, 1e-6], "rule": rule}
    changes = {"model": {"kind": kind}, "objective": search, "data": {"validation": 0}}
    changes |= {"training": {"steps": 200}}
    config = write_config(tmp_path / "c.yaml", train, **changes)
    out = tmp_path / "run"
    assert torchlpr("fit", "--config", config, "--out", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["structures"] == {"train": 10, "test": 2}
    assert summary["mu_rule"] == rule
    table = np.loadtxt(out / "mu.csv", delimiter=",", skiprows=1)
    header = (out / "mu.csv").read_text().splitlines()[0].split(",")
    names = ["mu", "rmse_train", "rmse_leave_one_out", "log_evidence", "noise", "effective_dof"]
    assert header == [*names, "lpr_5", "lpr_50", "lpr_95"]
    best = np.argmin(table[:, column] if rule == "leave-one-out" else -table[:, column])
    assert summary["mu"] == table[best, 0]
    dof = summary["stationarity"]["effective_dof"]
    # a network goes on from the best of the table to its minimum
    assert table[best, 5] == pytest.approx(dof, rel=1e-9 if kind == "linear" else 1e-3)


@pytest.mark.parametrize(("rule", "told"), [("evidence", True), ("minimum", False)])
def test_evidence_short_of_a_minimum_is_told(
    rule: str, told: bool, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {"mu": "auto", "grid": [1e-3, 1e-6], "rule": rule}
    training = {"steps": 2, "newton_steps": 0}
    config = write_config(tmp_path / "c.yaml", train, objective=search, training=training)
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    shown = capsys.readouterr().out
    unsettled = json.loads((tmp_path / "run" / "summary.json").read_text())["mu_unsettled"]
    assert 1e-6 in unsettled
    words = f"at mu {', '.join(f'{mu:.3g}' for mu in unsettled)} training stopped before its"
    assert (words in shown) == told


@pytest.mark.parametrize("kind", ["mlp", "kernel"])
def test_an_identical_call_returns_at_once(
    kind: str, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit", "--config", write_config(tmp_path / "c.yaml", train, model={"kind": kind})]
    words += ["--out", tmp_path / "run"]
    assert torchlpr(*words) == 0
    before = tree(tmp_path / "run")
    monkeypatch.setattr(pipeline, "read_parts", lambda _: pytest.fail("it reads the data again"))
    assert torchlpr(*words) == 0
    assert tree(tmp_path / "run") == before


def test_other_settings_in_the_same_folder(
    train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "c.yaml", train, model={"kind": "linear"})
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    before = tree(tmp_path / "run")
    capsys.readouterr()
    assert (
        torchlpr("fit", "--config", config, "--objective.mu", 2e-5, "--out", tmp_path / "run") == 2
    )
    error = capsys.readouterr().err
    assert f"{tmp_path / 'run'} holds a run with other settings" in error
    assert "choose another --out" in error
    assert tree(tmp_path / "run") == before


def test_a_folder_that_holds_something_else(
    train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    config = write_config(tmp_path / "c.yaml", train)
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 2
    assert "is not empty and holds no run; choose another --out" in capsys.readouterr().err
    assert tree(tmp_path / "run") == {"thesis.tex": b"mine"}


def test_the_command_line_goes_over_the_file(train: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", train, model={"kind": "linear"})
    words = ["--data.validation", "0.25", "--data.test", str(train), "--objective.mu", "1e-3"]
    assert torchlpr("fit", "--config", config, *words, "--out", tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["structures"] == {"train": 9, "validation": 3, "test": 12}
    assert summary["mu"] == 1e-3


def test_json_is_all_there_is_on_stdout(
    train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "c.yaml", train, model={"kind": "linear"})
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert printed["rmse_train"] == summary["rmse_train"]
    assert printed["stationarity"] == summary["stationarity"]


def test_adam_in_single_precision(train: Path, tmp_path: Path) -> None:
    training = {"optimizer": "adam", "epochs": 4, "batch_size": 3, "float32": True}
    config = write_config(tmp_path / "c.yaml", train, training=training)
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    run = load(tmp_path / "run")
    assert {p.dtype for p in run.rigidity.model.parameters()} == {torch.float32}
    with (tmp_path / "run" / "training" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(np.isfinite([float(x) for x in row.values()]).all() for row in rows)
    assert run.predict(read(train)).lpr.dtype == torch.float64


def test_without_matplotlib_there_are_no_figures(
    train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchlpr.pipeline import figures

    real = importlib.util.find_spec
    monkeypatch.setattr(
        figures, "find_spec", lambda name: None if name == "matplotlib" else real(name)
    )
    config = write_config(tmp_path / "c.yaml", train, model={"kind": "linear"})
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    assert set(tree(tmp_path / "run")) == ALWAYS - {"parity.png"}
