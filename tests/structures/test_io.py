"""Reading and writing: one normal form, all digits, all or nothing."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from torchlpr.errors import InputError
from torchlpr.structures.io import energy_of, forces_of, read, require_energies, write

ENERGIES = [-10.123456789012345, -21.987654321098765]


def labelled() -> list[Atoms]:
    rng = np.random.default_rng(0)
    structures = [bulk("Si"), bulk("Ge", cubic=True)]
    for atoms, energy in zip(structures, ENERGIES, strict=True):
        atoms.rattle(0.1, rng=rng)
        forces = rng.normal(size=(len(atoms), 3))
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return structures


def renamed(structures: list[Atoms]) -> list[Atoms]:
    """The same labels under MACE's names."""
    for atoms in structures:
        atoms.info["REF_energy"] = energy_of(atoms)
        atoms.arrays["REF_forces"] = forces_of(atoms)
        atoms.calc = None
    return structures


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def snapshot(atoms: Atoms) -> tuple:
    arrays = {name: array.copy() for name, array in atoms.arrays.items()}
    return arrays, dict(atoms.info), atoms.calc, atoms.cell.array.copy()


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.xyz.gz", "a.traj", "a@2.xyz"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    before = labelled()
    before[0].info["config_type"] = "diamond"
    write(tmp_path / name, before)
    write(tmp_path / f"again-{name}", read(tmp_path / name))
    after = read(tmp_path / f"again-{name}")
    for old, new, energy in zip(before, after, ENERGIES, strict=True):
        assert energy_of(new) == energy == new.get_potential_energy()
        np.testing.assert_array_equal(forces_of(new), old.get_forces())
        np.testing.assert_array_equal(new.get_forces(), old.get_forces())
        np.testing.assert_array_equal(new.positions, old.positions)
        np.testing.assert_array_equal(new.cell.array, old.cell.array)
        np.testing.assert_array_equal(new.numbers, old.numbers)
        assert new.pbc.all()
    assert after[0].info["config_type"] == "diamond"


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.bz2"])
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_small_values_keep_their_digits(tmp_path: Path, name: str, make) -> None:
    structures = labelled()
    lpr = np.random.default_rng(1).lognormal(size=10) * 1e-12
    write(tmp_path / name, structures, lpr=make(lpr), pair=make(np.outer(lpr, [1.0, -3e-9])))
    after = read(tmp_path / name)
    np.testing.assert_allclose(np.concatenate([a.arrays["lpr"] for a in after]), lpr, rtol=1e-8)
    pair = np.concatenate([a.arrays["pair"] for a in after])
    np.testing.assert_array_equal(pair, np.outer(lpr, [1.0, -3e-9]))


def test_ase_alone_would_lose_them(tmp_path: Path) -> None:
    """The reason for our own formatting; if this fails ASE has learned it and ours can go."""
    atoms = bulk("Si")
    atoms.arrays["lpr"] = np.array([1e-12, 2e-12])
    ase.io.write(tmp_path / "a.xyz", atoms)
    assert not ase.io.read(tmp_path / "a.xyz").arrays["lpr"].any()


def test_arrays_of_every_kind(tmp_path: Path) -> None:
    structures = [bulk("Si"), molecule("H2O"), Atoms("He")]
    structures[0].set_constraint(FixAtoms([1]))
    write(
        tmp_path / "a.xyz",
        structures,
        lists=[[0.5, 1.5], [2.5, 3.5, 4.5], [5.5]],
        tensors=[torch.full((n, 2), float(n), dtype=torch.bfloat16) for n in (2, 3, 1)],
        inside=np.arange(6) % 2 == 0,
        fold=list(range(6)),
        single=np.array([1.0, np.inf, -np.inf, 1e-300, 1e300, 7.0], dtype=np.float64)[:, None],
    )
    si, water, helium = read(tmp_path / "a.xyz")
    assert si.arrays["lists"].tolist() == [0.5, 1.5]
    assert helium.arrays["lists"].tolist() == [5.5]
    assert water.arrays["tensors"].tolist() == [[3.0, 3.0]] * 3
    assert helium.arrays["tensors"].tolist() == [[1.0, 1.0]]
    assert water.arrays["inside"].tolist() == [True, False, True]
    assert water.arrays["fold"].tolist() == [2, 3, 4]
    assert water.arrays["single"].tolist() == [-np.inf, 1e-300, 1e300]
    assert si.constraints[0].index.tolist() == [1]
    assert not water.pbc.any()


def test_write_leaves_the_structures_alone(tmp_path: Path) -> None:
    structures = labelled()
    structures[0].info["energy"] = 3.0
    before = [snapshot(atoms) for atoms in structures]
    write(tmp_path / "a.xyz", structures, lpr=np.ones(10))
    for atoms, (arrays, info, calc, cell) in zip(structures, before, strict=True):
        assert atoms.info == info
        assert atoms.calc is calc
        assert atoms.arrays.keys() == arrays.keys()
        for name in arrays:
            np.testing.assert_array_equal(atoms.arrays[name], arrays[name])
        np.testing.assert_array_equal(atoms.cell.array, cell)


