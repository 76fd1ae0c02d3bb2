"""Chemiscope files, parsed back."""

import gzip
import json
import sys

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from numpy.testing import assert_allclose

from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.errors import InputError, MissingExtraError


@pytest.fixture
def structures():
    pytest.importorskip("chemiscope")
    crystal = bulk("Si", cubic=True)
    crystal.info["config_type"] = "diamond"
    crystal.arrays["tag"] = np.arange(8)
    return [crystal, molecule("H2O")]


LPR = 10.0 ** np.arange(11)


def test_contents(structures, tmp_path):
    before = [s.todict() for s in structures]
    points = np.arange(33.0).reshape(11, 3)
    path = write_chemiscope(
        tmp_path / "a.json",
        structures,
        {
            "lpr": torch.tensor(LPR),
            "coordination": [4] * 8 + [2, 1, 1],
            "species": np.array(["Si"] * 8 + ["O", "H", "H"]),
            "note": np.array(["x"] * 11, dtype=object),
        },
        map_coordinates=torch.tensor(points),
        cutoff=4.5,
        name="title",
        description="words",
    )
    data = json.loads(path.read_text())
    assert (data["meta"]["name"], data["meta"]["description"]) == ("title", "words")
    assert [s["size"] for s in data["structures"]] == [8, 3]
    assert {p["target"] for p in data["properties"].values()} == {"atom"}
    assert_allclose(data["properties"]["lpr"]["values"], LPR)
    assert data["properties"]["lpr"]["units"] == "eV^-2"
    assert_allclose(data["properties"]["log10 LPR"]["values"], np.arange(11), atol=1e-12)
    assert data["properties"]["log10 LPR"]["units"] == "log10(eV^-2)"
    assert data["properties"]["coordination"]["values"] == [4] * 8 + [2, 1, 1]
    assert data["properties"]["species"]["values"] == ["Si"] * 8 + ["O", "H", "H"]
    assert data["properties"]["structure"]["values"] == [0] * 8 + [1] * 3
    assert_allclose(data["properties"]["PC[3]"]["values"], points[:, 2])
    assert len(data["environments"]) == 11
    assert data["environments"][9] == {"structure": 1, "center": 1, "cutoff": 4.5}
    settings = data["settings"]
    assert settings["target"] == "atom"
    assert settings["map"]["x"]["property"] == "PC[1]"
    assert settings["map"]["y"]["property"] == "PC[2]"
    assert settings["map"]["color"]["property"] == "log10 LPR"
    assert settings["structure"][0]["color"]["property"] == "log10 LPR"
    assert settings["structure"][0]["unitCell"] is True
    for old, new in zip(before, [s.todict() for s in structures], strict=True):
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[key], new[key]) for key in old)


def test_compressed_files_are_the_same_every_time(structures, tmp_path):
    first = write_chemiscope(tmp_path / "a.json.gz", structures, {"lpr": LPR})
    second = write_chemiscope(tmp_path / "b.json.gz", structures, {"lpr": LPR})
    assert first.read_bytes() == second.read_bytes()
    data = json.loads(gzip.decompress(first.read_bytes()))
    # without a map: rigidity against the number of the structure
    assert data["settings"]["map"]["x"]["property"] == "structure"
    assert data["settings"]["map"]["y"]["property"] == "log10 LPR"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json.gz", "b.json.gz"]


@pytest.mark.parametrize(
    ("per_atom", "color"),
    [
        ({"species": ["a"] * 11, "local_energy": LPR}, "local_energy"),
        ({"dipole": np.ones((11, 3))}, "dipole[1]"),
        ({"species": ["a"] * 11}, "structure"),
    ],
)
def test_colour_without_lpr(structures, tmp_path, per_atom, color):
    path = write_chemiscope(tmp_path / "a.json", structures, per_atom)
    data = json.loads(path.read_text())
    assert data["settings"]["map"]["color"]["property"] == color


@pytest.mark.parametrize(
    ("name", "per_atom", "points", "message"),
    [
        ("a.json", {"lpr": LPR[:-1]}, None, "11"),
        ("a.json", {"lpr": -LPR}, None, "positive"),
        ("a.json", {"energy": np.append(LPR[:-1], np.nan)}, None, "energy is nan at index 10"),
        ("a.json", {"energy": np.append(LPR[:-1], np.inf)}, None, "finite"),
        ("a.json", {"species": ["a"] * 10}, None, "species"),
        ("a.json", {"lpr": LPR}, np.ones((10, 2)), "map coordinates"),
        ("a.json", {"lpr": LPR}, np.full((11, 2), np.nan), "map coordinates"),
        ("a.json", {}, None, "quantities"),
        ("a.xyz", {"lpr": LPR}, None, "json"),
    ],
)
def test_refuses_and_writes_nothing(structures, tmp_path, name, per_atom, points, message):
    with pytest.raises(InputError, match=message):
        write_chemiscope(tmp_path / name, structures, per_atom, map_coordinates=points)
    assert list(tmp_path.iterdir()) == []


def test_absent_chemiscope_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "chemiscope", None)
    with pytest.raises(MissingExtraError, match=r"chemiscope is not .*torchlpr\[plots\]"):
        write_chemiscope(tmp_path / "a.json", [bulk("Si")], {"lpr": [1.0, 2.0]})


def test_real_silicon(silicon, tmp_path):
    pytest.importorskip("chemiscope")
    path = write_chemiscope(
        tmp_path / "si.json.gz",
        silicon.structures,
        {"lpr": silicon.after, "coordination": silicon.array("coordination")},
        map_coordinates=silicon.features[:, :2],
    )
    data = json.loads(gzip.decompress(path.read_bytes()))
    assert len(data["environments"]) == len(data["properties"]["lpr"]["values"]) == 1280
    assert_allclose(data["properties"]["lpr"]["values"], silicon.after)
