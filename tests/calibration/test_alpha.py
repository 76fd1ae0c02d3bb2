"""alpha, its error and the scores, against known noise, minimisation and quadrature."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from tests.cases import seeds, theorem
from torchlpr import AtomBatch, InputError, LinearModel, Objective, Rigidity, fit
from torchlpr.calibration import Calibration, calibrate, fit_alpha, miscalibration_area, reliability

METHODS = ("likelihood", "absolute", "crps")


def noisy(n: int, alpha: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors of variance alpha^2/PR at rigidities over four decades."""
    rng = np.random.default_rng(seed)
    pr = 10 ** rng.uniform(-2, 2, n)
    return torch.from_numpy(alpha / np.sqrt(pr) * rng.normal(size=n)), torch.from_numpy(pr)


def score(r: float, sigma: float) -> float:
    """CRPS as it is defined: integral of (F(x) - 1[x >= r])^2."""
    low = integrate.quad(lambda x: stats.norm.cdf(x, 0, sigma) ** 2, -12 * sigma, r)[0]
    high = integrate.quad(lambda x: stats.norm.sf(x, 0, sigma) ** 2, r, max(r, 0) + 12 * sigma)[0]
    return low + high


@pytest.mark.parametrize("method", METHODS)
def test_known_noise_is_found(method: str) -> None:
    alpha = fit_alpha(*noisy(20_000, 2.7, 1), method)
    assert alpha.n == 20_000
    assert abs(alpha.value - 2.7) < 3 * alpha.error < 0.15
    assert alpha.value == pytest.approx(2.7, rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_the_standard_error_is_the_spread_over_data_sets(method: str) -> None:
    found = [fit_alpha(*noisy(400, 0.3, seed), method) for seed in range(300)]
    spread = np.std([alpha.value for alpha in found])
    claimed = np.sqrt(np.mean([alpha.error**2 for alpha in found]))
    assert claimed == pytest.approx(spread, rel=0.13)  # the spread of 300 is known to 4 %


@theorem
@given(seed=seeds, n=st.integers(2, 30))
def test_alpha_is_the_optimum_it_claims_to_be(seed: int, n: int) -> None:
    r, pr = noisy(n, 0.7, seed)
    s = pr.numpy() ** -0.5

    def minimum(objective) -> float:
        centre = math.log(fit_alpha(r, pr).value)
        bracket = optimize.minimize_scalar(
            lambda x: objective(math.exp(x)), bounds=(centre - 6, centre + 3), method="bounded",
            options={"xatol": 1e-9},
        )  # fmt: skip
        return math.exp(bracket.x)

    nll = minimum(lambda a: -stats.norm.logpdf(r.numpy(), 0, a * s).mean())
    crps = minimum(lambda a: reliability(r, torch.from_numpy(a * s)).crps)
    assert fit_alpha(r, pr, "likelihood").value == pytest.approx(nll, rel=1e-6)
    assert fit_alpha(r, pr, "crps").value == pytest.approx(crps, rel=1e-6)
    absolute = math.sqrt(math.pi / 2) * np.mean(np.abs(r.numpy()) / s)
    assert fit_alpha(r, pr, "absolute").value == pytest.approx(absolute, rel=1e-12)


def test_scores_are_their_definitions() -> None:
    r, pr = noisy(40, 0.5, 3)
    sigma = 0.8 * pr.rsqrt()
    found = reliability(r, sigma)
    nll = -stats.norm.logpdf(r.numpy(), 0, sigma.numpy()).mean()
    assert found.nll == pytest.approx(nll, rel=1e-12)
    by_hand = [score(float(a), float(b)) for a, b in zip(r, sigma, strict=True)]
    assert found.crps == pytest.approx(np.mean(by_hand), rel=1e-7)
    z = np.abs((r / sigma).numpy())
    assert found.within == tuple(float(np.mean(z <= n)) for n in (1, 2, 3))
    assert found.rms_z == pytest.approx(np.sqrt(np.mean(z**2)))
    p = (np.arange(200_000) + 0.5) / 200_000
    observed = np.searchsorted(np.sort(2 * stats.norm.cdf(z) - 1), p, side="right") / len(z)
    assert found.area == pytest.approx(np.mean(np.abs(observed - p)), abs=1e-5)


def test_area_of_perfect_and_hopeless_uncertainties() -> None:
    n = 1000
    perfect = torch.from_numpy(stats.norm.ppf(0.5 + (np.arange(n) + 0.5) / (2 * n)))
    assert miscalibration_area(perfect) == pytest.approx(1 / (4 * n), rel=1e-6)
    assert miscalibration_area(torch.zeros(n)) == pytest.approx(0.5)
    assert miscalibration_area(torch.full((n,), 100.0)) == pytest.approx(0.5)


def test_calibrated_scores() -> None:
    """Within statistical error: 68.3, 95.4, 99.7 %, area 0, rms 1."""
    r, pr = noisy(20_000, 0.4, 5)
    found = reliability(r, fit_alpha(r, pr).value * pr.rsqrt())
    for share, expected in zip(found.within, (0.6827, 0.9545, 0.9973), strict=True):
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 20_000)
    assert found.area < 0.01
    assert found.rms_z == pytest.approx(1, rel=1e-9)  # what the likelihood asks for


