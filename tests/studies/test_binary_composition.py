import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from torchlpr import AtomBatch, LinearModel, Objective, Rigidity, offset_rigidity
from torchlpr.structures.embedded import gallium_arsenide
from torchlpr.studies import binary_composition as module
from torchlpr.studies import run_study
from torchlpr.studies.binary_composition import Settings, two_cluster_offset
from torchlpr.studies.registry import read_settings

CONFIG = Path(__file__).parents[2] / "examples/binary_composition/config.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary")
    return folder, run_study("binary_composition", folder, CONFIG, quick=True)


@pytest.mark.xdist_group("binary study")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    assert len(run[1].claims) == 2 * 3 * 5


@pytest.mark.xdist_group("binary study")
def test_the_offset_is_tabulated_beside_that_of_two_constants(run) -> None:
    with (run[0] / "offset.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {
        (r["head"], r["training set"]): [
            float(r[f"{name} / eV^-2"]) for name in ("offset rigidity", "two constants")
        ]
        for r in rows
    }
    assert len(found) == 2 * 4
    for head in ("kernel", "linear"):
        assert found[head, "before"][1] == 0
        for variant in ("other ratio", "pure Ga", "pure As"):
            assert found[head, variant][0] > 10 * found[head, "before"][0]


@pytest.mark.parametrize("share", [0.25, 0.625, 1.0])
def test_two_constants(share) -> None:
    """Against the rigidity of a model that knows nothing but the species."""
    n1, n2 = 9, 2
    shares = [0.5] * n1 + [share] * n2
    types = torch.tensor([31 if a < 8 * p else 33 for p in shares for a in range(8)])
    owner = torch.arange(len(shares)).repeat_interleave(8)
    batch = AtomBatch(torch.ones(len(types), 1, dtype=torch.float64), types, owner)
    rigidity = Rigidity(LinearModel(1, ["Ga", "As"]), batch, Objective(1e-12))
    found = float(offset_rigidity(rigidity, batch, types).rigidity[0])
    assert two_cluster_offset(n1, [share] * n2) == pytest.approx(found, rel=1e-8)
    assert found == pytest.approx((share - 0.5) ** 2 * n1 * n2 / (n1 + n2), rel=1e-8)


def test_the_shipped_cells() -> None:
    frames = gallium_arsenide()
    subsets: dict[int, set[str]] = {}
    for frame in frames:
        assert len(frame) == 64
        assert set(frame.get_chemical_symbols()) <= {"Ga", "As"}
        assert 1500 <= frame.info["temperature_K"] <= 2500
        assert -3.2 < frame.get_potential_energy() / 64 < -1.2
        subsets.setdefault(frame.info["trajectory"], set()).add(frame.info["subset"])
    assert all(len(names) == 1 for names in subsets.values())
    assert len({frame.get_potential_energy() for frame in frames}) == len(frames)


def test_original_cells_are_sorted_by_composition(monkeypatch) -> None:
    monkeypatch.setattr(module, "fetch_archive", lambda: None)
    monkeypatch.setattr(module, "archive_structures", lambda *_: gallium_arsenide())
    text, sets = module._original(Settings(share=0.05))
    assert "2023.102" in text
    for name, frames in sets.items():
        shares = {float(np.mean(frame.numbers == 31)) for frame in frames}
        kind = name.split()[0]
        expected = {"equal": shares <= {0.5}, "Ga": shares <= {1.0}, "As": shares <= {0.0}}
        assert expected.get(kind, not shares & {0.0, 0.5, 1.0})
    assert len(sets["Ga train"]) == round(0.05 * len(sets["equal train"]))


def test_the_config_is_the_default() -> None:
    assert read_settings(Settings, CONFIG) == Settings()
