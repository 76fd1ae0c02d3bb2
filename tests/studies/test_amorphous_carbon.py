import csv
from pathlib import Path

import numpy as np
import pytest

from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.embedded import amorphous_carbon
from torchlpr.structures.tersoff_energy import CARBON, tersoff_site_energies
from torchlpr.studies import amorphous_carbon as module
from torchlpr.studies import run_study
from torchlpr.studies.amorphous_carbon import Settings, diamond
from torchlpr.studies.registry import read_settings

CONFIG = Path(__file__).parents[2] / "examples/amorphous_carbon/config.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("carbon")
    return folder, run_study("amorphous_carbon", folder, CONFIG, quick=True)


@pytest.mark.xdist_group("carbon study")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    gains = [claim.value for claim in run[1].claims if "adds 1 to its LPR" in claim.text]
    assert gains == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.xdist_group("carbon study")
def test_the_tables_cover_both_variants(run) -> None:
    with (run[0] / "rigidity.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"] in {"sp2", "sp3"}]
    assert {(row["head"], row["training set"]) for row in rows} == {
        (head, variant) for head in ("kernel", "linear") for variant in ("other ratio", "diamond")
    }
    for row in rows:
        before, after = (float(row[f"median LPR {when} / eV^-2"]) for when in ("before", "after"))
        assert float(row["ratio"]) == pytest.approx(after / before, rel=0.01)


def test_the_shipped_cells_are_what_they_say() -> None:
    frames = amorphous_carbon()
    subsets: dict[int, set[str]] = {}
    for frame in frames:
        counts = np.bincount(coordination_numbers(frame, 1.82), minlength=5)
        assert len(frame) == 64
        assert 64 - counts[3] - counts[4] <= 4
        apart = abs(counts[3] - counts[4])
        assert apart == 0 if frame.info["class"] == "equal" else apart >= 64 / 3
        energy = tersoff_site_energies(frame, CARBON).sum()
        assert energy == pytest.approx(frame.get_potential_energy(), abs=1e-6)
        subsets.setdefault(frame.info["trajectory"], set()).add(frame.info["subset"])
    assert all(len(names) == 1 for names in subsets.values())


def test_diamond() -> None:
    """Lowest at its own lattice constant, with the energy of the published potential."""
    assert diamond().get_potential_energy() / 8 == pytest.approx(-7.37, abs=0.01)
    assert diamond(-9.0).get_potential_energy() == pytest.approx(-72)
    for factor in (0.995, 1.005):
        crystal = diamond()
        crystal.set_cell(factor * crystal.cell, scale_atoms=True)
        energy = tersoff_site_energies(crystal, CARBON).sum()
        assert energy > diamond().get_potential_energy()


def test_original_cells_are_sorted_by_coordination(monkeypatch) -> None:
    monkeypatch.setattr(module, "fetch_archive", lambda: None)
    monkeypatch.setattr(module, "archive_structures", lambda *_: amorphous_carbon())
    text, equal, other = module._original(Settings())
    assert "2023.102" in text
    for frames, balanced in ((equal, True), (other, False)):
        for frame in (f for part in frames.values() for f in part):
            assert (frame.info["class"] == "equal") is balanced
    assert len(other["train"]) == round(0.1 * len(equal["train"]))


def test_the_config_is_the_default() -> None:
    assert read_settings(Settings, CONFIG) == Settings()
