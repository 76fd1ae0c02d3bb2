"""Rigidity with force rows: dense brute force, theorems, and its gradient by positions (C26)."""

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import MODELS, make_batch, seeds, theorem
from tests.force_cases import DESCRIPTORS, TYPES, carbide, displaced, make_force_batch, silane
from tests.oracles import autograd_loops, dense
from torchlpr import (
    SOAP,
    BehlerParrinelloMLP,
    InputError,
    LinearModel,
    Objective,
    Rigidity,
    SparseKernelModel,
    SymmetryFunctions,
)
from torchlpr.curvature import MatrixFreeSettings
from torchlpr.design import candidate_rows, greedy_design, target_gradients
from torchlpr.models.inducing import select_inducing
from torchlpr.rigidity import rigidity_by_positions

OBJECTIVE = Objective(mu=1e-2, energy_weight=2.0, force_weight=0.3)


def brute_force_rows(model, descriptor, structures, objective) -> np.ndarray:
    """One backward pass an energy; forces as fourth-order differences of those by positions."""
    batch = descriptor(structures)
    counts = torch.bincount(batch.structure).double()
    n, h = len(batch), 2e-3

    def energies(moves: np.ndarray) -> np.ndarray:
        moved = descriptor(displaced(structures, moves))
        total = torch.ones(len(structures), dtype=torch.float64)
        rows = autograd_loops.structure_rows(
            model, moved.features, moved.types, moved.structure, total
        )
        return rows.detach().numpy()

    rows = [energies(np.zeros((n, 3))) * (objective.energy_weight**0.5 / counts[:, None].numpy())]
    for atom in range(n):
        for axis in range(3):
            moves = np.zeros((n, 3))
            moves[atom, axis] = h
            f = [
                (energies(k * moves) - energies(-k * moves)).sum(0) / (2 * k * h) for k in (1, 2, 3)
            ]
            slope = 1.5 * f[0] - 0.6 * f[1] + 0.1 * f[2]
            rows.append(-(objective.force_weight**0.5) * slope[None])
    return np.concatenate(rows)


