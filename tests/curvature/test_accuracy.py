"""Digits: 1e-9 of the 80-digit definition down to mu/lambda_max = 1e-14, in every shape.

Rounding of a gradient outside of the row space changes a mu-fraction f by eps sqrt(f lambda_max/mu)
however it is computed: where mu is small f has few digits, but its absolute error is small all the
same. Algorithms are held to that.
"""

import numpy as np
import pytest
import torch

from tests.oracles import extended_precision
from torchlpr.curvature import MatrixFreeSettings, RowSpace, build
from torchlpr.rigidity import prediction_rigidity
from torchlpr.rigidity.evaluation import Evaluation

TOLERANCE = 1e-9
EPS = np.finfo(float).eps
# errors of mu-fractions beside rounding: row space takes its difference form, and an alpha that
# is not refined, where they spend no more than this
FRACTION = {"row": 5e-11, "parameter": 2e-14, "matrix-free": 2e-14}
SIZES = {"M<P": (8, 20), "M>P": (20, 8), "M=P": (12, 12), "M<<P": (2, 40), "M>>P": (40, 2)}
SPECTRA = ["generic", "graded", "duplicated rows", "graded rows"]
RATIOS = [1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14]


def make_rows(spectrum: str, m: int, p: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.normal(size=(m, p))
    if spectrum == "graded":  # singular values over eight orders, in no special basis
        u, _, vt = np.linalg.svd(rows, full_matrices=False)
        return (u * np.logspace(0, -8, min(m, p))) @ vt
    if spectrum == "graded rows":
        return rows * np.logspace(0, -8, m)[:, None]
    if spectrum == "duplicated rows":
        rows[m // 2 : 2 * (m // 2)] = rows[: m // 2]
    return rows


def make_gradients(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    m, p = rows.shape
    inside = rng.normal(size=(2, m)) @ rows
    outside = rng.normal(size=(2, p))
    return np.vstack([
        outside,
        inside,
        *(inside + distance * outside for distance in (1e-3, 1e-6, 1e-9, 1e-12)),
        rows[:2],
    ])


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("size", SIZES)
def test_against_extended_precision(size: str, spectrum: str, ratio: float) -> None:
    m, p = SIZES[size]
    rng = np.random.default_rng([m, p, SPECTRA.index(spectrum)])
    rows = make_rows(spectrum, m, p, rng)
    gradients = make_gradients(rows, rng)
    mu = ratio * np.linalg.norm(rows, 2) ** 2
    value, share = extended_precision.forms(rows, gradients, mu)
    fraction = share / value
    for shape, floor in FRACTION.items():
        settings = MatrixFreeSettings(tolerance=1e-13) if shape == "matrix-free" else None
        factor = build(torch.from_numpy(rows), mu, shape, settings)
        found = Evaluation.of(factor.quadratic_form(torch.from_numpy(gradients)))
        rtol = TOLERANCE + (factor.rounding if shape == "matrix-free" else 0.0)
        np.testing.assert_allclose(found.rigidity, 1 / value, rtol=rtol, err_msg=shape)
        error = np.abs(found.mu_fraction.numpy() - fraction)
        assert (error <= 8 * EPS * np.sqrt(fraction / ratio) + floor).all(), shape
        assert error.max() <= 2e-9, shape
        if isinstance(factor, RowSpace):
            found_values = factor.values(torch.from_numpy(gradients))
            np.testing.assert_allclose(found_values, value, rtol=TOLERANCE)
    rigidity = prediction_rigidity(torch.from_numpy(rows), torch.from_numpy(gradients), mu)
    np.testing.assert_allclose(rigidity, 1 / value, rtol=TOLERANCE)


@pytest.mark.parametrize("ratio", [1e-4, 1e-8, 1e-12])
def test_rounding_of_a_gradient_alone_does_that_to_a_mu_fraction(ratio: float) -> None:
    """Exact mu-fractions of a gradient and of its neighbours in double precision."""
    rng = np.random.default_rng(3)
    rows = make_rows("generic", 8, 20, rng)
    mu = ratio * np.linalg.norm(rows, 2) ** 2
    for distance in (0.1, 0.3):
        gradient = rng.normal(size=8) @ rows + distance * ratio**0.5 * rng.normal(size=20)
        last = rng.integers(-1, 2, size=(9, 20)) * np.spacing(gradient)
        value, share = extended_precision.forms(rows, [gradient, *(gradient + last)], mu)
        fraction = share / value
        change = np.abs(fraction[1:] - fraction[0]).max()
        assert 0.05 < change / (EPS * np.sqrt(fraction[0] / ratio)) < 2


@pytest.mark.parametrize("shape", ["row", "parameter", "auto"])
@pytest.mark.parametrize("size", SIZES)
def test_one_mu_for_each_weight(size: str, shape: str) -> None:
    m, p = SIZES[size]
    rng = np.random.default_rng([m, p, 17])
    rows = rng.normal(size=(m, p))
    gradients = make_gradients(rows, rng)
    mu = np.logspace(-10, 2, p)
    rigidity = prediction_rigidity(
        torch.from_numpy(rows), torch.from_numpy(gradients), torch.from_numpy(mu), shape
    )
    exact = extended_precision.prediction_rigidity(rows, gradients, mu)
    np.testing.assert_allclose(rigidity, exact, rtol=TOLERANCE)


@pytest.mark.parametrize("shape", ["row", "parameter", "auto"])
def test_float32_is_upcast_before_anything_else(shape: str) -> None:
    rng = np.random.default_rng(5)
    rows = torch.from_numpy(rng.normal(size=(6, 9))).float()
    gradients = torch.from_numpy(rng.normal(size=(4, 9))).float()
    rigidity = prediction_rigidity(rows, gradients, 1e-9, shape)
    assert rigidity.dtype == torch.float64
    assert torch.equal(
        rigidity, prediction_rigidity(rows.double(), gradients.double(), 1e-9, shape)
    )
    exact = extended_precision.prediction_rigidity(rows, gradients, 1e-9)
    np.testing.assert_allclose(rigidity, exact, rtol=TOLERANCE)


@pytest.mark.parametrize(("ratio", "tolerance"), [(1e-16, 1e-8), (1e-20, 1e-5)])
@pytest.mark.parametrize("spectrum", ["generic", "duplicated rows"])
@pytest.mark.parametrize("size", SIZES)
def test_beyond_the_range_digits_are_lost_but_nothing_breaks(
    size: str, spectrum: str, ratio: float, tolerance: float
) -> None:
    """mu/lambda_max below eps: squared rows are singular in floating point, the answer is not."""
    m, p = SIZES[size]
    rng = np.random.default_rng([m, p, 1])
    rows = make_rows(spectrum, m, p, rng)
    gradients = make_gradients(rows, rng)
    mu = ratio * np.linalg.norm(rows, 2) ** 2
    exact = extended_precision.prediction_rigidity(rows, gradients, mu)
    for shape in ("row", "parameter"):
        rigidity = prediction_rigidity(
            torch.from_numpy(rows), torch.from_numpy(gradients), mu, shape
        )
        np.testing.assert_allclose(rigidity, exact, rtol=tolerance, err_msg=shape)
