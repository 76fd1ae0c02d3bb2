"""rascaline's hyperparameters against featomic's own conversion of them."""

import copy

import ase.build
import featomic
import numpy as np
import pytest

from torchlpr.descriptors.hypers import featomic_hypers, from_rascaline
from torchlpr.descriptors.soap import SOAP
from torchlpr.errors import InputError

OLD = {
    "cutoff": 2.85,
    "max_radial": 10,
    "max_angular": 12,
    "atomic_gaussian_width": 0.5,
    "center_atom_weight": 1.0,
    "cutoff_function": {"ShiftedCosine": {"width": 0.1}},
    "radial_basis": {"Gto": {"spline_accuracy": 1e-8}},
}
WILLATT = {"Willatt2018": {"exponent": 2.0, "rate": 0.8, "scale": 2.0}}
GAAS = {
    **OLD,
    "cutoff": 5.0,
    "max_radial": 8,
    "max_angular": 4,
    "atomic_gaussian_width": 0.3,
    "cutoff_function": {"ShiftedCosine": {"width": 0.5}},
    "radial_scaling": WILLATT,
}


def converted_by_featomic(old):
    """The calculator that featomic's own converter tells the user to write."""
    code = featomic.convert_hypers("rascaline", "SoapPowerSpectrum", copy.deepcopy(old))
    return eval(code, {"SoapPowerSpectrum": featomic.SoapPowerSpectrum})


@pytest.mark.parametrize("old", [OLD, GAAS], ids=["a-Si", "GaAs"])
def test_features_are_those_of_featomics_conversion(old):
    atoms = ase.build.bulk("Ga", "diamond", 5.5, cubic=True)
    atoms.positions += np.random.default_rng(0).normal(0, 0.1, atoms.positions.shape)
    before = copy.deepcopy(old)
    soap = SOAP(**from_rascaline(old, ["Ga"]))
    assert old == before
    expected = converted_by_featomic(old).compute(atoms).block().values
    np.testing.assert_array_equal(soap([atoms]).features, expected)


def test_the_count_of_radial_functions_becomes_the_largest_index():
    new = from_rascaline(OLD, ["Si"])
    assert new == {
        "cutoff": 2.85,
        "max_radial": 9,
        "max_angular": 12,
        "width": 0.5,
        "smoothing": 0.1,
        "types": [14],
        "radial_scaling": None,
    }
    assert SOAP(**new).n_features == 1300


def test_featomic_hypers_are_accepted_and_nested():
    hypers = featomic_hypers(SOAP(**from_rascaline(GAAS, ["Ga", "As"])))
    featomic.SoapPowerSpectrum(**hypers)
    assert hypers["density"]["scaling"] == {"type": "Willatt2018", **WILLATT["Willatt2018"]}
    assert hypers["basis"]["radial"] == {"type": "Gto", "max_radial": 7}


@pytest.mark.parametrize(
    "extra",
    [
        {"gradients": False},
        {"radial_scaling": None},
        {"radial_scaling": {"None": {}}},
        {"radial_basis": {"Gto": {}}},
        {"radial_basis": {"Gto": {"splined_radial_integral": True, "spline_accuracy": 1e-6}}},
    ],
)
def test_settings_that_change_nothing(extra):
    assert from_rascaline({**OLD, **extra}, ["Si"]) == from_rascaline(OLD, ["Si"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cutoff_function": {"Step": {}}}, "Step has no counterpart"),
        ({"cutoff_function": "ShiftedCosine"}, "cutoff_function must look like"),
        ({"cutoff_function": {"ShiftedCosine": {}}}, "lack width"),
        ({"center_atom_weight": 0.0}, "center_atom_weight must be 1, not 0.0"),
        ({"radial_basis": {"TabulatedRadialIntegral": {}}}, "TabulatedRadialIntegral has no"),
        ({"radial_basis": {"Gto": {"spline_accuracy": 1e-12}}}, "splines the radial integrals"),
        ({"radial_basis": {"Gto": {"splined_radial_integral": False}}}, "splines the radial"),
        ({"radial_basis": {"Gto": {"order": 3}}}, "no setting called order"),
        ({"radial_scaling": {"Exotic": {}}}, "Exotic has no counterpart"),
        ({"radial_scaling": {"Willatt2018": {"rate": 1.0}}}, "lack exponent"),
        ({"gradients": True}, "gradients=True"),
        ({"potential_exponent": 1}, "no rascaline hyperparameter is called potential_exponent"),
        ({"density": {}}, "featomic's own"),
    ],
)
def test_what_has_no_counterpart_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        from_rascaline({**OLD, **change}, ["Si"])


@pytest.mark.parametrize("name", sorted(OLD))
def test_a_missing_setting_is_named(name):
    with pytest.raises(InputError, match=f"lack {name}"):
        from_rascaline({key: value for key, value in OLD.items() if key != name}, ["Si"])
