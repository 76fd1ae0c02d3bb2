"""Symmetry functions: another package, finite differences, symmetries, widths, refusals."""

from dataclasses import replace
from itertools import combinations_with_replacement

import ase
import ase.build
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import DEVICES, seeds, theorem
from tests.oracles import finite_differences
from torchlpr import InputError, SymmetryFunctions
from torchlpr.descriptors import symmetry as module
from torchlpr.descriptors.geometry import Geometry

G2 = [(0.5, 0.0), (1.0, 2.0), (2.0, 1.0)]
G4 = [(0.01, 1.0, 1.0), (0.02, 4.0, -1.0), (0.01, 4.0, 1.0)]
G5 = [(0.01, 2.0, -1.0), (0.05, 1.5, 1.0)]
ALL = {"g2": G2, "g4": G4, "g5": G5}


def gaas(seed=0):
    """Rattled GaAs with the species interleaved at random."""
    rng = np.random.default_rng(seed)
    atoms = ase.build.bulk("GaAs", "zincblende", 5.65, cubic=True)
    atoms.positions += rng.normal(0, 0.15, atoms.positions.shape)
    return atoms[rng.permutation(len(atoms))]


def triclinic(seed=0):
    atoms = ase.build.bulk("Si", "diamond", 5.43) * (2, 1, 1)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.15, atoms.positions.shape)
    return atoms


def ethanol():
    return ase.build.molecule("CH3CH2OH")


def slab():
    atoms = triclinic()
    atoms.pbc = [True, True, False]
    return atoms


STRUCTURES = {
    "gaas": (gaas(), ["Ga", "As"]),
    "silicon, smaller than the cutoff": (ase.build.bulk("Si"), ["Si"]),
    "silicon, triclinic": (triclinic(), ["Si"]),
    "ethanol": (ethanol(), ["H", "C", "O"]),
    "slab": (slab(), ["Si"]),
}


def one(descriptor, atoms):
    return descriptor([atoms]).features.numpy()


def brute_force(atoms, types, cutoff):
    """The formulas, atom by atom, with ASE's neighbours."""
    numbers = [ase.Atom(t).number if isinstance(t, str) else t for t in types]
    numbers = sorted(numbers)
    pairs = list(combinations_with_replacement(numbers, 2))
    i, j, r, vectors = neighbor_list("ijdD", atoms, cutoff)
    rows = []
    for atom in range(len(atoms)):
        near = np.flatnonzero(i == atom)
        radial = {(z, k): 0.0 for z in numbers for k in range(len(G2))}
        angular = {(p, k): 0.0 for p in pairs for k in range(len(G4) + len(G5))}
        for n, a in enumerate(near):
            fa = (np.cos(np.pi * r[a] / cutoff) + 1) / 2
            for k, (eta, shift) in enumerate(G2):
                radial[atoms.numbers[j[a]], k] += np.exp(-eta * (r[a] - shift) ** 2) * fa
            for b in near[:n]:
                pair = tuple(sorted((int(atoms.numbers[j[a]]), int(atoms.numbers[j[b]]))))
                cos = vectors[a] @ vectors[b] / (r[a] * r[b])
                d = np.linalg.norm(vectors[a] - vectors[b])
                f = fa * (np.cos(np.pi * r[b] / cutoff) + 1) / 2
                fd = (np.cos(np.pi * d / cutoff) + 1) / 2 if d < cutoff else 0.0
                s = r[a] ** 2 + r[b] ** 2
                for k, (eta, zeta, sign) in enumerate(G4):
                    term = 2 ** (1 - zeta) * max(1 + sign * cos, 0) ** zeta
                    angular[pair, k] += term * np.exp(-eta * (s + d**2)) * f * fd
                for k, (eta, zeta, sign) in enumerate(G5):
                    term = 2 ** (1 - zeta) * max(1 + sign * cos, 0) ** zeta
                    angular[pair, len(G4) + k] += term * np.exp(-eta * s) * f
        rows.append([*radial.values(), *angular.values()])
    return np.array(rows)


