"""All forces of small periodic cells: rows and rigidities against dense brute force."""

from functools import cache
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from tests.oracles import autograd_loops, dense, periodic_forces
from torchlpr import (
    SOAP,
    AtomBatch,
    BehlerParrinelloMLP,
    LinearModel,
    Objective,
    Rigidity,
    SparseKernelModel,
)
from torchlpr.curvature import MatrixFreeSettings, training_rows
from torchlpr.models.inducing import select_inducing

OBJECTIVE = Objective(mu=1e-3, energy_weight=2.0, force_weight=0.3)
SOURCES = ["diamond", "strained and with a vacancy", "small_random_crystals", "si_castep", "si_pbe"]
HEADS = ["mlp", "linear", "kernel"]
DESCRIPTOR = SOAP(
    cutoff=5.0, max_radial=3, max_angular=2, width=0.5, smoothing=0.5, types=["Si"], normalize=True
)
HYPERS = {
    "cutoff": {"radius": 5.0, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
    "density": {"type": "Gaussian", "width": 0.5},
    "basis": {"type": "TensorProduct", "max_angular": 2, "spline_accuracy": 1e-8,
              "radial": {"type": "Gto", "max_radial": 3}},
}  # fmt: skip


def diamond(seed: int, primitive: bool = False) -> Atoms:
    atoms = bulk("Si", cubic=not primitive)
    atoms.rattle(0.15, seed=seed)
    return atoms


@cache
def random_cells(folder: Path) -> list[Atoms]:
    small = ase.io.read(folder / "small_random_crystals" / "si_small.xyz", ":")
    return [atoms for atoms in small if len(atoms) == 8]


def cells(source: str, folder: Path) -> list[Atoms]:
    """Three periodic cells, of which the last is to be predicted."""
    if source == "diamond":  # atoms of the primitive cell are their own neighbours
        return [diamond(1), diamond(2, primitive=True), diamond(3)]
    if source == "strained and with a vacancy":
        strained, vacancy = diamond(4), diamond(5)
        shear = np.eye(3) + np.array([[0.03, 0.08, 0.0], [0.0, -0.02, 0.05], [0.0, 0.0, 0.01]])
        strained.set_cell(strained.cell @ shear, scale_atoms=True)
        del vacancy[3]
        return [strained, vacancy, diamond(6)]
    eight = random_cells(folder)
    if source == "small_random_crystals":
        return [eight[3], eight[40], eight[200]]
    if source == "si_castep":
        castep = ase.io.read(folder / "si_castep" / "si_castep.xyz", ":")
        return [next(atoms for atoms in castep if len(atoms) == 8), eight[100], eight[41]]
    return [ase.io.read(folder / "si_pbe_64" / "si_pbe_64.xyz", 900), eight[0], diamond(7)]


@pytest.fixture
def structures(source: str, request: pytest.FixtureRequest) -> list[Atoms]:
    generated = source in SOURCES[:2]
    folder = Path() if generated else request.getfixturevalue("data_dir")
    found = cells(source, folder)
    assert all(atoms.pbc.all() for atoms in found)
    return found


def make_model(head: str, train: AtomBatch) -> torch.nn.Module:
    n = DESCRIPTOR.n_features
    if head == "linear":
        return LinearModel(n, ["Si"])
    if head == "kernel":
        return SparseKernelModel(select_inducing(train, 8, 2), 2)
    return BehlerParrinelloMLP(n, ["Si"], (4, 3), "tanh", bias=True, seed=0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("source", SOURCES)
def test_dense_brute_force(source: str, head: str, structures: list[Atoms]) -> None:
    *trained, new = structures
    train, test = DESCRIPTOR(trained, derivatives=True), DESCRIPTOR(structures)
    model = make_model(head, train)
    rows = periodic_forces.rows(model, trained, HYPERS, 2.0, 0.3)
    atoms = sum(map(len, trained))
    assert len(rows) == OBJECTIVE.n_rows(train) == 2 + 3 * atoms
    ours = training_rows(model, train, OBJECTIVE)
    np.testing.assert_allclose(ours, rows, rtol=0, atol=1e-11 * np.abs(rows).max())
    x = torch.from_numpy(
        np.concatenate([periodic_forces.described(a, HYPERS)[0] for a in structures])
    )
    gradients = autograd_loops.atomic_gradients(model, x, torch.full((len(x),), 14)).detach()
    expected = dense.prediction_rigidity(rows, gradients, 1e-3)
    counts = [len(atoms) for atoms in structures]
    means = dense.group_means(gradients, np.repeat(np.arange(3), counts))
    totals = dense.prediction_rigidity(rows, means, 1e-3)
    without = dense.prediction_rigidity(rows[:2], gradients, 1e-3)
    assert (expected[-len(new) :] > 1.01 * without[-len(new) :]).all()  # forces do count
    settings = MatrixFreeSettings(tolerance=1e-11)
    parts = [train.select([0]), train.select([1])]
    ways = {
        shape: Rigidity(model, train, OBJECTIVE, shape=shape, matrix_free=settings)
        for shape in ("auto", "row", "parameter", "matrix-free")
    }
    ways["batches"] = Rigidity.from_batches(model, parts, OBJECTIVE, "parameter")
    for name, rigidity in ways.items():
        assert rigidity.factor.n_rows == len(rows)
        np.testing.assert_allclose(rigidity.local(test), expected, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(rigidity.total(test), totals, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("source", SOURCES)
def test_the_gradients_of_the_oracle(source: str, structures: list[Atoms]) -> None:
    """Central differences of featomic's values, along random motions of all atoms of a cell."""
    rng, steps = np.random.default_rng(0), (1e-4, 2e-4, 4e-4)
    for atoms in structures:
        _, moved = periodic_forces.described(atoms, HYPERS)
        np.testing.assert_allclose(moved.sum(1), 0, atol=1e-12 * np.abs(moved).max())
        motion = rng.normal(size=(len(atoms), 3))

        def along(step: float, atoms: Atoms = atoms, motion: np.ndarray = motion) -> np.ndarray:
            there, back = atoms.copy(), atoms.copy()
            there.positions += step * motion
            back.positions -= step * motion
            ends = (periodic_forces.described(a, HYPERS)[0] for a in (there, back))
            return np.subtract(*ends) / (2 * step)

        f = [along(step) for step in steps]
        one, two = (4 * f[0] - f[1]) / 3, (4 * f[1] - f[2]) / 3
        # where the shifted cosine begins and ends its slope has a kink, which differences straddle
        centre, distance = neighbor_list("id", atoms, 5.1)
        reach = 2 * steps[-1] * np.linalg.norm(motion, axis=1).max()
        kinked = centre[np.minimum(abs(distance - 4.5), abs(distance - 5.0)) <= reach]
        smooth = np.setdiff1d(np.arange(len(atoms)), kinked)
        assert len(smooth) >= len(atoms) / 2
        slope = np.einsum("kixf,ix->kf", moved, motion)
        error = np.abs(slope - (16 * one - two) / 15)[smooth].max()
        assert error <= 1e-8 * np.abs(slope).max()