def test_labels_of_another_geometry_are_not_written(tmp_path: Path) -> None:
    atoms = labelled()[0]
    atoms.positions[0] += 0.1
    assert energy_of(atoms) is None
    assert forces_of(atoms) is None
    write(tmp_path / "a.xyz", atoms)
    assert energy_of(read(tmp_path / "a.xyz")[0]) is None


def test_live_calculators_are_not_run(tmp_path: Path) -> None:
    atoms = bulk("Cu")
    atoms.calc = EMT()
    assert energy_of(atoms) is None
    energy = atoms.get_potential_energy()
    write(tmp_path / "a.xyz", atoms)
    assert energy_of(read(tmp_path / "a.xyz")[0]) == energy


def test_other_keys(tmp_path: Path) -> None:
    structures = renamed(labelled())
    for atoms in structures:
        atoms.info["energy"] = 99.0  # of another potential
    ase.io.write(tmp_path / "a.xyz", structures)
    found = read(tmp_path / "a.xyz", "REF_energy", "REF_forces")
    assert [energy_of(atoms) for atoms in found] == ENERGIES
    assert forces_of(found[1]) == pytest.approx(structures[1].arrays["REF_forces"], abs=1e-8)
    write(tmp_path / "b.xyz", found)
    for keys in ((), ("REF_energy", "REF_forces")):
        again = read(tmp_path / "b.xyz", *keys)
        assert [energy_of(atoms) for atoms in again] == ENERGIES
        np.testing.assert_array_equal(forces_of(again[1]), forces_of(found[1]))


def test_info_and_arrays_come_before_the_calculator(tmp_path: Path) -> None:
    atoms = labelled()[0]
    atoms.info["energy"] = 3.0
    ase.io.write(tmp_path / "a.traj", atoms)
    found = read(tmp_path / "a.traj")[0]
    assert energy_of(atoms) == energy_of(found) == found.get_potential_energy() == 3.0
    assert "energy" not in found.info


def test_no_keys_read_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", labelled())
    for atoms in read(tmp_path / "a.xyz", None, None):
        assert energy_of(atoms) is None
        assert forces_of(atoms) is None
        assert atoms.calc is None


def test_stress_survives(tmp_path: Path) -> None:
    atoms = bulk("Si")
    stress = np.arange(6) / 7
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, stress=stress)
    write(tmp_path / "a.xyz", atoms)
    np.testing.assert_array_equal(read(tmp_path / "a.xyz")[0].get_stress(), stress)


