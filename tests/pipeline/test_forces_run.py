"""The commands with forces: fit, rigidity and design, judged by the calculator's forces."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, torchlpr, write_config, write_frames
from torchlpr import Calculator, Rigidity, load
from torchlpr.pipeline.config import DataConfig
from torchlpr.pipeline.data import read_parts


def with_forces(count: int, seed: int = 0) -> list[Atoms]:
    """The small cells with the forces of their repulsion, named as in some other code."""
    frames = silicon(count, seed)
    for atoms in frames:
        vectors = atoms.get_all_distances(mic=True, vector=True)  # from i to j
        distances = np.linalg.norm(vectors, axis=2) + np.eye(len(atoms))
        pull = np.exp(-distances) / distances * (1 - np.eye(len(atoms)))
        atoms.arrays["dft_forces"] = -2 * np.einsum("ij,ijx->ix", pull, vectors)
    return frames


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "si.xyz", with_forces(12))


@pytest.mark.parametrize("head", ["mlp", "kernel", "mlp on symmetry functions"])
def test_fit_rigidity_and_design(
    head: str, train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"data": {"forces_key": "dft_forces", "train": str(train), "validation": 0.2,
                        "test": 0.2}, "objective": {"force_weight": 0.3},
               "model": {"kind": head.split()[0]}, "training": {"newton_steps": 3}}  # fmt: skip
    if "symmetry" in head:
        changes["descriptor"] = {"kind": "symmetry-functions", "n_radial": 4, "n_angular": 1}
    config = write_config(tmp_path / "c.yaml", train, **changes)
    if "symmetry" in head:
        text = config.read_text()
        config.write_text(text.replace("  max_angular: 2\n  max_radial: 2\n", ""))
    out = tmp_path / "run"
    assert torchlpr("fit", "--config", config, "--out", out) == 0
    printed = capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    parts = read_parts(DataConfig(**changes["data"]))
    for name in ("train", "validation", "test"):
        assert f"force RMSE {name}: {summary[f'force_rmse_{name}']:.3e} eV/Å" in printed
        errors = []
        for atoms in getattr(parts, name):
            reference = atoms.get_forces()
            atoms.calc = Calculator(out, lpr=False)
            errors.append(atoms.get_forces() - reference)
        rmse = float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))
        assert summary[f"force_rmse_{name}"] == pytest.approx(rmse, rel=1e-8)
    assert (out / "force_parity.png").stat().st_size > 1000
    run = load(out)
    n_rows = len(parts.train) + 3 * sum(len(atoms) for atoms in parts.train)
    assert run.rigidity.factor.n_rows == n_rows
    assert f"{n_rows} rows" in summary["rigidity_algorithm"]
    new = write_frames(tmp_path / "new.xyz", silicon(4, seed=5))
    assert torchlpr("rigidity", out, new, "--out", tmp_path / "lpr.xyz") == 0
    found = np.concatenate([a.arrays["lpr"] for a in ase.io.read(tmp_path / "lpr.xyz", ":")])
    batch = run.baseline.subtract(run.descriptor(parts.train, derivatives=True))
    asked = run.descriptor(ase.io.read(new, ":"))  # a file keeps eight decimals
    rigidity = Rigidity(run.rigidity.model, batch, run.rigidity.objective)
    np.testing.assert_allclose(found, rigidity.local(asked), rtol=1e-7)
    pool = write_frames(tmp_path / "pool.xyz", silicon(5, seed=6))
    folder = tmp_path / "design"
    assert torchlpr("design", out, pool, "--targets", new, "--out", folder, "-n", 2) == 0
    design = json.loads((folder / "design.json").read_text())
    picks = [design["picks"][k]["candidate"] for k in range(2)]
    chosen = [ase.io.read(pool, k) for k in picks]
    after = rigidity.add(run.descriptor(chosen, derivatives=True)).local(asked)
    assert design["geometric_mean_lpr"][-1] == pytest.approx(float(after.log().mean().exp()))


def test_adam_and_the_choice_of_mu(train: Path, tmp_path: Path) -> None:
    data = {"forces_key": "dft_forces", "train": str(train), "validation": 0.2, "test": 0}
    config = write_config(
        tmp_path / "c.yaml", train, data=data,
        objective={"mu": "auto", "grid": [1e-2, 1e-4], "force_weight": 0.1},
        training={"optimizer": "adam", "epochs": 5, "float32": True},
    )  # fmt: skip
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    run = load(tmp_path / "run")
    assert next(run.rigidity.model.parameters()).dtype == torch.float32
    assert run.rigidity.objective.force_weight == 0.1
    log = (tmp_path / "run" / "training" / "mu-0.01" / "metrics.csv").read_text().splitlines()
    assert log[0].endswith("lr,force_rmse_train,force_rmse_validation")
    assert [len(line.split(",")) for line in log] == [7] * 6


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_recipes_of_yoo(optimizer: str, train: Path, tmp_path: Path) -> None:
    """Coefficients of a loss of means; the summary tells those of the half convention."""
    data = {"forces_key": "dft_forces", "train": str(train), "validation": 0.25, "test": 0.25}
    training = {"optimizer": optimizer, "lbfgs_epochs": 9, "iterations": 10, "batch_size": 4,
                "lr": 0.01, "final_lr": 1e-3}  # fmt: skip
    objective = {"convention": "mean", "mu": 1e-5, "force_weight": 0.1}
    config = write_config(
        tmp_path / "c.yaml", train, data=data, objective=objective, training=training
    )
    out = tmp_path / "run"
    assert torchlpr("fit", "--config", config, "--out", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    n = summary["structures"]["train"]
    parts = read_parts(DataConfig(**data))
    components = 3 * sum(len(atoms) for atoms in parts.train)
    assert n == len(parts.train) == 6
    assert summary["mu"] == pytest.approx(1e-5 * n)
    assert summary["force_weight"] == pytest.approx(0.1 * n / components)
    assert load(out).rigidity.objective.mu == pytest.approx(1e-5 * n)
    assert summary["stationarity"]["relative_gradient"] > 0
    log = (out / "training" / "metrics.csv").read_text().splitlines()
    assert len(log) == 1 + (5 if optimizer == "adam" else 9)  # five epochs of two batches
    assert float(log[-1].split(",")[1]) < float(log[1].split(",")[1])
    if optimizer == "adam":
        assert float(log[-1].split(",")[4]) <= 1.001e-3
    assert (out / "learning.png").stat().st_size > 1000


def test_recipes_refused(train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for changes, words in (
        ({"training": {"final_lr": 1.0}}, "final_lr must be positive and at most lr"),
        ({"training": {"iterations": 0}}, "iterations must be positive"),
        ({"training": {"lbfgs_epochs": 0}}, "of L-BFGS must be positive"),
        ({"objective": {"convention": "mean", "mu": "auto"}}, "give it as a number"),
    ):
        config = write_config(tmp_path / "c.yaml", tmp_path / "absent.xyz", **changes)
        line = ["fit", "--config", str(config), "--out", str(tmp_path / "run")]
        refused(capsys, line, [words])


def test_files_without_forces(
    train: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, words in (
        ("forces", ["structure 0 of", "has no forces, which force_weight needs", "dft_forces"]),
        ("F", ["has 'F'; choose the forces_key among: dft_forces"]),
    ):
        data = {"forces_key": key, "train": str(train), "validation": 0.2, "test": 0.2}
        config = write_config(
            tmp_path / "c.yaml", train, data=data, objective={"force_weight": 0.3}
        )
        refused(capsys, ["fit", "--config", config, "--out", tmp_path / "run"], words)
        assert not (tmp_path / "run").exists()
