"""Every way in which a structure can be unusable, and the sentence about it."""

import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from torchlpr.errors import InputError
from torchlpr.structures.io import read
from torchlpr.structures.validation import validate


def labelled(**results: object) -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results.update(results)
    return atoms


def refusal(*structures: Atoms, **settings: object) -> str:
    with pytest.raises(InputError) as caught:
        validate(structures, "a.xyz", **settings)
    message = str(caught.value)
    assert "a.xyz" in message
    assert "\n" not in message
    assert ". " not in message
    return message


def two_atoms(distance: float, **settings: object) -> Atoms:
    return Atoms("He2", positions=[[0, 0, 0], [0, 0, distance]], **settings)


def test_good_structures() -> None:
    validate([labelled(energy=-1.0, forces=np.zeros((8, 3)))], "a.xyz", require_energy=True)
    validate([bulk("Si"), molecule("H2O"), Atoms("He")], "a.xyz", types=[1, 2, 8, 14])


def test_nothing() -> None:
    assert "no structures" in refusal()
    assert "structure 1 of a.xyz has no atoms" in refusal(bulk("Si"), Atoms())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_geometry_that_is_not_finite(value: float) -> None:
    atoms = bulk("Si")
    atoms.positions[1, 2] = value
    message = refusal(bulk("Si"), atoms)
    assert "structure 1" in message
    assert "atom 1" in message
    assert str(value) in message
    atoms = bulk("Si")
    atoms.cell[0, 0] = value
    assert "cell" in refusal(atoms)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True)])
def test_mixed_periodicity(pbc: tuple[bool, bool, bool]) -> None:
    atoms = bulk("Si", cubic=True)
    atoms.pbc = pbc
    message = refusal(atoms)
    assert str(list(pbc)) in message
    assert "pbc=True" in message
    assert "vacuum" in message


@pytest.mark.parametrize(
    "cell",
    [
        np.zeros((3, 3)),
        [[5, 0, 0], [0, 5, 0], [0, 0, 0]],
        [[5, 0, 0], [0, 5, 0], [5, 5, 0]],
        [[5, 0, 0], [0, 5, 0], [5, 5, 1e-9]],
        [[5, 0, 0], [10, 0, 0], [0, 0, 5]],
    ],
)
def test_flat_cells(cell) -> None:
    assert "no volume" in refusal(Atoms("He", cell=cell, pbc=True))
    validate([Atoms("He", cell=cell)], "a.xyz")


def test_left_handed_cells_are_good() -> None:
    validate([Atoms("He", cell=[[0, 5, 0], [5, 0, 0], [0, 0, 5]], pbc=True)], "a.xyz")


@pytest.mark.parametrize("distance", [0.0, 0.12, 0.299])
def test_close_atoms(distance: float) -> None:
    message = refusal(bulk("Si"), two_atoms(distance))
    assert "structure 1 of a.xyz has atoms 0 and 1" in message
    assert f"{distance:.3g} Angstrom" in message


def test_atoms_far_enough() -> None:
    validate([two_atoms(0.301)], "a.xyz")
    # the same pair with its image in between: close only if periodic
    validate([two_atoms(3.9, cell=[4, 4, 4])], "a.xyz")
    assert "0.1 Angstrom" in refusal(two_atoms(3.9, cell=[4, 4, 4], pbc=True))
    assert "0.1 Angstrom" in refusal(two_atoms(403.9, cell=[4, 4, 4], pbc=True))


def test_images_of_the_same_atom() -> None:
    message = refusal(Atoms("He", cell=[4, 0.2, 4], pbc=True))
    assert "atoms 0 and 0 only 0.2 Angstrom" in message
    # all sides are long, but a sum of two of them is short
    assert "0.25 Angstrom" in refusal(
        Atoms("He", cell=[[4, 0, 0], [4, 0.25, 0], [0, 0, 4]], pbc=True)
    )
    validate([Atoms("He", cell=[4, 0.35, 4], pbc=True)], "a.xyz")


def brute_force(atoms: Atoms, cell: np.ndarray) -> float:
    """Shortest distance, from all images of a compact cell of the same lattice."""
    positions = Atoms(positions=atoms.positions, cell=cell, pbc=True).get_positions(wrap=True)
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3) @ cell
    distances = [
        np.linalg.norm(positions[:, None] - positions + shift, axis=-1)
        + np.diag(np.full(len(atoms), 0.0 if shift.any() else np.inf))
        for shift in shifts
    ]
    return float(np.min(distances))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("size", [0.45, 3.0, 12.0])
