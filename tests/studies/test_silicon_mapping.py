import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from torchlpr import AtomBatch, LinearModel, Objective, Rigidity
from torchlpr.descriptors.soap import SOAP
from torchlpr.errors import InputError
from torchlpr.rigidity import offset_rigidity
from torchlpr.structures.single_environment import environment_spread
from torchlpr.studies import run_study
from torchlpr.studies.registry import read_settings
from torchlpr.studies.silicon_claims import convergence_claims, dft_claims, network_claims
from torchlpr.studies.silicon_convergence import KINDS, SizeResult
from torchlpr.studies.silicon_curves import network_figure
from torchlpr.studies.silicon_dft import DFTStage, invariant_points, run_dft
from torchlpr.studies.silicon_mapping import Settings
from torchlpr.studies.silicon_network import watch_networks
from torchlpr.studies.silicon_stage import offset_of_ratio
from torchlpr.studies.silicon_structures import (
    is_surface,
    labelled,
    nano_clusters,
    rattled,
    slab,
    strained_crystals,
)

CONFIG = Path(__file__).parents[2] / "examples/silicon_mapping/config.yaml"
FILE = "si_ge_mlearn/si.xyz"
needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("TORCHLPR_DATA", ".")) / FILE).is_file(),
    reason=f"TORCHLPR_DATA does not name a folder with {FILE}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Without the shared data: what is made here must do alone."""
    folder = tmp_path_factory.mktemp("silicon")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TORCHLPR_DATA", raising=False)
        return folder, run_study("silicon_mapping", folder, CONFIG, quick=True)


@pytest.mark.slow
@pytest.mark.xdist_group("silicon mapping")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    assert "functional theory was skipped: this study needs silicon" in run[1].data
    names = {path.name for path in run[0].iterdir()}
    assert {"mapping.png", "ratio.png", "clusters.png", "convergence.png"} <= names
    assert {"slabs.csv", "sizes.csv", "monitor.txt", "atoms.json.gz"} <= names
    assert not any("dft" in name for name in names)


@pytest.mark.slow
@pytest.mark.xdist_group("silicon mapping")
def test_energy_moves_from_one_cluster_to_the_other(run) -> None:
    """What bulk-like atoms have too much surface atoms lack: 56 of the ones, 8 of the others."""
    with (run[0] / "slabs.csv").open() as file:
        rows = list(csv.DictReader(file))
    alone = [row for row in rows if row["trained on"] == "slabs"]
    assert len(alone) == 4
    for row in alone:
        bulk, surface = (float(row[f"{name} atoms / meV"]) for name in ("bulk-like", "surface"))
        assert bulk == pytest.approx(-surface / 7, rel=0.02)
        # forces on slabs hold the form of a linear head, which reaches across the gap
        if (row["head"], row["loss"]) != ("linear", "energies and forces"):
            assert bulk > 40
            assert row["ad hoc"] == "yes"
    words = (run[0] / "monitor.txt").read_text()
    assert words.count("the mapping is ad hoc. Add one structure") >= 3
    assert "one crystal:\n" in words


@needs_data
def test_real_data() -> None:
    stages = run_dft([1], [0, 8], 1e-6)
    assert [claim.holds for claim in dft_claims(stages)] == [True, True, True]
    assert len(stages[0].errors) == 8
    # the crystals that the design took are judged by nobody
    assert len(set(stages[0].picks)) == 8
    assert dft_claims([]) == []


def test_equivalent_crystals_count_once() -> None:
    soap = SOAP(cutoff=5.0, max_radial=4, max_angular=4, width=0.5, smoothing=0.5, types=["Si"])
    two = strained_crystals(1)
    turned = [atoms.copy() for atoms in two]
    for atoms in turned:
        atoms.rotate(40, (1, 2, 3), rotate_cell=True)
    mixed = [
        *two,
        *labelled(turned),
        *rattled([two[0]], 1, 0.0, 0),
        rattled([slab(8)], 1, 0.1, 0)[0],
    ]
    assert invariant_points(soap, mixed).n_structures == 2


def test_offset_of_two_environments() -> None:
    n, share, other = 12, 0.75, 1.0
    counts = [(3, 1)] * n + [(2, 0)]
    kind = torch.cat([torch.tensor([0] * a + [1] * b) for a, b in counts])
    owner = torch.arange(n + 1).repeat_interleave(torch.tensor([a + b for a, b in counts]))
    batch = AtomBatch(torch.eye(2, dtype=torch.float64)[kind], torch.full_like(kind, 14), owner)
    rigidity = Rigidity(LinearModel(2, [14]), batch, Objective(1e-12))
    found = float(offset_rigidity(rigidity, batch, kind).rigidity[0])
    assert offset_of_ratio(share, other, n) == pytest.approx(found, rel=1e-9)


def test_structures() -> None:
    for layers in (8, 16, 32):
        atoms = slab(layers)
        assert len(atoms) == 4 * layers
        assert is_surface([atoms]).sum() == 8
    clusters = nano_clusters()
    shares = [is_surface([cluster]).mean() for cluster in clusters]
    assert len({round(share, 2) for share in shares}) > 4
    soap = SOAP(cutoff=3.77, max_radial=3, max_angular=3, width=0.5, smoothing=0.5, types=["Si"])
    assert environment_spread(soap(strained_crystals(3))).max() < 1e-10
    one, two = (rattled([slab(8)], 2, 0.05, 7, strain=0.01) for _ in range(2))
    assert np.array_equal(one[1].positions, two[1].positions)
    forces = one[0].get_forces()
    assert np.abs(forces.sum(0)).max() < 1e-10
    assert one[0].get_potential_energy() == pytest.approx(one[0].arrays["site_energy"].sum())


def test_networks_are_watched(tmp_path) -> None:
    objective = Objective(1e-6, force_weight=5e-4)
    runs = watch_networks([3], 4, 2, 3, 1, 8, 0.05, objective)
    assert [run.trained for run in runs] == ["slabs", "one crystal"]
    for run in runs:
        assert [report.epoch for report in run.reports] == [1, 2, 3, 4, 6]
        assert all(report.offset is not None for report in run.reports)
        assert run.crystal_errors[-1] == pytest.approx(
            np.sqrt(np.mean(np.square(run.reports[-1].errors[1:])))
        )
    assert not all(claim.holds for claim in network_claims(runs))  # far from trained
    network_figure(tmp_path / "networks.png", runs)
    assert (tmp_path / "networks.png").stat().st_size > 1000
    assert watch_networks([], 4, 2, 3, 1, 8, 0.05, objective) == network_claims([]) == []


def test_the_claims_can_fail() -> None:
    sizes = [SizeResult(kind, n, 0, 0.1, 0.1, 0.1, 0.1, 0.02, 1) for kind in KINDS for n in (1, 8)]
    assert not any(claim.holds for claim in convergence_claims(sizes))
    errors, lpr = torch.tensor([0.02, -0.02]), torch.ones(2)
    stages = [DFTStage(0, n, errors, lpr, 0.01 * (1 + n), 0.01, 9, [0]) for n in (0, 8)]
    assert not any(claim.holds for claim in dft_claims(stages))


def test_the_config_is_the_default() -> None:
    assert read_settings(Settings, CONFIG) == Settings()


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="added must hold 0"):
        Settings(added=[1, 2])
