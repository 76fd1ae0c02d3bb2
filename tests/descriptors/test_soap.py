"""The SOAP features: symmetries, order of rows and columns, widths, refusals."""

import ase
import ase.build
import featomic
import metatensor
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read

from torchlpr.descriptors import soap as soap_module
from torchlpr.descriptors.hypers import featomic_hypers
from torchlpr.descriptors.soap import SOAP
from torchlpr.errors import InputError

SMALL = {"cutoff": 4.0, "max_radial": 3, "max_angular": 3, "width": 0.4, "smoothing": 0.5}


def rattled(atoms, seed=0, size=0.15):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(0, size, atoms.positions.shape)
    return atoms


def gaas(seed=0):
    """Rattled GaAs with the species interleaved at random."""
    atoms = rattled(ase.build.bulk("GaAs", "zincblende", 5.65, cubic=True) * (2, 1, 1), seed)
    return atoms[np.random.default_rng(seed).permutation(len(atoms))]


def rotation(seed):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    return q


STRUCTURES = {
    "gaas": (gaas(), ["Ga", "As"]),
    "silicon, triclinic": (rattled(ase.build.bulk("Si", "diamond", 5.43) * (2, 1, 1)), ["Si"]),
    "ethanol": (rattled(ase.build.molecule("CH3CH2OH"), size=0.05), ["H", "C", "O"]),
}


@pytest.fixture(params=STRUCTURES, name="case")
def _case(request):
    atoms, types = STRUCTURES[request.param]
    return atoms, SOAP(**SMALL, types=types)


def one(soap, atoms):
    return soap([atoms]).features.numpy()


