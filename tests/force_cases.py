"""Batches with forces: random derivatives for the algebra, molecules and crystals for the rest."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule

from tests.cases import FEATURES, ONE, make_batch
from torchlpr import SOAP, AtomBatch, SymmetryFunctions
from torchlpr.structures.derivatives import Derivatives

CUTOFF = 3.4


def make_force_batch(
    structures: int, types: tuple[int, ...] = ONE, seed: int = 0, features: int = FEATURES
) -> AtomBatch:
    """The batch of tests.cases with random forces, and random derivatives for most of its pairs."""
    batch = make_batch(structures, types, seed, features=features)
    rng = np.random.default_rng([seed, structures, 1])
    moved, centre = (batch.structure[:, None] == batch.structure).nonzero(as_tuple=True)
    there = torch.from_numpy(rng.random(len(moved)) < 0.8)
    values = torch.from_numpy(rng.normal(size=(int(there.sum()), 3, features)))
    return replace(
        batch,
        forces=torch.from_numpy(rng.normal(size=(len(batch), 3))),
        derivatives=Derivatives(centre[there], moved[there], values),
    )


def dense(derivatives: Derivatives, atoms: int) -> np.ndarray:
    """dx_k/dr_i of all pairs of atoms, shape (k, i, 3, features)."""
    out = np.zeros((atoms, atoms, 3, derivatives.values.shape[2]))
    for k, i, block in zip(derivatives.centre, derivatives.moved, derivatives.values, strict=True):
        out[k, i] += block.numpy()
    return out


def silane(seed: int) -> Atoms:
    """Five atoms without symmetry."""
    atoms = molecule("SiH4")
    atoms.rattle(0.1, seed=seed)
    return labelled(atoms, seed)


def carbide(seed: int) -> Atoms:
    """A periodic cell smaller than the cutoff: atoms are their own neighbours."""
    atoms = bulk("SiC", "zincblende", a=4.3)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * np.eye(3)[[1, 2, 0]]), True)
    atoms.rattle(0.1, seed=seed)
    return labelled(atoms, seed)


def labelled(atoms: Atoms, seed: int) -> Atoms:
    """With a random energy and random forces."""
    rng = np.random.default_rng(seed)
    atoms.info["energy"] = float(rng.normal())
    atoms.arrays["forces"] = rng.normal(size=(len(atoms), 3))
    return atoms


TYPES = ["C", "H", "Si"]
DESCRIPTORS = {
    "SOAP": SOAP(
        cutoff=CUTOFF, max_radial=3, max_angular=2, width=0.5, smoothing=0.5, types=TYPES
    ),
    "normalised SOAP": SOAP(
        cutoff=CUTOFF, max_radial=3, max_angular=2, width=0.5, smoothing=0.5, types=TYPES,
        normalize=True,
    ),
    "symmetry functions": SymmetryFunctions.standard(CUTOFF, TYPES, 4, 1),
    "scaled symmetry functions": SymmetryFunctions.standard(CUTOFF, TYPES, 4, 1).scaled(
        [silane(20), carbide(21), silane(22), carbide(23)]
    ),
}  # fmt: skip


def displaced(structures: Sequence[Atoms], moves: np.ndarray) -> list[Atoms]:
    """Copies with all atoms moved, moves of shape (atoms, 3)."""
    copies, start = [atoms.copy() for atoms in structures], 0
    for atoms in copies:
        atoms.positions += moves[start : start + len(atoms)]
        start += len(atoms)
    return copies
