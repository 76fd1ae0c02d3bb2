import csv
import io
import tarfile
from pathlib import Path

import ase.io
import numpy as np
import pytest

from torchlpr.errors import InputError
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.studies import amorphous_silicon as module
from torchlpr.studies import run_study
from torchlpr.studies.amorphous_silicon import DEFECTS, FREE, Settings
from torchlpr.studies.registry import read_settings

CONFIG = Path(__file__).parents[2] / "examples/amorphous_silicon/config.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("silicon")
    return folder, run_study("amorphous_silicon", folder, CONFIG, quick=True)


@pytest.mark.xdist_group("silicon study")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    assert len(run[1].claims) == 10
    names = {path.name for path in run[0].iterdir()}
    assert {"kernel_defects.png", "linear_defects.png", "atoms.json.gz"} <= names


@pytest.mark.xdist_group("silicon study")
def test_the_tables_are_those_of_the_claims(run) -> None:
    with (run[0] / "atoms.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30 * 64
    wrong = np.array([row["class"] != "4-coordinated" for row in rows])
    lpr = {
        name: np.array([float(row[f"kernel {name} LPR"]) for row in rows])
        for name in ("before", "defects")
    }
    ratio = np.median(lpr["defects"][wrong]) / np.median(lpr["before"][wrong])
    assert run[1].claims[0].value == pytest.approx(ratio, rel=0.02)  # torch takes the lower median
    with (run[0] / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["head"], row["training set"]) for row in table] == [
        (head, name) for head in ("kernel", "linear") for name in ("before", "defects")
    ]
    change = float(table[1]["RMSE defect-free / (meV/atom)"]) - float(
        table[0]["RMSE defect-free / (meV/atom)"]
    )
    assert run[1].claims[2].value == pytest.approx(change, abs=0.011)


def test_the_config_is_the_default() -> None:
    assert read_settings(Settings, CONFIG) == Settings()


def test_the_original_files_are_split(monkeypatch, tmp_path) -> None:
    """A stand-in for the published archive."""
    frames = amorphous_silicon("test")
    sets = {
        FREE: [f for f in frames if f.info["class"] == "defect_free"],
        DEFECTS: [f for f in frames if f.info["class"] == "defect_containing"],
    }
    path = tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, members in sets.items():
            text = io.StringIO()
            ase.io.write(text, members, format="extxyz")
            entry = tarfile.TarInfo(name)
            entry.size = len(text.getvalue().encode())
            tar.addfile(entry, io.BytesIO(text.getvalue().encode()))
    monkeypatch.setattr(module, "fetch_archive", lambda: path)
    text, free, defects = module._original(Settings(share=0.5))
    assert "Materials Cloud 2023.102" in text
    assert {name: len(part) for name, part in free.items()} == {
        "test": 6, "validation": 6, "train": 18,
    }  # fmt: skip
    assert {name: len(part) for name, part in defects.items()} == {"train": 9, "test": 21}
    energies = [f.get_potential_energy() for part in free.values() for f in part]
    assert len(set(energies)) == 30


def test_data_must_be_known(tmp_path) -> None:
    with pytest.raises(InputError, match="data must be one of surrogate, original, not 'mine'"):
        run_study("amorphous_silicon", tmp_path, data="mine")
    with pytest.raises(
        InputError, match="toy_model has one set of data; leave out --data original"
    ):
        run_study("toy_model", tmp_path, data="original")
