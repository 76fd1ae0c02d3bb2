"""Parameter sets: the rules of the papers, written out."""

import numpy as np
import pytest

from torchlpr import InputError
from torchlpr.descriptors.symmetry_parameters import angular_parameters, radial_parameters


def test_imbalzano_centred():
    """eta_m = (n^{m/n} / r_c)^2, m = 0..n: from the widest, 1/r_c, to n times as narrow."""
    eta, shift = np.array(radial_parameters(6.0, 5, "imbalzano-centred")).T
    np.testing.assert_allclose(np.sqrt(eta) * 6, [1, 4**0.25, 2, 4**0.75, 4])
    assert not shift.any()


def test_imbalzano_shifted():
    """r_m = r_c / n^{m/n}; eta = 1 / (r_{m-1} - r_m)^2."""
    eta, shift = np.array(radial_parameters(6.0, 2, "imbalzano-shifted")).T
    np.testing.assert_allclose(shift, [3, 6 / np.sqrt(2)])
    np.testing.assert_allclose(eta, [1 / (6 / np.sqrt(2) - 3) ** 2, 1 / (6 - 6 / np.sqrt(2)) ** 2])


def test_gastegger():
    eta, shift = np.array(radial_parameters(5.0, 4, "gastegger-shifted", lower=0.5)).T
    np.testing.assert_allclose(shift, [0.5, 2, 3.5, 5])
    np.testing.assert_allclose(eta, 1 / (2 * 1.5**2))
    eta, shift = np.array(radial_parameters(5.0, 4, "gastegger-centred", lower=0.5)).T
    np.testing.assert_allclose(1 / np.sqrt(2 * eta), [5, 3.5, 2, 0.5])
    assert not shift.any()


def test_angular():
    found = angular_parameters(4.0, 2, zetas=[1, 4])
    eta = pytest.approx(1 / 8)  # (2^{1/2} / 4)^2
    assert found == [
        (1 / 16, 1, -1), (1 / 16, 1, 1), (1 / 16, 4, -1), (1 / 16, 4, 1),
        (eta, 1, -1), (eta, 1, 1), (eta, 4, -1), (eta, 4, 1),
    ]  # fmt: skip
    assert angular_parameters(4.0, 0) == []
    assert {eta for eta, _, _ in angular_parameters(4.0, 1)} == {1 / 16}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5.0, 1), "at least 2, not 1"),
        ((5.0, 2, "imbalzano-centred"), "at least 3, not 2"),
        ((5.0, 2.5), "must be a whole number"),
        ((0.0, 4), "cutoff must be a positive length"),
        ((5.0, 4, "mine"), "style 'mine' is unknown; use one of imbalzano-centred"),
        ((5.0, 4, "gastegger-shifted", 6.0), "lower=6.0 must lie between 0 and cutoff=5.0"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        radial_parameters(*arguments)