def test_sheared_cells_agree_with_brute_force(seed: int, size: float) -> None:
    """The same lattice in a compact cell and in a sheared one, down to heights of 0.02 A."""
    rng = np.random.default_rng(seed)
    compact = size * (np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    n_atoms = 40 if size > 10 else 2 if size > 1 else 1
    shear = np.eye(3, dtype=int)
    for i, j in [(0, 1), (1, 2), (2, 0)]:
        shear[i] += rng.integers(-3, 4) * shear[j]
    atoms = Atoms(
        f"He{n_atoms}", scaled_positions=rng.random((n_atoms, 3)), cell=shear @ compact, pbc=True
    )
    atoms.positions += rng.integers(-2, 3, size=(n_atoms, 3)) @ compact
    for distance in (0.0, 0.29, 0.31):
        trial = atoms.copy()
        if distance:
            step = rng.normal(size=3)
            step *= distance / np.linalg.norm(step)
            trial += Atoms("He", [atoms.positions[0] + step + rng.integers(-3, 4, 3) @ compact])
        expected = brute_force(trial, compact)
        if expected < 0.3:
            assert f" {expected:.3g} Angstrom" in refusal(trial)
        else:
            validate([trial], "a.xyz")


def test_planted_pairs_in_a_large_cell() -> None:
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        trial = atoms.copy()
        i, j = sorted(rng.choice(512, 2, replace=False))
        trial.positions[j] = trial.positions[i] + [0.1, -0.2, 0.05]
        trial.wrap()
        assert f"atoms {i} and {j} only 0.229 Angstrom" in refusal(trial)
        trial.pbc = False
        trial.positions[j] = trial.positions[i] + [0.1, -0.2, 0.05]
        assert f"atoms {i} and {j} only 0.229 Angstrom" in refusal(trial)


def test_unknown_elements() -> None:
    message = refusal(bulk("Si"), bulk("GaAs", "zincblende", a=5.65), types={14, 31})
    assert "structure 1" in message
    assert "As (atomic number 33)" in message
    assert "Si (14), Ga (31)" in message
    validate([bulk("GaAs", "zincblende", a=5.65)], "a.xyz", types=np.array([31, 33]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_not_finite(value: float) -> None:
    assert f"energy {value}" in refusal(labelled(energy=value))
    forces = np.zeros((8, 3))
    forces[5, 1] = value
    message = refusal(labelled(energy=1.0), labelled(energy=1.0, forces=forces))
    assert "structure 1" in message
    assert "atom 5" in message


@pytest.mark.parametrize("value", [True, "abc", [1.0, 2.0], 1j])
def test_energies_that_are_not_a_number(value: object) -> None:
    assert "not one number" in refusal(labelled(energy=value))


@pytest.mark.parametrize("shape", [(8,), (7, 3), (8, 2), (24,)])
def test_forces_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    assert f"shape {shape}" in refusal(labelled(energy=1.0, forces=np.zeros(shape)))


def test_missing_labels() -> None:
    full, bare = labelled(energy=1.0, forces=np.zeros((8, 3))), bulk("Si")
    validate([bare, bare], "a.xyz")
    assert "structure 0 of a.xyz has no energy" in refusal(bare, bare, require_energy=True)
    assert "structure 1 of a.xyz has no energy" in refusal(full, bare, require_energy=True)
    assert "structure 1 of a.xyz has no energy while structure 0" in refusal(full, bare)
    message = refusal(labelled(energy=1.0), full)
    assert "structure 0 of a.xyz has no forces while structure 1" in message
    assert "forces_key=None" in message


@pytest.mark.parametrize("pbc", [True, False])
def test_ten_thousand_atoms_are_quick(pbc: bool) -> None:
    atoms = bulk("Si", cubic=True) * (11, 11, 11)
    atoms.pbc = pbc
    start = time.perf_counter()
    validate([atoms], "a.xyz")
    assert time.perf_counter() - start < 10


def test_real_data_is_valid_and_quick(data_dir) -> None:
    structures = read(data_dir / "si_pbe_64" / "si_pbe_64.xyz")
    start = time.perf_counter()
    validate(structures, "si_pbe_64.xyz", types=[14], require_energy=True)
    assert time.perf_counter() - start < 10  # 1597 structures: 1 s on an idle machine
