"""The variance of a committee against rigidity, in units of its own statistical error."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from tests.cases import MODELS, make_batch, mlp, random_tensor
from torchlpr import AtomBatch, Committee, InputError, Objective, Rigidity, fit
from torchlpr.committee import MemberStatistics

MEMBERS = 1000
# ln s^2 of so many Gaussian members scatters by sqrt(2/(B - 1)); five of those in any of ~30 atoms
STATISTICAL = 5 * math.sqrt(2 / (MEMBERS - 1))


def log_ratio(variance: Tensor, rigidity: Tensor, sigma: float) -> np.ndarray:
    return (variance * rigidity / sigma**2).log().numpy()


@pytest.mark.parametrize(("mu", "per_atom"), [(1e-6, True), (0.05, False), (10.0, True)])
@pytest.mark.parametrize("structures", [4, 40])
@pytest.mark.parametrize("name", ["linear", "linear two species", "kernel", "kernel two species"])
def test_c21_sample_then_optimise_has_the_variance_of_rigidity(
    name: str, structures: int, mu: float, per_atom: bool
) -> None:
    """Atoms that the data determine, and atoms that they do not (few rows, small mu)."""
    types, build = MODELS[name]
    train, test = make_batch(structures, types), make_batch(9, types, seed=5)
    objective = Objective(mu, energy_weight=2.5, per_atom=per_atom)
    committee = Committee.train(build(), train, objective, MEMBERS, sigma=0.3, seed=1)
    rigidity, found = Rigidity(build(), train, objective), committee.predict(test)
    atoms = log_ratio(found.atoms.variance, rigidity.local(test), 0.3)
    wholes = log_ratio(found.structures.variance, rigidity.total(test), 0.3)
    assert np.abs(atoms).max() < STATISTICAL
    assert np.abs(wholes).max() < STATISTICAL
    assert np.abs(atoms).max() > STATISTICAL / 50  # drawn, not computed


def test_a_subsampled_committee_does_not() -> None:
    """An atom that nothing determines hardly varies between subsamples: T12's warning."""
    train = make_batch(4)
    objective = Objective(1e-2)
    model = MODELS["linear"][1]()
    wide = AtomBatch(
        torch.cat([train.features, torch.zeros(len(train), 1).double()], 1),
        train.types,
        train.structure,
        train.energies,
    )
    model = type(model)(5, (14,))
    unseen = AtomBatch(torch.eye(5).double()[4:], torch.tensor([14]), torch.tensor([0]), None)
    subsample = Committee.train(model, wide, objective, 50, "subsample", fraction=0.5)
    honest = Committee.train(model, wide, objective, 50, sigma=0.1)
    assert float(subsample.predict(unseen).atoms.variance) == 0.0
    low, high = honest.predict(unseen).atoms.variance_interval(0.999)
    assert float(low) < 0.1**2 / float(Rigidity(model, wide, objective).local(unseen)) < float(high)


def test_noise_of_largest_marginal_likelihood() -> None:
    """The sigma it chooses maximises the density of the targets under N(0, s^2 (1 + RR^T/mu))."""
    train, mu = make_batch(12), 0.05
    model = MODELS["linear"][1]()
    committee = Committee.train(model, train, Objective(mu), 2)
    counts = np.bincount(train.structure)
    rows = np.zeros((12, 4))
    np.add.at(rows, train.structure.numpy(), train.features.numpy())
    rows /= counts[:, None]
    covariance = np.eye(12) + rows @ rows.T / mu

    def likelihood(s: float) -> float:
        normal = scipy.stats.multivariate_normal(np.zeros(12), s**2 * covariance)
        return normal.logpdf(train.energies.numpy() / counts)

    assert committee.sigma is not None
    best = likelihood(committee.sigma)
    assert best > max(likelihood(committee.sigma * f) for f in (0.99, 1.01))


def test_a_network_follows_its_rigidity_where_residuals_vanish() -> None:
    """A teacher's own labels, one valley, small noise: the linear case to first order in both."""
    members, sigma = 200, 1e-6
    train, test, objective = make_batch(40), make_batch(3, seed=5), Objective(1e-6)
    model = mlp((14,), hidden=(2,), bias=True, activation="tanh")()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)  # well into the bends of tanh
    local = model(train.features, train.types).detach()
    energies = torch.zeros(40).double().index_add(0, train.structure, local)
    labelled = AtomBatch(train.features, train.types, train.structure, energies)
    fit(model, labelled, objective, "lm", progress=False)
    committee = Committee.train(
        model, labelled, objective, members, sigma=sigma, start="model", progress=False
    )
    assert committee.facts["relative_gradient"] < 1e-3  # what stationarity calls a minimum
    variance = committee.predict(test).atoms.variance
    ratio = log_ratio(variance, Rigidity(model, labelled, objective).local(test), sigma)
    assert np.abs(ratio).max() < 5 * math.sqrt(2 / (members - 1))


@pytest.mark.parametrize("confidence", [0.5, 0.68, 0.95])
@pytest.mark.parametrize("members", [2, 10, 200])
def test_the_error_bar_is_that_of_chi_square(members: int, confidence: float) -> None:
    statistics = MemberStatistics(random_tensor(3, members, 7))
    np.testing.assert_allclose(
        statistics.variance, np.var(statistics.members.numpy(), axis=0, ddof=1), rtol=1e-12
    )
    low, high = statistics.variance_interval(confidence)
    chi = scipy.stats.chi2(members - 1)
    ends = chi.ppf([0.5 + confidence / 2, 0.5 - confidence / 2])
    np.testing.assert_allclose(low, (members - 1) * statistics.variance / ends[0], rtol=1e-9)
    np.testing.assert_allclose(high, (members - 1) * statistics.variance / ends[1], rtol=1e-9)
    expected = math.sqrt(scipy.special.polygamma(1, (members - 1) / 2))
    assert statistics.log_variance_error == pytest.approx(expected, rel=1e-9)


def test_the_error_bar_holds_as_often_as_it_says() -> None:
    statistics = MemberStatistics(random_tensor(4, 10, 20000))
    low, high = statistics.variance_interval(0.68)
    assert float(((low < 1) & (high > 1)).double().mean()) == pytest.approx(0.68, abs=0.015)
    assert float(statistics.variance.log().std()) == pytest.approx(
        statistics.log_variance_error, rel=0.03
    )
    assert statistics.log_variance_error == pytest.approx(0.50, abs=0.01)  # of ten members


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.3, math.nan])
def test_a_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(InputError, match="confidence must lie between 0 and 1"):
        MemberStatistics(random_tensor(0, 3, 2)).variance_interval(confidence)
