import json
from pathlib import Path

import numpy as np
import pytest

import torchlpr
from torchlpr.pipeline import demo
from torchlpr.structures.coordination import coordination_numbers

pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.DemoReport]:
    """The demo itself on all its cells, with fewer inducing points, draws and steps."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "N_INDUCING", 100)
        patch.setattr(demo, "DRAWS", 3)
        patch.setattr(demo, "LM_STEPS", 3)
        patch.setattr(demo, "NEWTON_STEPS", 2)
        patch.setattr(demo, "MLP_GRID", (1e-3, 1e-4))
        return folder, demo.demo_run(folder, progress=False)


def test_shows_the_effect_of_the_paper(run):
    kernel = json.loads((run[0] / "summary.json").read_text())["kernel"]
    assert kernel["median_lpr_ratio"]["mis-coordinated"] > 3
    assert 0.5 < kernel["median_lpr_ratio"]["4-coordinated"] < 2


def test_writes_what_it_promises(run):
    for head in ("kernel", "mlp"):
        for name in ("before.pt", "after.pt", "maps.png", "coordination.png", "parity.png"):
            assert (run[0] / head / name).stat().st_size > 1000
        assert (run[0] / f"{head}.json.gz").exists()


@pytest.mark.parametrize("head", ["kernel", "mlp"])
def test_structures_carry_what_the_checkpoint_predicts(run, head):
    frames = torchlpr.read(run[0] / head / "after.xyz")
    prediction = torchlpr.load(run[0] / head / "after.pt").predict(frames)
    for name, values in (("lpr", prediction.lpr), ("local_energy", prediction.local_energies)):
        written = np.concatenate([atoms.arrays[name] for atoms in frames])
        np.testing.assert_allclose(written, values.numpy(), rtol=1e-6)
    assert all((coordination_numbers(atoms) != 4).any() for atoms in frames)


def test_prints_a_table_and_three_sentences(run):
    text = str(run[1])
    assert "4-coordinated" in text
    assert "leaves the energies of under- and over-coordinated atoms to chance" in text
    assert str(run[0]) in text