@pytest.mark.parametrize("method", METHODS)
def test_rigidity_of_a_bayesian_linear_model(method: str) -> None:
    """Weights drawn from the prior, labels with noise sigma: alpha is that sigma."""
    noise, mu, rng = 0.05, 0.3, np.random.default_rng(8)
    errors, pr = [], []
    for _ in range(150):
        atoms = torch.from_numpy(rng.normal(size=(60, 6)))
        structure = torch.arange(60) // 3
        w = torch.from_numpy(rng.normal(size=6)) * noise / math.sqrt(mu)
        totals = torch.zeros(20, dtype=torch.float64).index_add_(0, structure, atoms @ w)
        labels = totals + 3 * noise * torch.from_numpy(rng.normal(size=20))  # noise per atom
        batch = AtomBatch(atoms, torch.full((60,), 14), structure, labels)
        train, new = batch.select(range(8)), batch.select(range(8, 20))
        model, objective = LinearModel(6, [14]), Objective(mu=mu)
        fit(model, train, objective, progress=False)
        with torch.no_grad():
            predicted = model(new.features, new.types).view(-1, 3).mean(1)
        errors.append((predicted - totals[8:] / 3)[:1])  # one a model: they are correlated
        pr.append(Rigidity(model, train, objective).total(new)[:1])
    alpha = fit_alpha(torch.cat(errors), torch.cat(pr), method)
    assert abs(alpha.value - noise) < 4 * alpha.error
    assert alpha.error < 0.15 * noise


def test_groups_have_their_own_alpha() -> None:
    quiet, loud = noisy(500, 0.1, 1), noisy(500, 2.0, 2)
    few = noisy(3, 50.0, 3)
    r, pr = (torch.cat(parts) for parts in zip(quiet, loud, few, strict=True))
    labels = ["bulk"] * 500 + ["surface"] * 500 + ["rare"] * 2 + [None]
    found = calibrate(r, pr, labels=labels, group_key="kind")
    assert set(found.groups) == {"bulk", "surface"}
    assert found.groups["bulk"] == fit_alpha(*quiet)
    assert found.groups["surface"] == fit_alpha(*loud)
    values = found.alphas(["surface", "bulk", "rare", None])
    everything = fit_alpha(r, pr).value
    assert values.tolist() == [
        found.groups["surface"].value, found.groups["bulk"].value, everything, everything
    ]  # fmt: skip
    assert Calibration.from_dict(found.as_dict()) == found
    with pytest.raises(InputError, match="calibration has version 2, newer than the 1"):
        Calibration.from_dict(found.as_dict() | {"version": 2})


def test_bad_input_is_one_sentence() -> None:
    r, pr = noisy(10, 1.0, 0)
    with pytest.raises(InputError, match="method 'mle' is unknown"):
        fit_alpha(r, pr, "mle")
    with pytest.raises(InputError, match="vectors of one length"):
        fit_alpha(r, pr[:5])
    with pytest.raises(InputError, match="rigidities positive"):
        fit_alpha(r, -pr)
    with pytest.raises(InputError, match="all errors are zero"):
        fit_alpha(0 * r, pr)
    with pytest.raises(InputError, match="best without uncertainty"):
        fit_alpha(r * (torch.arange(10) < 1), pr, "crps")
    with pytest.raises(InputError, match="4 structures are too few"):
        calibrate(r[:4], pr[:4])
    with pytest.raises(InputError, match="one positive sigma each"):
        reliability(r, 0 * pr)