def test_index(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", labelled())
    assert [energy_of(a) for a in read(tmp_path / "a.xyz", index=1)] == ENERGIES[1:]
    assert [energy_of(a) for a in read(tmp_path / "a.xyz", index=":1")] == ENERGIES[:1]
    assert [energy_of(a) for a in read(tmp_path / "a.xyz", index=slice(None))] == ENERGIES


def test_structures_without_energies(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", renamed(labelled()))
    structures = read(tmp_path / "a.xyz")
    assert [energy_of(atoms) for atoms in structures] == [None, None]
    with pytest.raises(InputError, match=r"structure 0 of a.xyz has no energy.*REF_energy"):
        require_energies(structures, "a.xyz")
    require_energies(read(tmp_path / "a.xyz", "REF_energy"), "a.xyz")


def test_absent_keys_are_told_with_those_there(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", renamed(labelled()))
    with pytest.raises(InputError, match=r"'dft_energy'.*energy_key among: REF_energy"):
        read(tmp_path / "a.xyz", "dft_energy")
    with pytest.raises(InputError, match=r"'F'.*forces_key among: REF_forces"):
        read(tmp_path / "a.xyz", "REF_energy", "F")


def test_energies_on_some_structures_only(tmp_path: Path) -> None:
    first, second = labelled()
    second.calc = None
    write(tmp_path / "a.xyz", [first, second])
    with pytest.raises(
        InputError, match=r"structure 1 of .*a\.xyz has no energy while structure 0"
    ):
        read(tmp_path / "a.xyz")
    assert len(read(tmp_path / "a.xyz", None, None)) == 2


@pytest.mark.parametrize("energy", ["", "=abc", '="1.0 2.0"', "=nan", "=inf"])
def test_energies_that_are_none(tmp_path: Path, energy: str) -> None:
    text = f"1\nProperties=species:S:1:pos:R:3 REF_energy{energy}\nHe 0 0 0\n"
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(InputError, match=r"structure 0 of .*a\.xyz.* energy"):
        read(tmp_path / "a.xyz", "REF_energy")


def test_forces_of_the_wrong_shape(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", bulk("Si"), f=np.ones((2, 2)))
    with pytest.raises(InputError, match=r"structure 0 of .*shape \(2, 2\)"):
        read(tmp_path / "a.xyz", forces_key="f")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    cases = {
        "absent.xyz": (None, "does not exist"),
        "empty.xyz": ("", "is empty"),
        "blank.xyz": ("\n\n", "holds no structures"),
        "garbage.xyz": ("not a structure\n", "cannot be read"),
        "short.xyz": ("3\n\nH 0 0 0\n", "cannot be read"),
        "unknown.dat": ("1 2 3\n", "cannot be read"),
        "element.xyz": ("1\n\nQq 0 0 0\n", "cannot be read"),
    }
    for name, (text, message) in cases.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        if message == "cannot be read":
            assert caught.value.__cause__ is not None
    with pytest.raises(InputError, match="is a directory"):
        read(tmp_path)
    write(tmp_path / "a.xyz", labelled())
    with pytest.raises(InputError, match="cannot be read with index 7"):
        read(tmp_path / "a.xyz", index=7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(9), r"shape \(9,\), but the structures have 10 atoms"),
        (np.float64(1.0), "10 atoms"),
        (np.ones((10, 2, 2)), r"structure 0 has shape \(2, 2, 2\)"),
        (np.ones((10, 0)), "structure 0"),
        ([np.ones(2)], "1 arrays for 2 structures"),
        ([np.ones(8), np.ones(2)], "structure 0 has shape"),
        ([np.ones(2), np.ones(7)], "structure 1 has shape"),
        (np.ones(10, complex), "cannot be written"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, values, message: str) -> None:
    (tmp_path / "a.xyz").write_text("old")
    with pytest.raises(InputError, match=message):
        write(tmp_path / "a.xyz", labelled(), lpr=values)
    assert (tmp_path / "a.xyz").read_text() == "old"
    assert names(tmp_path) == ["a.xyz"]


@pytest.mark.parametrize("name", ["energies", "charges", "positions", "pos", "a b", "a::b"])
def test_names_that_ase_would_hide(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="rename"):
        write(tmp_path / "a.xyz", labelled(), **{name: np.ones(10)})


def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.xyz", labelled()[:1])
    old = (tmp_path / "a.xyz").read_bytes()

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("torchlpr.structures.io.ase.io.write", fail)
    with pytest.raises(InputError, match="disk full") as caught:
        write(tmp_path / "a.xyz", labelled())
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == ["a.xyz"]
    assert (tmp_path / "a.xyz").read_bytes() == old


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no structures to write"):
        write(tmp_path / "a.xyz", [])
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "absent" / "a.xyz", labelled())
    with pytest.raises(InputError, match=r"a\.whatever cannot be written"):
        write(tmp_path / "a.whatever", labelled())
    for name in ("a.cif", "a.traj"):
        with pytest.raises(InputError, match=f"{name} is of the format .* cannot hold lpr"):
            write(tmp_path / name, labelled(), lpr=np.ones(10))
    text = bulk("Si")
    text.arrays["site"] = np.array(["a b", "c"])
    with pytest.raises(InputError, match="spaces"):
        write(tmp_path / "a.xyz", text)
    assert names(tmp_path) == []


def test_formats_by_full_name(tmp_path: Path) -> None:
    write(tmp_path / "POSCAR", bulk("Si"))
    assert names(tmp_path) == ["POSCAR"]
    assert read(tmp_path / "POSCAR")[0].get_chemical_formula() == "Si2"


@pytest.mark.parametrize(
    ("name", "frames", "forces"),
    [
        ("carbon_lda/crystals.xyz", 400, True),
        ("molecules/qm9_100.xyz", 100, False),
        ("si_castep/si_castep.xyz", 56, True),
        ("si_tersoff_local/si_tersoff_local.xyz", 323, True),
    ],
)
def test_real_data(data_dir: Path, tmp_path: Path, name: str, frames: int, forces: bool) -> None:
    structures = read(data_dir / name)
    assert len(structures) == frames
    require_energies(structures, name)
    assert all((forces_of(atoms) is not None) == forces for atoms in structures)
    expected = ase.io.read(data_dir / name, ":")
    write(tmp_path / "copy.xyz", structures[:40])
    again = read(tmp_path / "copy.xyz")
    for atoms, old in zip(again, expected, strict=False):
        assert energy_of(atoms) == old.calc.results["energy"]
        np.testing.assert_array_equal(atoms.positions, old.positions)
        assert atoms.info.keys() == old.info.keys()
        assert atoms.arrays.keys() == old.arrays.keys()


def test_local_energies_add_up(data_dir: Path) -> None:
    for atoms in read(data_dir / "gaas_bop_local" / "gaas_bop_local.xyz"):
        assert atoms.arrays["local_energy"].sum() == pytest.approx(energy_of(atoms), abs=1e-5)