@pytest.mark.parametrize("name", STRUCTURES)
def test_formulas_of_the_docstring(name):
    atoms, types = STRUCTURES[name]
    x = one(SymmetryFunctions(cutoff=4.0, types=types, **ALL), atoms)
    np.testing.assert_allclose(x, brute_force(atoms, types, 4.0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [name for name in STRUCTURES if name != "slab"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_against_dscribe(name):
    """The columns of dscribe: by species G1, G2; by lower-triangular pair G4, G5."""
    dscribe = pytest.importorskip("dscribe.descriptors", reason="dscribe is not installed")
    atoms, types = STRUCTURES[name]
    ours = SymmetryFunctions(cutoff=5.0, types=types, **ALL)
    theirs = dscribe.ACSF(
        r_cut=5.0,
        species=list(ours.types),
        g2_params=G2,
        g4_params=G4,
        g5_params=G5,
        periodic=bool(atoms.pbc.all()),
    ).create(atoms)
    n, width = len(types), len(G4) + len(G5)
    radial = [s * (len(G2) + 1) + 1 + k for s in range(n) for k in range(len(G2))]
    angular = []
    for a, b in combinations_with_replacement(range(n), 2):
        start = n * (len(G2) + 1) + (b * (b + 1) // 2 + a) * width
        angular += range(start, start + width)
    np.testing.assert_allclose(one(ours, atoms), theirs[:, radial + angular], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("scaling", [None, "range", "standard"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_gradients_are_finite_differences(name, scaling):
    """Of a random functional of the features, in every position and every strain."""
    atoms, types = STRUCTURES[name]
    sf = SymmetryFunctions(cutoff=4.0, types=types, **ALL)
    if scaling is not None:
        other = atoms.copy()
        other.rattle(0.1, seed=1)
        sf = sf.scaled([atoms, other], scaling)
    weights = np.random.default_rng(5).normal(size=(len(atoms), sf.n_features))
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=2)

    def functional(moves):
        moved = atoms.copy()
        strain = np.eye(3) + moves[-9:].reshape(3, 3)
        moved.positions = (atoms.positions + moves[:-9].reshape(-1, 3)) @ strain
        moved.set_cell(atoms.cell.array @ strain)
        return float((one(sf, moved) * weights).sum())

    geometry = Geometry.from_structures([atoms], 4.0)
    moves = torch.zeros(len(atoms), 3, dtype=torch.float64, requires_grad=True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deform = torch.eye(3, dtype=torch.float64) + strain
    moved = replace(
        geometry, positions=(geometry.positions + moves) @ deform, cells=geometry.cells @ deform
    )
    value = (sf.features(moved) * torch.from_numpy(weights)).sum()
    found = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, [moves, strain])])
    expected = finite_differences.gradient(functional, np.zeros(3 * len(atoms) + 9), step=1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("device", DEVICES)
def test_second_derivatives_exist(device):
    """Needed to train on forces: gradients of forces with respect to weights."""
    sf = SymmetryFunctions.standard(4.0, ["Si"], 3, 1)
    geometry = Geometry.from_structures([triclinic()], 4.0, device=device)
    geometry.positions.requires_grad_()
    weight = torch.linspace(0, 1, sf.n_features, dtype=torch.float64, device=device)
    weight.requires_grad_()
    energy = (sf.features(geometry) @ weight).tanh().sum()
    (gradient,) = torch.autograd.grad(energy, geometry.positions, create_graph=True)
    (rows,) = torch.autograd.grad(gradient.square().sum(), weight)
    assert float(rows.abs().min()) > 0
    assert abs(gradient.sum(dim=0)).max() < 1e-13  # no net force


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", STRUCTURES)
def test_dtypes_and_devices(name, device):
    atoms, types = STRUCTURES[name]
    sf = SymmetryFunctions(cutoff=4.0, types=types, **ALL)
    sf = sf.scaled([atoms], "range")
    double = sf([atoms, atoms], device=device)
    single = sf([atoms, atoms], device=device, dtype=torch.float32)
    assert single.features.dtype == torch.float32
    assert double.features.device.type == single.types.device.type == device
    plain = SymmetryFunctions(**sf.hypers() | {"scaling": None})
    x = plain([atoms], device=device, dtype=torch.float32).features
    torch.testing.assert_close(x.cpu().double(), plain([atoms]).features, rtol=2e-5, atol=2e-6)


def random_case(seed):
    """A few atoms in a random cell or in none, not too close to each other."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)
    atoms = ase.Atoms(
        rng.choice([31, 33], 8),
        scaled_positions=(grid + rng.uniform(0.3, 0.7, (8, 3))) / 2,
        cell=5.5 * (np.eye(3) + rng.uniform(-0.15, 0.15, (3, 3))),
        pbc=bool(rng.integers(2)),
    )
    return atoms, SymmetryFunctions(cutoff=float(rng.uniform(3, 4.5)), types=["Ga", "As"], **ALL)


@theorem
@given(seeds)
def test_rotation_and_translation(seed):
    atoms, sf = random_case(seed)
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ q.T)
    moved.positions = atoms.positions @ q.T + rng.uniform(-9, 9, 3)
    if seed % 2:
        moved.wrap()
    np.testing.assert_allclose(one(sf, moved), one(sf, atoms), rtol=0, atol=1e-10)


@theorem
@given(seeds)
def test_permutation_permutes_the_rows(seed):
    atoms, sf = random_case(seed)
    order = np.random.default_rng(seed).permutation(len(atoms))
    np.testing.assert_allclose(one(sf, atoms[order]), one(sf, atoms)[order], rtol=0, atol=1e-10)


@theorem
@given(seeds, st.permutations([1, 1, 2]))
def test_a_supercell_repeats_its_environments(seed, repeats):
    atoms, sf = random_case(seed)
    atoms.pbc = True
    twice = one(sf, atoms * tuple(repeats))
    np.testing.assert_allclose(twice, np.tile(one(sf, atoms), (2, 1)), rtol=0, atol=1e-10)


@theorem
@given(seeds, st.sampled_from(["range", "standard"]))
def test_what_a_scaling_does(seed, kind):
    atoms, sf = random_case(seed)
    train = [atoms, random_case(seed + 1)[0]]
    scaled = sf.scaled(train, kind)
    raw, x = sf(train).features, scaled(train).features
    moves = raw.amax(0) - raw.amin(0) > 1e-8
    x = x[:, moves]
    if kind == "range":
        torch.testing.assert_close(x.amin(0), -torch.ones(x.shape[1]).double())
        torch.testing.assert_close(x.amax(0), torch.ones(x.shape[1]).double())
    else:
        torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1]).double())
        torch.testing.assert_close(x.square().mean(0), torch.ones(x.shape[1]).double())
    again = sf.scaled(sf(train), kind)
    assert again.hypers() == scaled.hypers()
    # a scaling of a scaled descriptor replaces it
    assert scaled.scaled(train, kind).hypers() == scaled.hypers()


def test_flat_columns_are_shifted_only():
    """One crystal: all environments alike, up to rounding that must not be stretched."""
    crystal = ase.build.bulk("Si", cubic=True)
    sf = SymmetryFunctions.standard(5.0, ["Si", "Ge"]).scaled([crystal])
    assert sf.scaling is not None
    assert set(sf.scaling.width) == {1.0}
    assert sf([crystal]).features.abs().max() < 1e-8


@pytest.mark.parametrize("block", [1, 2**22], ids=["one structure a block", "one block"])
def test_batches(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    sf = SymmetryFunctions(cutoff=4.0, types=["As", 31], **ALL)
    structures = [gaas(0), ase.Atoms("As"), gaas(1), ase.Atoms("Ga2", [[0, 0, 0], [0, 0, 2.0]])]
    batch = sf(structures)
    assert batch.counts.tolist() == [8, 1, 8, 2]
    assert batch.energies is None
    assert not batch.features[8].any()  # alone
    for index, atoms in enumerate(structures):
        rows = batch.structure == index
        assert batch.types[rows].tolist() == atoms.numbers.tolist()
        np.testing.assert_allclose(batch.features[rows], one(sf, atoms), rtol=1e-13, atol=1e-15)
    labelled = gaas()
    labelled.calc = SinglePointCalculator(labelled, energy=-3.25)
    assert sf([labelled]).labels().tolist() == [-3.25]


def test_a_pure_element_has_the_width_of_the_model():
    sf = SymmetryFunctions(cutoff=4.0, types=["Ga", "As"], **ALL)
    assert sf.n_features == 2 * 3 + 3 * 5
    assert sf.pairs == [(31, 31), (31, 33), (33, 33)]
    pure = ase.build.bulk("Ga", "fcc", 4.2, cubic=True)
    x = one(sf, pure)
    alone = one(SymmetryFunctions(cutoff=4.0, types=["Ga"], **ALL), pure)
    assert x.shape == (4, 21)
    np.testing.assert_allclose(x[:, [0, 1, 2, *range(6, 11)]], alone, rtol=1e-13)
    assert not x[:, [3, 4, 5, *range(11, 21)]].any()


def test_hypers_rebuild_the_descriptor():
    plain = SymmetryFunctions.standard(5.0, ["Ga", "As"], 4, 2, wide=True)
    assert (len(plain.g2), len(plain.g4), len(plain.g5)) == (4, 0, 12)
    for sf in (plain, plain.scaled([gaas(), gaas(1)], "standard")):
        again = SymmetryFunctions(**sf.hypers())
        assert again.hypers() == sf.hypers()
        assert torch.equal(again([gaas()]).features, sf([gaas()]).features)


def test_a_larger_neighbourhood_changes_nothing():
    sf = SymmetryFunctions(cutoff=4.0, types=["Ga", "As"], **ALL)
    near, far = (Geometry.from_structures([gaas()], r) for r in (4.0, 5.0))
    torch.testing.assert_close(sf.features(far), sf.features(near), rtol=1e-13, atol=1e-14)
    with pytest.raises(InputError, match=r"neighbours up to 4.0 Å only, the symmetry .* need 5.0"):
        SymmetryFunctions(cutoff=5.0, types=["Ga", "As"], **ALL).features(near)


@pytest.mark.parametrize("name", STRUCTURES)
def test_neighbours_are_those_of_ase(name):
    """Every pair and image, sorted by centre; all unordered combinations of pairs of a centre."""
    atoms, _ = STRUCTURES[name]
    geometry = Geometry.from_structures([atoms, atoms], 4.0)
    i, d = neighbor_list("id", atoms, 4.0)
    assert geometry.first.tolist() == [*i, *(i + len(atoms))]
    r = geometry.vectors().norm(dim=1).numpy()
    np.testing.assert_allclose(np.sort(r), np.sort([*d, *d]), rtol=1e-13)
    one_, two = geometry.triplets()
    expected = [
        (p, q)
        for p in range(len(geometry.first))
        for q in range(p + 1, len(geometry.first))
        if geometry.first[p] == geometry.first[q]
    ]
    assert list(zip(one_.tolist(), two.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff": -1.0}, "cutoff must be a positive length"),
        ({"types": []}, "types is empty"),
        ({"g2": [(1.0,)]}, r"g2 has eta and R_s, not \[1.0\]"),
        ({"g2": [(-1.0, 0.0)]}, "g2 has eta >= 0"),
        ({"g4": [(1.0, 0.5, 1.0)]}, "g4 has eta >= 0 and zeta >= 1"),
        ({"g5": [(1.0, 1.0, 0.5)]}, "lambda of a function of g5 is 1 or -1, not 0.5"),
        ({"g2": [], "g4": [], "g5": []}, "there are no symmetry functions"),
        ({"scaling": {"kind": "range", "shift": [0], "width": [1]}}, "for 1 features, but .* 21"),
        ({"scaling": {"kind": "log", "shift": [0], "width": [1]}}, "scaling 'log' is unknown"),
        ({"scaling": {"kind": "range", "shift": [0], "width": [0]}}, "widths .* are positive"),
    ],
)
def test_settings_refused(change, message):
    with pytest.raises(InputError, match=message):
        SymmetryFunctions(**{"cutoff": 4.0, "types": ["Ga", "As"], **ALL, **change})


def test_structures_refused():
    sf = SymmetryFunctions(cutoff=4.0, types=["Ga", "As"], **ALL)
    with pytest.raises(InputError, match=r"structure 1 holds Si, but the SymmetryFunctions has"):
        sf([gaas(), triclinic()])
    with pytest.raises(InputError, match="no structures"):
        sf([])
    with pytest.raises(InputError, match="atoms 0 and 1 of structure 1 are at the same place"):
        sf([gaas(), ase.Atoms("Ga2", positions=np.zeros((2, 3)))])
    flat = ase.Atoms("Ga", pbc=[True, False, False])
    with pytest.raises(InputError, match="its cell has no volume"):
        sf([flat])
    scaled = sf.scaled([gaas()])
    batch = scaled([gaas()])
    with pytest.raises(InputError, match="scaled already"):
        scaled.scaled(batch)
    foreign = Geometry.from_structures([triclinic()], 4.0)
    with pytest.raises(InputError, match=r"atomic number 14 is not among the types \[31, 33\]"):
        sf.features(foreign)
