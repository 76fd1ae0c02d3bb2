"""A small training set made here, so that nothing depends on data, and small settings."""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import yaml
from ase import Atoms
from ase.build import bulk

from torchlpr.cli.main import main

SMALL: dict[str, Any] = {
    "descriptor": {"cutoff": 3.5, "max_radial": 2, "max_angular": 2},
    "model": {"hidden": [4, 3], "n_inducing": 10},
    "objective": {"mu": 1e-5},
    "training": {"steps": 12},
}


def silicon(count: int, seed: int = 0) -> list[Atoms]:
    """Rattled cells of 2 and 8 atoms with the energy of an exponential pair repulsion."""
    frames = []
    for k in range(count):
        atoms = bulk("Si", cubic=k % 3 == 0)
        atoms.rattle(0.15, seed=1000 * seed + k)
        distances = atoms.get_all_distances(mic=True)
        atoms.info["energy"] = float(np.exp(-distances).sum() - 5.4 * len(atoms))
        frames.append(atoms)
    return frames


def write_frames(path: Path, frames: list[Atoms]) -> Path:
    ase.io.write(path, frames)
    return path


def write_config(path: Path, train: Path, **changes: Any) -> Path:
    """The small settings, with changes by section."""
    settings = {"data": {"train": str(train), "validation": 0.2, "test": 0.2}}
    settings |= {section: dict(values) for section, values in SMALL.items()}
    for section, values in changes.items():
        settings[section] = settings.get(section, {}) | values
    path.write_text(yaml.safe_dump(settings))
    return path


def torchlpr(*words: object) -> int:
    """The command line in this process."""
    return main([str(word) for word in words])


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
