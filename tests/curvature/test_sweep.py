"""Many mu from one decomposition: the digits of as many factors."""

import numpy as np
import pytest
import torch

from tests.cases import DEVICES, random_tensor
from tests.curvature.test_accuracy import RATIOS, SIZES, SPECTRA, make_gradients, make_rows
from tests.oracles import dense, extended_precision
from torchlpr.curvature import Spectrum, Sweep, UpdatableFactor, build
from torchlpr.errors import InputError


def sweep(rows: torch.Tensor, mu: float | torch.Tensor, shape: str, mus: list[float]) -> Sweep:
    factor = build(rows, mu, shape)
    assert isinstance(factor, UpdatableFactor)
    return Sweep(factor, mus)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("size", SIZES)
def test_against_extended_precision(size: str, spectrum: str) -> None:
    m, p = SIZES[size]
    rng = np.random.default_rng([m, p, SPECTRA.index(spectrum)])
    rows = make_rows(spectrum, m, p, rng)
    gradients = make_gradients(rows, rng)
    largest = np.linalg.norm(rows, 2) ** 2
    mus = [ratio * largest for ratio in [*RATIOS[::2], 1e-16]]
    exact = np.stack([extended_precision.prediction_rigidity(rows, gradients, m) for m in mus])
    r, g = torch.from_numpy(rows), torch.from_numpy(gradients)
    forms = sweep(r, mus[2], "row", mus).quadratic_forms(g)  # with a factor of its own at the last
    np.testing.assert_allclose(1 / forms.value, exact, rtol=1e-8)
    reach = sweep(r, mus[2], "parameter", mus[:3]).quadratic_forms(g)
    np.testing.assert_allclose(1 / reach.value, exact[:3], rtol=1e-8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", ["row", "parameter"])
@pytest.mark.parametrize(("m", "p"), [(6, 15), (15, 6), (9, 9), (0, 3)])
@pytest.mark.parametrize("vector", [False, True])
def test_shares_and_degrees_of_freedom(
    m: int, p: int, vector: bool, shape: str, device: str
) -> None:
    rows, gradients = random_tensor(0, m, p), random_tensor(1, 5, p)
    base = 0.1 + random_tensor(2, p).abs() if vector else torch.tensor(0.5).double()
    times = [0.01, 1.0, 7.0]
    mus = times if vector else [0.5 * t for t in times]
    swept = sweep(rows.to(device), base.to(device), shape, mus)
    forms = swept.quadratic_forms(gradients.to(device))
    factor = build(rows.to(device), base.to(device), shape)
    dof = factor.spectrum().effective_dof(mus)
    for i, t in enumerate(times):
        mu = t * base.numpy()
        np.testing.assert_allclose(
            1 / forms.value[i].cpu(), dense.augmented_qr(rows, gradients, mu), rtol=1e-11
        )
        np.testing.assert_allclose(
            (forms.regulariser[i] / forms.value[i]).cpu(),
            dense.mu_fraction(rows, gradients, mu),
            rtol=1e-10,
        )
        fresh = build(rows, torch.as_tensor(mu), shape).effective_dof()
        np.testing.assert_allclose(dof[i].item(), fresh, rtol=1e-11, atol=1e-11)


def test_out_of_reach() -> None:
    rows = random_tensor(3, 20, 4)
    with pytest.raises(InputError, match=r"too far below the mu in this factor.*anew"):
        sweep(rows * torch.tensor([1e4, 1e4, 0.0, 0.0]), 1.0, "parameter", [1e-14])
    with pytest.raises(InputError, match="lies below what this decomposition resolves"):
        Spectrum.from_rows(rows[:2]).quadratic_forms(rows, [1e-18])
    flat = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    with pytest.raises(InputError, match="mu = 0"):
        sweep(rows, flat, "parameter", [1.0])


@pytest.mark.parametrize(
    ("mus", "message"),
    [([], "at least one"), ([0.0], "positive"), ([float("nan")], "positive"), ([-1.0], "positive")],
)
def test_bad_mus(mus: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sweep(random_tensor(4, 3, 5), 1.0, "auto", mus)
