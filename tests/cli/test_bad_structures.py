"""Structures nobody can use: exit code 2, one sentence, nothing left on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, torchlpr, tree, write_config, write_frames

Change = Callable[[Atoms], None]


def nan_positions(atoms: Atoms) -> None:
    atoms.positions[1, 2] = np.nan


def close(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 0.25]


def no_energy(atoms: Atoms) -> None:
    del atoms.info["energy"]
    atoms.info["other_energy"] = 1.0


def nan_energy(atoms: Atoms) -> None:
    atoms.info["energy"] = float("nan")


def infinite_energy(atoms: Atoms) -> None:
    atoms.info["energy"] = float("inf")


def slab(atoms: Atoms) -> None:
    atoms.pbc = (True, True, False)


def flat(atoms: Atoms) -> None:
    atoms.cell[2] = atoms.cell[1]


def huge_forces(atoms: Atoms) -> None:
    atoms.arrays["forces"] = np.full((len(atoms), 3), np.inf)


BAD: dict[str, tuple[Change, list[str]]] = {
    "NaN positions": (nan_positions, ["for atom 1", "nan", "not finite", "mend or leave out"]),
    "close atoms": (close, ["atoms 0 and 1 only 0.25 Angstrom apart", "remove the duplicate"]),
    "slab": (slab, ["mixed periodicity", "[True, True, False]", "set pbc=True and leave vacuum"]),
    "flat cell": (flat, ["has no volume", "give the cell or set pbc=False"]),
    "NaN energy": (nan_energy, ["the energy nan", "not finite", "label it anew"]),
    "infinite energy": (infinite_energy, ["the energy inf", "not finite", "label it anew"]),
}
FIT_ONLY: dict[str, tuple[Change, list[str]]] = {
    "missing energy": (no_energy, ["has no energy", "energy_key"]),
}


@pytest.mark.parametrize("what", [*BAD, *FIT_ONLY])
def test_in_fit(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = (BAD | FIT_ONLY)[what]
    frames = silicon(8)
    change(frames[4])
    train = write_frames(tmp_path / "si.xyz", frames)
    config = write_config(tmp_path / "c.yaml", train)
    before = tree(tmp_path)
    refused(
        capsys,
        ["fit", "--config", config, "--out", tmp_path / "run"],
        ["structure 4 of", str(train), *words],
    )
    assert tree(tmp_path) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", BAD)
def test_in_rigidity(
    what: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = BAD[what]
    frames = silicon(3)
    change(frames[2])
    new = write_frames(tmp_path / "new.xyz", frames)
    before = tree(tmp_path)
    outputs = ["--out", tmp_path / "o.xyz", "--plot", tmp_path / "o.png"]
    refused(capsys, ["rigidity", finished, new, *outputs], ["structure 2 of", str(new), *words])
    assert tree(tmp_path) == before


def test_an_unknown_species(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_frames(tmp_path / "new.xyz", [bulk("Si"), bulk("GaAs", "zincblende", a=5.65)])
    before = tree(tmp_path)
    words = ["structure 1 of", str(new), "Ga (atomic number 31)", "Si (14)", "leave the structure"]
    refused(capsys, ["rigidity", finished, new, "--out", tmp_path / "o.xyz"], words)
    assert tree(tmp_path) == before


FILES: dict[str, tuple[str | None, list[str]]] = {
    "missing": (None, ["does not exist", "check the name"]),
    "empty": ("", ["is empty", "at least one structure"]),
    "words": ("these are\nno structures\n", ["cannot be read", "check that ASE reads it"]),
    "cut off": ('8\nLattice="5 0 0 0 5 0 0 0 5"\nSi 0 0 0\n', ["cannot be read", "check that"]),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("command", ["fit", "rigidity"])
def test_files(
    command: str, what: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, words = FILES[what]
    path = tmp_path / "si.xyz"
    if content is not None:
        path.write_text(content)
    if command == "fit":
        line = ["fit", "--config", write_config(tmp_path / "c.yaml", path), "--out"]
    else:
        line = ["rigidity", finished, path, "--out"]
    before = tree(tmp_path)
    refused(capsys, [*line, tmp_path / "o.xyz"], [str(path), *words])
    assert tree(tmp_path) == before
    assert not (tmp_path / "o.xyz").exists()


def test_a_mended_file_can_go_into_the_same_folder(tmp_path: Path) -> None:
    """The mistake has not claimed the folder for its settings."""
    config = write_config(tmp_path / "c.yaml", tmp_path / "typo.xyz", model={"kind": "linear"})
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 2
    train = write_frames(tmp_path / "si.xyz", silicon(8))
    config = write_config(tmp_path / "c.yaml", train, model={"kind": "linear"})
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
