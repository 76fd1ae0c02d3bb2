"""From real files to rigidities with every head: thirty frames of a crystal and of a molecule."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest

from tests.pipeline.small import torchlpr, write_config, write_frames

SETS = {
    "carbon": ("carbon_lda/crystals.xyz", 4.0),
    "ethanol": ("molecules/ethanol_100.xyz", 4.0),
}


@pytest.mark.parametrize("kind", ["mlp", "linear", "kernel"])
@pytest.mark.parametrize("name", SETS)
def test_fit_and_rigidity(name: str, kind: str, data_dir: Path, tmp_path: Path) -> None:
    source, cutoff = SETS[name]
    frames = ase.io.read(data_dir / source, ":40")
    train = write_frames(tmp_path / "train.xyz", frames[:30])
    new = write_frames(tmp_path / "new.xyz", frames[30:])
    config = write_config(
        tmp_path / "c.yaml",
        train,
        descriptor={"cutoff": cutoff, "max_radial": 3, "max_angular": 3},
        model={"kind": kind, "hidden": [8, 4], "n_inducing": 20},
        objective={"mu": "auto", "grid": [1e-6, 1e-8]},
        training={"steps": 40},
    )
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["structures"] == {"train": 18, "validation": 6, "test": 6}
    assert summary["percent_rmse_train"] < 50  # it learned something
    if kind != "mlp":
        assert summary["verdict"].startswith("The weights are at a minimum")
    out = tmp_path / "out.xyz"
    outputs = ["--out", out, "--plot", tmp_path / "p.png", "--chemiscope", tmp_path / "c.json.gz"]
    assert torchlpr("rigidity", tmp_path / "run", new, *outputs) == 0
    after = ase.io.read(out, ":")
    assert len(after) == 10
    for old, atoms in zip(frames[30:], after, strict=True):
        np.testing.assert_array_equal(atoms.numbers, old.numbers)
        np.testing.assert_allclose(atoms.positions, old.positions, rtol=0, atol=1e-8)
        assert atoms.get_potential_energy() == pytest.approx(old.get_potential_energy(), rel=1e-14)
        np.testing.assert_allclose(atoms.get_forces(), old.get_forces(), rtol=0, atol=1e-8)
        assert np.isfinite(atoms.arrays["lpr"]).all()
        assert (atoms.arrays["lpr"] > 0).all()
        fraction = atoms.arrays["lpr_mu_fraction"]
        assert ((fraction > 0) & (fraction <= 1)).all()
    assert (tmp_path / "p.png").stat().st_size > 1000
    assert (tmp_path / "c.json.gz").stat().st_size > 1000
