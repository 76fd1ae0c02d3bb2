"""The examples that run dynamics, in small."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest

from torchlpr.structures.embedded import amorphous_silicon

EXAMPLES = Path(__file__).parents[2] / "examples"
pytest.importorskip("matplotlib")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is (deprecated|not supported).*")
def test_molecular_dynamics_with_a_stop_criterion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("metatomic_ase", reason="needs torchlpr[metatomic]")
    md = example("md")
    monkeypatch.setattr(md, "amorphous_silicon", lambda subset: amorphous_silicon(subset)[:6])
    monkeypatch.setattr(md, "STEPS", 40)
    monkeypatch.setattr(md, "RUNS", {"cold": (md.CLASSES, 10), "hot": (md.CLASSES, 6000)})
    summary = md.main(["--out", str(tmp_path)])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (tmp_path / "md.png").stat().st_size > 0
    stop = summary["hot"]["stopped at step"]
    assert stop is not None
    assert stop <= 40
    frames = ase.io.read(tmp_path / "trajectory_1.xyz", ":")
    assert [frame.info["step"] for frame in frames] == list(range(0, stop + 1, md.EVERY))
    lowest = [frame.arrays["lpr"].min() for frame in frames]
    assert lowest[-1] < summary["hot"]["threshold"] <= min(lowest[:-1])
    assert summary["cold"]["smallest LPR"] > summary["hot"]["smallest LPR"]


def test_exploration_finds_what_the_model_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explore = example("explore")
    monkeypatch.setattr(explore, "CELLS", 15)
    monkeypatch.setattr(explore, "STEPS", 30)
    monkeypatch.setattr(explore, "LABELS", 2)
    monkeypatch.setattr(explore, "KAPPA", 2.0)
    summary = explore.main(["--out", str(tmp_path)])
    lowest = [entry["second half, median of the smallest LPR"] for entry in summary.values()]
    assert lowest[1] < lowest[0]
    assert lowest[2] > lowest[1]
    frames = ase.io.read(tmp_path / "trajectory_1.xyz", ":")
    assert len(frames) == 30 // explore.EVERY + 1
    assert np.isfinite([frame.arrays["error"] for frame in frames]).all()
