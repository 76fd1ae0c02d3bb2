import csv
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from torchlpr.errors import InputError
from torchlpr.studies import run_study
from torchlpr.studies.carbon_data import coordination_classes, density, surface_classes
from torchlpr.studies.realistic_carbon import Settings
from torchlpr.studies.registry import read_settings

CONFIG = Path(__file__).parents[2] / "examples/realistic_carbon/config.yaml"
needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("TORCHLPR_DATA", ".")) / "carbon_pbe/carbon_pbe.xyz").is_file(),
    reason="TORCHLPR_DATA does not name a folder with carbon_pbe/carbon_pbe.xyz",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("realistic")
    return folder, run_study("realistic_carbon", folder, CONFIG, quick=True)


@needs_data
@pytest.mark.slow
@pytest.mark.xdist_group("realistic study")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    names = {str(path.relative_to(run[0])) for path in run[0].rglob("*")}
    assert {"similarity.png", "transfer_kernel.png", "surfaces/atoms.json.gz"} <= names


@needs_data
@pytest.mark.xdist_group("realistic study")
def test_tables(run) -> None:
    with (run[0] / "similarity.csv").open() as file:
        table = np.array(list(csv.reader(file))[1:], dtype=float)
    np.testing.assert_allclose(table[:, 2:].sum(0), 1)
    with (run[0] / "transfer_linear.csv").open() as file:
        rows = np.array(list(csv.reader(file))[1:], dtype=float)
    rmse = np.sqrt(np.mean((rows[:, 1:] - rows[:, :1]) ** 2, axis=0))
    with (run[0] / "surfaces/results.csv").open() as file:
        found = [r for r in csv.DictReader(file) if r["head"] == "linear"]
    expected = [float(r["RMSE surfaces / (meV/atom)"]) for r in found]
    np.testing.assert_allclose(1000 * rmse, expected, rtol=6e-3)  # three digits in the table


def test_without_the_data(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("TORCHLPR_DATA", raising=False)
    with pytest.raises(InputError, match="set TORCHLPR_DATA to the folder that holds carbon_pbe"):
        run_study("realistic_carbon", tmp_path)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [0.0, 0.4, 0.93])
def test_surfaces_are_found_across_the_boundary(axis, shift) -> None:
    height = np.array([0.0, 1.0, 2.4, 4.0, 6.0, 7.6, 8.0])
    positions = np.full((7, 3), 0.5)
    positions[:, axis] = height + shift * 20
    cell = np.full(3, 3.0)
    cell[axis] = 20.0
    slab = Atoms("C7", positions=positions, cell=cell, pbc=True)
    slab.wrap()
    expected = ["surface"] * 3 + ["core"] + ["surface"] * 3
    assert surface_classes([slab]) == expected


def test_density_and_neighbours() -> None:
    atom = Atoms("C", cell=[1.4, 6.0, 6.0], pbc=True)
    assert density(atom) == pytest.approx(12.011 / (1.4 * 36) * 1.66053907)
    assert coordination_classes([atom]) == ["2-fold"]
    assert coordination_classes([Atoms("C", cell=[6.0] * 3, pbc=True)]) == ["others"]


def test_the_config_is_the_default() -> None:
    assert read_settings(Settings, CONFIG) == Settings()
