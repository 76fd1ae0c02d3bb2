"""torchlpr fit and torchlpr rigidity in several processes: one voice, one set of files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torchlpr as package
from tests.pipeline.small import silicon, torchlpr, write_config, write_frames
from tests.ranks.launch import ROOT, launch

pytestmark = pytest.mark.xdist_group("command line on ranks")
WORK = "tests.ranks.work"
ADAM = {"optimizer": "adam", "epochs": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    train, search = write_frames(folder / "train.xyz", silicon(12)), {"mu": "auto"}
    write_frames(folder / "test.xyz", silicon(4, seed=1))
    grid = search | {"grid": [1e-3, 1e-4]}
    write_config(folder / "adam.yaml", train, training=ADAM, objective=grid)
    write_config(folder / "kernel.yaml", train, model={"kind": "kernel"}, objective=search)
    write_config(folder / "bad.yaml", train, objective={"mu": -1.0})
    return folder


def good(folder: Path, out: Path) -> list[list[str]]:
    """Commands that succeed."""
    lines = []
    for kind in ("adam", "kernel"):
        fit = ["fit", "--config", f"{folder / kind}.yaml", "--out", str(out / kind)]
        test = [str(out / kind), str(folder / "test.xyz"), "--out", f"{out / kind}.xyz"]
        lines += [fit, ["rigidity", *test, "--plot", f"{out / kind}.png"]]
    return [*lines, fit]  # the last one is there already


def bad(folder: Path) -> dict[str, list[str]]:
    """Commands that fail, by what they say."""
    fit = ["fit", "--config", f"{folder / 'bad'}.yaml", "--out", str(folder / "bad")]
    nothing = [str(folder / "nothing"), str(folder / "test.xyz"), "--out", "x.xyz"]
    return {
        "mu must be a positive number, not -1.0": fit,
        "nothing does not exist; give the folder": ["rigidity", *nothing],
        "see torchlpr --help": ["rigidity"],
        "torchlpr study runs in one process, not in 2; start it without": ["study", "toy_model"],
    }


@pytest.fixture(scope="module")
def said(folder: Path) -> list[Any]:
    words = [*good(folder, folder / "shared"), *bad(folder).values()]
    (folder / "commands.json").write_text(json.dumps(words))
    return launch({f"{WORK}.commands": [2]}, folder)[f"{WORK}.commands", 2]


@pytest.fixture(scope="module")
def alone(folder: Path, said: list[Any]) -> Path:
    for line in good(folder, folder / "alone"):
        assert torchlpr(*line) == 0
    return folder / "alone"


@pytest.mark.parametrize("kind", ["adam", "kernel"])
def test_the_same_numbers_and_files(folder: Path, alone: Path, kind: str) -> None:
    shared = folder / "shared"
    for one, two in zip(
        package.read(alone / f"{kind}.xyz"), package.read(shared / f"{kind}.xyz"), strict=True
    ):
        for name in ("lpr", "lpr_mu_fraction", "local_energy"):
            np.testing.assert_allclose(two.arrays[name], one.arrays[name], rtol=1e-8)
    files = [{p.relative_to(root) for p in root.rglob("*")} for root in (alone, shared)]
    assert files[0] == files[1]
    summaries = [json.loads((r / kind / "summary.json").read_text()) for r in (alone, shared)]
    assert summaries[0]["mu"] == summaries[1]["mu"]
    assert "2 ranks" in summaries[1]["rigidity_algorithm"]


def test_only_the_first_prints(folder: Path, said: list[Any]) -> None:
    sentences = bad(folder)
    for (_, code, out, err), (_, *other) in zip(*(one[:-4] for one in said), strict=True):
        assert (code, other) == (0, [0, "", ""]), err
        assert "ready for: torchlpr rigidity" in out or "LPR in eV^-2 by species" in out
    for sentence, (_, code, out, err), (_, *other) in zip(
        sentences, *(one[-4:] for one in said), strict=True
    ):
        assert (code, out, other) == (2, "", [2, "", ""]), err
        assert sentence in err
    assert not (folder / "bad").exists()


@pytest.mark.slow
def test_torchrun_itself(folder: Path, alone: Path) -> None:
    out = folder / "torchrun.xyz"
    options = [str(alone / "kernel"), str(folder / "test.xyz"), "--out", str(out)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, "-m", "torchlpr", "rigidity", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("LPR in eV^-2 by species") == 1
    for one, two in zip(package.read(alone / "kernel.xyz"), package.read(out), strict=True):
        np.testing.assert_allclose(two.arrays["lpr"], one.arrays["lpr"], rtol=1e-10)
