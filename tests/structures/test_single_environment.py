import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from tests.cases import make_batch
from torchlpr import SOAP, AtomBatch, InputError
from torchlpr.structures.single_environment import SINGLE, cell_variants, environment_spread
from torchlpr.studies.single_environments import crystals


def soap(types: list[str]) -> SOAP:
    return SOAP(cutoff=3.7, max_radial=5, max_angular=4, width=0.5, smoothing=0.1, types=types)


@pytest.mark.parametrize("cubic", [True, False])
def test_variants_follow_the_recipe(cubic: bool) -> None:
    crystal = bulk("C", "diamond", a=3.567, cubic=cubic)
    variants = cell_variants(crystal, 50, seed=3)
    given = crystal.cell.cellpar()
    changes = np.array([v.cell.cellpar() - given for v in variants])
    assert np.abs(changes[:, 3:]).max() <= 10 + 1e-9
    assert np.abs(changes[:, :2]).max() <= 0.25 + 1e-9
    assert np.abs(changes[:, 3:]).max() > 9  # the range is used
    assert np.abs(changes[:, :2]).max() > 0.22
    for variant in variants:
        assert variant.cell.volume == pytest.approx(crystal.cell.volume, rel=1e-12)
        np.testing.assert_allclose(
            variant.get_scaled_positions(), crystal.get_scaled_positions(), atol=1e-12
        )
    again = cell_variants(crystal, 50, seed=3)
    assert all((a.cell == b.cell).all() for a, b in zip(variants, again, strict=True))
    assert (cell_variants(crystal, 1, seed=4)[0].cell != variants[0].cell).any()


@pytest.mark.parametrize("cubic", [True, False])
def test_c33_diamond_variants_have_one_environment(cubic: bool) -> None:
    crystal = bulk("C", "diamond", a=3.567, cubic=cubic)
    spread = environment_spread(soap(["C"])([crystal, *cell_variants(crystal, 5)]))
    assert float(spread.max()) < SINGLE


def test_c33_ab_graphite_has_two() -> None:
    found = environment_spread(soap(["C"])(list(crystals().values()))).tolist()
    ab, aa, far = found[1:]
    assert ab > 0.01
    assert max(aa, far) < SINGLE


def test_spread_as_it_is_defined() -> None:
    batch = make_batch(6, seed=2)
    x, owner = batch.features.numpy(), batch.structure.numpy()
    for a, value in enumerate(environment_spread(batch).tolist()):
        mean = x[owner == a].mean(0)
        away = np.linalg.norm(x[owner == a] - mean, axis=1).max()
        assert value == pytest.approx(away / np.linalg.norm(mean), rel=1e-12)


def test_several_species_are_never_one_environment() -> None:
    alike = AtomBatch.from_arrays(np.ones((3, 2)), [31, 33, 31], [0, 0, 1])
    assert environment_spread(alike).tolist() == [float("inf"), 0.0]


BAD = {
    "molecule": (molecule("H2O"), {}, "periodic in three directions"),
    "flat": (Atoms("C", cell=[1, 1, 0], pbc=True), {}, "periodic in three directions"),
    "n": (bulk("C"), {"n": -1}, "n must be a whole number"),
    "angle": (bulk("C"), {"angle": 95.0}, "angle must be in 0..90"),
    "length": (bulk("C"), {"length": 9.0}, "not smaller than the edge"),
    "impossible": (bulk("C"), {"angle": 85.0, "n": 200}, "no cell has the angles"),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input(case: str) -> None:
    crystal, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        cell_variants(crystal, **({"n": 2} | options))
