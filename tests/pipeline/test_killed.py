"""Real processes killed by SIGKILL: started again, they end in the very same checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pipeline import killed
from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames
from torchlpr.serialization import read_document

# kills while each kind of file is written, and in between
PLAN = [
    ["config.yaml", 1],
    ["training.ckpt", 1],
    ["training.ckpt", 6],
    ["metrics.csv", 4],
    ["training.lm", 1],
    ["training.lm", 9],
    ["steps.csv", 1],
    ["parity.png", 1],
    ["summary.json", 1],
    ["checkpoint.pt", 1],
]


def kill(plan: list[list[Any]], words: list[str]) -> list[list[Any]]:
    """What became of each process: signal, hidden files it left, whether it was complete."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(killed.__file__), json.dumps(plan), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def same(left: Any, right: Any, where: str = "") -> None:
    """Equal to the last bit, tensors included; wall times apart."""
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left.keys() - {"seconds"}:
            same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right, where


def compare(whole: Path, cut: Path) -> None:
    left, right = tree(whole), tree(cut)
    assert set(left) == set(right)  # no temporary file is left either
    same(read_document(whole / "checkpoint.pt", "run"), read_document(cut / "checkpoint.pt", "run"))
    for name in left:
        if name.endswith((".csv", ".yaml")):
            assert left[name] == right[name], name
    left_summary, right_summary = (
        json.loads((run / "summary.json").read_text()) for run in (whole, cut)
    )
    same(left_summary, right_summary)


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A fit by Adam and Levenberg-Marquardt that saves its state in every epoch and step."""
    for cls in (killed.ResumableCheckpoint, killed.SavePoint):
        monkeypatch.setattr(cls.__init__, "__defaults__", (0.0,))
    train = write_frames(tmp_path / "si.xyz", silicon(12))
    training = {"optimizer": "adam+lm", "epochs": 20, "steps": 15, "tolerance": 1e-12}
    config = write_config(tmp_path / "c.yaml", train, training=training)
    return ["fit", "--config", str(config), "--out"]


def test_killed_while_it_writes(words: list[str], tmp_path: Path) -> None:
    assert torchlpr(*words, tmp_path / "whole") == 0
    ends = kill(PLAN, [*words, str(tmp_path / "cut")])
    for (name, _), (ended, hidden, complete) in zip(PLAN, ends, strict=True):
        assert ended == 9, name
        assert hidden == [name]  # the half file, and none of the kill before
        assert not complete
    assert torchlpr(*words, tmp_path / "cut") == 0
    compare(tmp_path / "whole", tmp_path / "cut")


def test_killed_at_any_time(words: list[str], tmp_path: Path) -> None:
    """A larger network that trains for seconds; how far each process came is left to chance."""
    words = [*words[:-1], "--model.hidden", "[24,24]", "--training.epochs", "150"]
    words += ["--training.steps", "60", "--out"]
    moments = [0.05, 0.4, 0.8, 1.2]
    ends = kill([["seconds", t] for t in moments], [*words, str(tmp_path / "cut")])
    assert [ended for ended, *_ in ends] == [9] * len(moments)
    assert torchlpr(*words, tmp_path / "cut") == 0
    assert torchlpr(*words, tmp_path / "whole") == 0
    compare(tmp_path / "whole", tmp_path / "cut")