@pytest.mark.parametrize("seed", range(3))
def test_rotation(case, seed):
    atoms, soap = case
    turned, q = atoms.copy(), rotation(seed)
    turned.set_cell(atoms.cell.array @ q.T)
    turned.positions = atoms.positions @ q.T
    np.testing.assert_allclose(one(soap, turned), one(soap, atoms), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_translation(case, seed):
    atoms, soap = case
    moved = atoms.copy()
    moved.positions += np.random.default_rng(seed).uniform(-9, 9, 3)
    np.testing.assert_allclose(one(soap, moved), one(soap, atoms), rtol=0, atol=1e-10)
    if atoms.pbc.any():
        moved.wrap()
        np.testing.assert_allclose(one(soap, moved), one(soap, atoms), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_permutation_permutes_the_rows(case, seed):
    atoms, soap = case
    order = np.random.default_rng(seed).permutation(len(atoms))
    np.testing.assert_allclose(one(soap, atoms[order]), one(soap, atoms)[order], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "name", [name for name, (atoms, _) in STRUCTURES.items() if atoms.pbc.all()]
)
def test_a_supercell_repeats_its_environments(name):
    atoms, types = STRUCTURES[name]
    soap = SOAP(**SMALL, types=types)
    np.testing.assert_allclose(
        one(soap, atoms * (1, 2, 1)), np.tile(one(soap, atoms), (2, 1)), rtol=0, atol=1e-10
    )


def by_featomic(soap, atoms):
    """One structure by featomic and metatensor's own gathering of species, rows sorted back."""
    descriptor = featomic.SoapPowerSpectrum(**featomic_hypers(soap)).compute(atoms)
    pairs = metatensor.Labels(["neighbor_1_type", "neighbor_2_type"], np.array(soap.pairs))
    block = descriptor.keys_to_properties(pairs).keys_to_samples("center_type").block()
    order = np.argsort(np.asarray(block.samples["atom"]))
    return np.asarray(block.values)[order]


@pytest.mark.parametrize("block", [1, 2**22], ids=["one structure a block", "one block"])
def test_rows_and_columns_are_featomics_in_atom_order(monkeypatch, block):
    monkeypatch.setattr(soap_module, "_BLOCK", block)
    soap = SOAP(**SMALL, types=["As", "Ga"])
    structures = [gaas(seed) for seed in range(3)]
    structures.insert(1, rattled(ase.build.bulk("Ga", "fcc", 4.2, cubic=True)))
    structures.append(ase.Atoms("As"))  # alone: no Ga in reach
    batch = soap(structures)
    assert batch.features.dtype == torch.float64
    for index, atoms in enumerate(structures):
        rows = batch.structure == index
        np.testing.assert_array_equal(batch.types[rows], atoms.numbers)
        np.testing.assert_allclose(
            batch.features[rows], by_featomic(soap, atoms), rtol=0, atol=1e-12
        )


def test_formula_of_the_docstring():
    """(-1)^l / sqrt(2l+1) sum_m c_anlm c_bn'lm, times sqrt(2) for a != b, from the expansion."""
    soap, atoms = SOAP(**SMALL, types=["Ga", "As"]), gaas()
    expansion = featomic.SphericalExpansion(**featomic_hypers(soap)).compute(atoms)
    c = {}
    for key, block in expansion.items():
        for atom, values in zip(block.samples["atom"], block.values, strict=True):
            c[int(atom), key["neighbor_type"], key["o3_lambda"]] = np.asarray(values)
    x = one(soap, atoms).reshape(len(atoms), len(soap.pairs), 4, 4, 4)  # [atom, pair, l, n, n']
    for atom in range(len(atoms)):
        for pair, (a, b) in enumerate(soap.pairs):
            for l in range(4):  # noqa: E741
                p = (-1) ** l / np.sqrt(2 * l + 1) * c[atom, a, l].T @ c[atom, b, l]
                p *= np.sqrt(2) if a != b else 1
                np.testing.assert_allclose(x[atom, pair, l], p, rtol=0, atol=1e-14)


def test_blocks_are_bounded_and_whole():
    counts = [3, 3, 10, 1, 1, 1]
    assert list(soap_module._blocks(counts, 6)) == [(0, 2), (2, 3), (3, 6)]
    assert list(soap_module._blocks(counts, 0)) == [(i, i + 1) for i in range(6)]
    assert list(soap_module._blocks(counts, 100)) == [(0, 6)]


@pytest.mark.parametrize(
    ("radial", "angular", "types", "n_features"),
    [(9, 12, ["Si"], 1300), (7, 8, ["C"], 576), (7, 4, ["Ga", "As"], 960)],
    ids=["a-Si", "a-C", "GaAs"],
)
def test_feature_counts_of_the_paper(radial, angular, types, n_features):
    soap = SOAP(
        cutoff=2.85, max_radial=radial, max_angular=angular, width=0.5, smoothing=0.1, types=types
    )
    assert soap.n_features == n_features
    atoms = rattled(ase.build.bulk(types[0], "diamond", 5.0))
    assert soap([atoms]).features.shape == (2, n_features)


def test_a_pure_element_has_the_width_of_the_model():
    pure = rattled(ase.build.bulk("Ga", "fcc", 4.2, cubic=True))
    binary, alone = SOAP(**SMALL, types=["Ga", "As"]), SOAP(**SMALL, types=["Ga"])
    wide, narrow = one(binary, pure), one(alone, pure)
    assert wide.shape == (4, binary.n_features)
    width = alone.n_features
    np.testing.assert_allclose(wide[:, :width], narrow, rtol=0, atol=1e-14)
    assert not wide[:, width:].any()


def test_types_by_symbol_number_and_order_are_one():
    by = [SOAP(**SMALL, types=types).types for types in (["As", "Ga"], [31, 33], ["Ga", 33])]
    assert by == [(31, 33)] * 3


def test_hypers_rebuild_the_descriptor(tmp_path):
    scaling = {"scale": 2.0, "rate": 0.8, "exponent": 2}
    soap = SOAP(**SMALL, types=["Ga", "As"], radial_scaling=scaling, normalize=True, cache=tmp_path)
    hypers = soap.hypers()
    again = SOAP(**hypers)
    assert again.hypers() == hypers
    assert "cache" not in hypers
    assert eval(repr(again)).hypers() == hypers
    torch.testing.assert_close(again([gaas()]).features, soap([gaas()]).features, rtol=0, atol=0)


def test_radial_scaling_weighs_far_neighbours_less():
    """c / (c + (r / r0)^m) = 1/2 at r = r0: the cross term of a neighbour there is halved."""
    dimer = [ase.Atoms("HHe", positions=[[0, 0, 0], [0, 0, 2.0]])]
    plain = SOAP(**SMALL, types=["H", "He"])
    scaled = SOAP(
        **SMALL, types=["H", "He"], radial_scaling={"exponent": 4, "rate": 1, "scale": 2.0}
    )
    width = plain.n_features // 3
    p, s = plain(dimer).features[0], scaled(dimer).features[0]
    for pair, factor in enumerate((1, 0.5, 0.25)):
        columns = slice(pair * width, (pair + 1) * width)
        torch.testing.assert_close(s[columns], factor * p[columns], rtol=1e-7, atol=1e-10)


def test_normalize_gives_unit_vectors():
    soap, unit = SOAP(**SMALL, types=[31, 33]), SOAP(**SMALL, types=[31, 33], normalize=True)
    x, u = soap([gaas(), gaas(1)]).features, unit([gaas(), gaas(1)]).features
    torch.testing.assert_close(u, x / x.norm(dim=1, keepdim=True), rtol=0, atol=1e-14)


def test_a_zero_vector_cannot_be_normalized():
    features = torch.ones(5, 3, dtype=torch.float64)
    features[3] = 0
    with pytest.raises(InputError, match="atom 1 of structure 1 "):
        soap_module._normalized(features, [2, 3])


def test_energies_only_if_every_structure_has_one():
    soap, labelled = SOAP(**SMALL, types=[31, 33]), gaas()
    labelled.calc = SinglePointCalculator(labelled, energy=-3.25)
    assert soap([labelled, labelled]).labels().tolist() == [-3.25, -3.25]
    assert soap([labelled, gaas(1)]).energies is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pbc": [True, True, False]}, r"structure 1 is periodic in some directions"),
        ({"numbers": [13] * 16}, r"structure 1 holds Al, but the SOAP has types Ga, As; add"),
        ({"positions": np.full((16, 3), np.nan)}, "structure 1 has positions or a cell"),
        ({"cell": np.zeros((3, 3))}, "structure 1 is periodic, but its cell has no volume"),
    ],
)
def test_structures_refused_before_any_work(monkeypatch, change, message):
    monkeypatch.setattr(SOAP, "_features", lambda *_: pytest.fail("work was done"))
    good, bad = gaas(), gaas()
    arguments = {"numbers": bad.numbers, "positions": bad.positions, "cell": bad.cell, "pbc": True}
    bad = ase.Atoms(**{**arguments, **change})
    with pytest.raises(InputError, match=message):
        SOAP(**SMALL, types=["Ga", "As"])([good, bad])


