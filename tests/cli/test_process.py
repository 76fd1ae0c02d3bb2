"""The command as a shell runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io

from tests.pipeline.small import silicon, tree, write_config, write_frames


def shell(*words: object) -> subprocess.CompletedProcess[str]:
    """Run ``torchlpr``; deprecations of other people's packages go unheard, as for a user."""
    command = [sys.executable, "-m", "torchlpr.cli.main", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def test_fit_then_rigidity(tmp_path: Path) -> None:
    train = write_frames(tmp_path / "si.xyz", silicon(10))
    config = write_config(tmp_path / "c.yaml", train)
    fit = shell("fit", "--config", config, "--out", tmp_path / "run")
    assert fit.returncode == 0, fit.stderr
    assert "is ready for: torchlpr rigidity" in fit.stdout
    assert "Traceback" not in fit.stderr
    assert "Warning" not in fit.stderr
    assert {"checkpoint.pt", "summary.json", "config.yaml"} <= set(tree(tmp_path / "run"))
    new = write_frames(tmp_path / "new.xyz", silicon(3, seed=2))
    out = tmp_path / "out.xyz"
    rigidity = shell("rigidity", tmp_path / "run", new, "--out", out, "--json")
    assert rigidity.returncode == 0, rigidity.stderr
    assert json.loads(rigidity.stdout)["structures"] == 3
    assert rigidity.stderr == ""
    assert all("lpr" in atoms.arrays for atoms in ase.io.read(out, ":"))


def test_a_mistake(tmp_path: Path) -> None:
    done = shell("fit", "--data.train", tmp_path / "no.xyz", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"torchlpr: {tmp_path / 'no.xyz'} does not exist; check the name of the file\n"
    )
    assert [*tmp_path.iterdir()] == []
