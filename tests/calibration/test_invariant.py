"""Which structures have a single environment: crystals by symmetry, and nothing else."""

from pathlib import Path

import ase.io
import numpy as np
import torch
from ase.build import bulk, graphene, make_supercell

from torchlpr import SOAP, AtomBatch
from torchlpr.calibration import single_environment

SETTINGS = {"cutoff": 4.5, "max_radial": 5, "max_angular": 4, "width": 0.5, "smoothing": 0.5}


def test_crystals_by_symmetry() -> None:
    strained = bulk("Si", cubic=True)
    strained.set_cell(strained.cell @ np.array([[1.03, 0.1, 0], [0, 0.98, 0.02], [0, 0, 1]]), True)
    rattled = bulk("Si", cubic=True)
    rattled.rattle(1e-3, seed=0)
    rounded = strained.copy()
    rounded.positions = np.round(rounded.positions, 5)  # as a file may have it
    sheet = graphene("C2", a=2.46, vacuum=6, size=(2, 2, 1))
    sheet.pbc = True
    bilayer = bulk("C", "hcp", a=2.46, c=6.7)  # AB stacked graphite has two kinds of sites
    graphite = make_supercell(bilayer, np.eye(3))
    graphite.set_scaled_positions([[0, 0, 0.25], [0, 0, 0.75]])
    graphite += graphite.copy()
    graphite.set_scaled_positions([
        [0, 0, 0.25],
        [0, 0, 0.75],
        [1 / 3, 2 / 3, 0.25],
        [2 / 3, 1 / 3, 0.75],
    ])
    structures = [
        bulk("Si"),
        strained,
        rounded,
        rattled,
        sheet,
        graphite,
        bulk("SiC", "zincblende", a=4.3),
    ]
    batch = SOAP(**SETTINGS, types=["C", "Si"])(structures)
    assert single_environment(batch).tolist() == [True, True, True, False, True, False, False]


def test_species_count_even_where_features_agree() -> None:
    """The two sites of rock salt see neighbours of other species; alone, the type would tell."""
    features = torch.ones(3, 2, dtype=torch.float64)
    batch = AtomBatch(features, torch.tensor([11, 17, 11]), torch.tensor([0, 0, 1]))
    assert single_environment(batch).tolist() == [False, True]


def test_strained_crystals_of_a_real_set(data_dir: Path) -> None:
    """The elastic cells of silicon are invariant points of DFT; molecular dynamics has none."""
    frames = ase.io.read(data_dir / "si_ge_mlearn/si.xyz", ":")
    elastic = [atoms for atoms in frames if atoms.info["config_type"] == "Elastic"]
    others = [atoms for atoms in frames if atoms.info["config_type"] == "AIMD-NVT"][:5]
    found = single_environment(SOAP(**SETTINGS, types=["Si"])([*elastic, *others]))
    assert found.tolist() == [True] * len(elastic) + [False] * len(others)
    assert len(elastic) == 61