@pytest.mark.parametrize("head", ["mlp", "linear", "kernel", "mlp on symmetry functions"])
def test_dense_brute_force_on_real_silicon(data_dir: Path, head: str) -> None:
    structures = [
        atoms[:5]  # a cluster of each: brute force takes 6 evaluations a coordinate
        for atoms in ase.io.read(data_dir / "si_pbe_64" / "si_pbe_64.xyz", "::800")
    ]
    for atoms in structures:
        atoms.pbc = False
    descriptor = (
        SymmetryFunctions.standard(5.0, ["Si"], 6, 1)
        if head == "mlp on symmetry functions"
        else SOAP(cutoff=5.0, max_radial=3, max_angular=2, width=0.5, smoothing=0.5, types=["Si"],
                  normalize=True)
    )  # fmt: skip
    train = descriptor(structures, derivatives=True)
    n = descriptor.n_features
    models = {
        "linear": lambda: LinearModel(n, ["Si"]),
        "kernel": lambda: SparseKernelModel(select_inducing(train, 8, 2), 2),
    }
    model = models.get(head, lambda: BehlerParrinelloMLP(n, ["Si"], (3, 2), seed=0))()
    objective = replace(OBJECTIVE, mu=1e-3)
    rows = brute_force_rows(model, descriptor, structures, objective)
    test = train.select([1])
    gradients = autograd_loops.atomic_gradients(model, test.features, test.types).detach()
    expected = dense.prediction_rigidity(rows, gradients, 1e-3)
    settings = MatrixFreeSettings(tolerance=1e-11)
    for shape in ("auto", "row", "parameter", "matrix-free"):
        rigidity = Rigidity(model, train, objective, shape=shape, matrix_free=settings)
        assert rigidity.factor.n_rows == len(rows) == 2 + 3 * 10
        np.testing.assert_allclose(rigidity.local(test), expected, rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_all_ways_to_build(name: str, tmp_path: Path) -> None:
    types, build = MODELS[name]
    model, train, test = build(), make_force_batch(6, types), make_batch(3, types, seed=5)
    expected = Rigidity(model, train, OBJECTIVE, shape="row").atoms(test)
    parts = [train.select([0, 1]), train.select([2, 3, 4, 5])]
    free = MatrixFreeSettings(tolerance=1e-12)
    ways = [
        Rigidity(model, train, OBJECTIVE, shape="parameter"),
        Rigidity(model, train, OBJECTIVE, shape="matrix-free", matrix_free=free),
        Rigidity(model, parts[0], OBJECTIVE).add(parts[1]),
        Rigidity(model, train, OBJECTIVE, shape="row").remove(parts[0]).add(parts[0]),
        *(Rigidity.from_batches(model, parts, OBJECTIVE, s) for s in ("row", "parameter")),
    ]
    ways[0].save(tmp_path / "exact")
    ways[1].save(tmp_path / "free")
    ways += [Rigidity.load(tmp_path / name) for name in ("exact", "free")]
    for way in ways:
        assert way.factor.n_rows == 6 + 3 * len(train)
        torch.testing.assert_close(way.atoms(test), expected, rtol=1e-9, atol=0)


def test_a_stream_tells_derivatives_apart(tmp_path: Path) -> None:
    types, build = MODELS["mlp"]
    model, batch, path = build(), make_force_batch(4, types), tmp_path / "rows"
    Rigidity.from_batches(model, [batch], OBJECTIVE, "row", path)
    other = replace(batch.derivatives, values=2 * batch.derivatives.values)
    with pytest.raises(InputError, match="begun with another model"):
        Rigidity.from_batches(model, [replace(batch, derivatives=other)], OBJECTIVE, "row", path)


@theorem
@given(seed=seeds, weight=st.floats(1e-3, 1e3), name=st.sampled_from(sorted(MODELS)))
def test_c25_adding_forces_raises_all_rigidities(seed: int, weight: float, name: str) -> None:
    types, build = MODELS[name]
    model, train = build(), make_force_batch(3, types, seed)
    test = make_batch(2, types, seed + 1)
    without = Rigidity(model, train, replace(OBJECTIVE, force_weight=0.0)).local(test)
    some = Rigidity(model, train, replace(OBJECTIVE, force_weight=weight)).local(test)
    more = Rigidity(model, train, replace(OBJECTIVE, force_weight=2 * weight)).local(test)
    slack = 1 + 1e-9
    assert bool((some * slack >= without).all())
    assert bool((more * slack >= some).all())


@pytest.mark.parametrize("name", ["normalised SOAP", "scaled symmetry functions"])
def test_moved_turned_and_renumbered_training_structures(name: str) -> None:
    descriptor, test = DESCRIPTORS[name], DESCRIPTORS[name]([silane(7), carbide(8)])
    model = BehlerParrinelloMLP(descriptor.n_features, TYPES, (4, 3), "tanh", seed=3)
    structures = [silane(1), silane(2), carbide(3)]

    def lpr(frames: list) -> torch.Tensor:
        return Rigidity(model, descriptor(frames, derivatives=True), OBJECTIVE).local(test)

    plain = lpr(structures)
    changed = [atoms.copy() for atoms in structures[::-1]]
    changed[1] = changed[1][[3, 1, 4, 0, 2]]
    for atoms in changed:
        atoms.rotate(50, (3, 1, 2), rotate_cell=True)
        atoms.translate([1.3, -0.2, 4.0])
    np.testing.assert_allclose(lpr(changed), plain, rtol=1e-9)


@pytest.mark.parametrize("head", ["mlp", "linear", "kernel"])
def test_c26_gradient_by_positions(head: str) -> None:
    descriptor = DESCRIPTORS["normalised SOAP"]
    train = descriptor([silane(1), carbide(2), silane(3)], derivatives=True)
    n = descriptor.n_features
    model = {
        "mlp": lambda: BehlerParrinelloMLP(n, TYPES, (4, 3), "tanh", True, seed=1),
        "linear": lambda: LinearModel(n, TYPES),
        "kernel": lambda: SparseKernelModel(select_inducing(train, 6, 2), 2),
    }[head]()
    rigidity = Rigidity(model, train, OBJECTIVE)
    structures = [carbide(11), silane(12)]
    batch, rng = descriptor(structures, derivatives=True), np.random.default_rng(0)
    coefficients = torch.from_numpy(rng.normal(size=len(batch)))
    gradient = rigidity_by_positions(rigidity, batch, coefficients)
    np.testing.assert_allclose(gradient[:2].sum(0), 0, atol=1e-11 * float(gradient.abs().max()))

    def total(moves: np.ndarray) -> float:
        return float(coefficients @ rigidity.local(descriptor(displaced(structures, moves))))

    for direction in rng.normal(size=(2, len(batch), 3)):
        f = [(total(h * direction) - total(-h * direction)) / (2 * h) for h in (1e-4, 2e-4, 4e-4)]
        one, two = (4 * f[0] - f[1]) / 3, (4 * f[1] - f[2]) / 3
        expected = (16 * one - two) / 15
        found = float((gradient.numpy() * direction).sum())
        assert found == pytest.approx(expected, rel=1e-7)
    ones = rigidity_by_positions(rigidity, batch)
    parts = [rigidity_by_positions(rigidity, batch, e) for e in torch.eye(len(batch)).double()]
    torch.testing.assert_close(sum(parts), ones, rtol=1e-10, atol=1e-12 * float(ones.abs().max()))


def test_the_gradient_needs_derivatives() -> None:
    types, build = MODELS["mlp"]
    rigidity = Rigidity(build(), make_force_batch(3, types), OBJECTIVE)
    with pytest.raises(InputError, match="gradients by positions need derivatives"):
        rigidity_by_positions(rigidity, make_batch(2, types))
    batch = make_force_batch(2, types)
    with pytest.raises(InputError, match=f"shape .{len(batch)},., one for each atom, not .3,."):
        rigidity_by_positions(rigidity, batch, torch.ones(3))


def test_design_counts_the_forces_of_a_candidate() -> None:
    """What a pick is predicted to bring is what adding the structure brings."""
    types, build = MODELS["kernel two species"]
    rigidity = Rigidity(build(), make_force_batch(2, types), OBJECTIVE)
    pool, target = make_force_batch(6, types, seed=4), make_batch(2, types, seed=6)
    rows = candidate_rows(rigidity, [pool.select([0, 1]), pool.select([2, 3, 4, 5])])
    gradients = target_gradients(rigidity, target)
    design = greedy_design(rigidity.factor, rows, gradients, 3)
    after = rigidity.add(pool.select(design.picks)).local(target)
    np.testing.assert_allclose(design.lpr[-1], after, rtol=1e-9)


def test_matrix_free_where_nothing_else_fits() -> None:
    """Too many rows for row space and too many weights for the triangle: rows are not stored."""
    train = make_force_batch(8, seed=3, features=200)
    model = BehlerParrinelloMLP(200, [14], (4,), seed=0)
    n_rows = OBJECTIVE.n_rows(train)
    settings = MatrixFreeSettings(directions=40)
    free = Rigidity(model, train, OBJECTIVE, matrix_free=settings, memory_limit=3_000_000)
    assert free.factor.shape_name == "matrix-free"
    assert f"{n_rows} rows" in free.reason
    test = train.select([0])
    exact = Rigidity(model, train, OBJECTIVE).local(test)
    bounds = free.intervals(test)
    assert bool((bounds.lower <= exact).all())
    assert bool((exact <= bounds.upper).all())