def test_empty_input_is_refused():
    soap = SOAP(**SMALL, types=["Ga", "As"])
    with pytest.raises(InputError, match="no structures"):
        soap([])
    with pytest.raises(InputError, match="structure 1 has no atoms"):
        soap([gaas(), ase.Atoms()])
    with pytest.raises(InputError, match=r"soap\(\[atoms\]\)"):
        soap(gaas())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff": -1.0}, "cutoff must be a positive length"),
        ({"width": 0.0}, "width must be a positive length"),
        ({"smoothing": float("nan")}, "smoothing must be a positive length"),
        ({"smoothing": 4.5}, "smoothing=4.5 must not exceed cutoff=4.0"),
        ({"max_radial": 2.5}, "max_radial must be a whole number"),
        ({"max_radial": 22}, "singular beyond 21"),
        ({"max_angular": -1}, "max_angular must be a whole number"),
        ({"types": []}, "types is empty"),
        ({"radial_scaling": {"rate": 1.0}}, "must have exponent, rate and scale, not rate"),
        ({"radial_scaling": {"exponent": 4, "rate": 0, "scale": 2}}, "rate must be positive"),
    ],
)
def test_hyperparameters_refused(change, message):
    with pytest.raises(InputError, match=message):
        SOAP(**{**SMALL, "types": ["Si"], **change})


def test_featomics_own_refusals_become_input_errors():
    narrow = {"cutoff": 20.0, "width": 0.1, "max_radial": 21, "max_angular": 2, "smoothing": 0.5}
    with pytest.raises(InputError, match=r"featomic cannot compute SOAP\(cutoff=20.0, .*integral"):
        SOAP(**narrow, types=["Si"])([ase.Atoms("Si")])


def test_the_cell_of_a_molecule_is_no_warning():
    boxed = ase.build.molecule("CH3CH2OH", vacuum=3.0)
    free = ase.build.molecule("CH3CH2OH")
    soap = SOAP(**SMALL, types=["H", "C", "O"])
    np.testing.assert_allclose(one(soap, boxed), one(soap, free), rtol=0, atol=1e-10)


def test_atoms_on_top_of_each_other_are_a_warning(caplog):
    twins = ase.Atoms("Si2", positions=np.zeros((2, 3)))
    with pytest.warns(UserWarning, match="structures 0 to 0: atoms 0 and 1 are very close"):
        SOAP(**SMALL, types=["Si"])([twins])
    assert not caplog.records


def test_features_larger_than_memory_are_refused(monkeypatch):
    monkeypatch.setattr(soap_module.os, "sysconf", lambda _: 10)
    with pytest.raises(InputError, match="the features of 16 atoms, 192 each, take"):
        SOAP(**SMALL, types=["Ga", "As"])([gaas()])


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_progress_bar(capsys, progress, shown):
    SOAP(**SMALL, types=["Ga", "As"])([gaas()], progress=progress)
    assert ("SOAP: 100%" in capsys.readouterr().err) == shown


def test_diamond_has_one_environment():
    x = one(SOAP(**SMALL, types=["C"]), ase.build.bulk("C", "diamond", 3.57, cubic=True))
    np.testing.assert_allclose(x, np.broadcast_to(x[0], x.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("file", "types"),
    [
        ("gaas_bop_local/gaas_bop_local.xyz", ["Ga", "As"]),
        ("inp_lda/inp_lda.xyz", ["In", "P"]),
        ("molecules/ethanol_100.xyz", ["C", "H", "O"]),
    ],
)
def test_real_data(data_dir, file, types):
    structures = read(data_dir / file, index=":3")
    soap = SOAP(**SMALL, types=types)
    batch = soap(structures)
    assert batch.n_structures == 3
    assert batch.energies is not None
    for index, atoms in enumerate(structures):
        np.testing.assert_allclose(
            batch.features[batch.structure == index], by_featomic(soap, atoms), rtol=0, atol=1e-12
        )
