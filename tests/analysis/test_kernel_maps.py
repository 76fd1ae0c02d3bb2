"""Kernel principal components against scikit-learn's, exact and with landmarks."""

import numpy as np
import pytest
import torch

from torchlpr.analysis.kernel_maps import EXACT_ATOMS, KernelMap, kernel_principal_components
from torchlpr.analysis.landmarks import draw_landmarks
from torchlpr.analysis.maps import principal_components
from torchlpr.errors import InputError


def sample(atoms=120, features=9, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(1 + rng.normal(size=(atoms, features)) / (1 + np.arange(features)))


def kernel(x, zeta, types=None):
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    full = (unit @ unit.T) ** zeta
    return full if types is None else full * (types[:, None] == types[None]).numpy()


@pytest.mark.parametrize("zeta", [1, 2, 4])
@pytest.mark.parametrize("species", [False, True])
def test_agrees_with_sklearn(zeta, species):
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = sample()
    types = torch.tensor([14, 32]).repeat(60) if species else None
    full = kernel(x, zeta, types)
    reference = decomposition.KernelPCA(3, kernel="precomputed", eigen_solver="dense")
    expected = reference.fit_transform(full)
    chart = KernelMap.fit(x, zeta, 3, types=types)
    got = chart.project(x, types).numpy()
    np.testing.assert_allclose(got, expected * np.sign((got * expected).sum(0)), atol=1e-9)
    centring = np.eye(120) - 1 / 120
    ratio = reference.eigenvalues_ / np.trace(centring @ full @ centring)
    np.testing.assert_allclose(chart.explained, ratio, rtol=1e-9)


def test_new_atoms_agree_with_sklearn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    x, new = sample(), sample(7, seed=1)
    both = kernel(torch.cat([x, new]), 2)
    reference = decomposition.KernelPCA(2, kernel="precomputed", eigen_solver="dense")
    fitted = reference.fit_transform(both[:120, :120])
    chart = KernelMap.fit(x)
    sign = np.sign((chart.project(x).numpy() * fitted).sum(0))
    expected = reference.transform(both[120:, :120]) * sign
    np.testing.assert_allclose(chart.project(new), expected, atol=1e-9)


def test_linear_kernel_is_the_linear_map_of_normalised_features():
    x = sample()
    expected = principal_components(x / x.norm(dim=1, keepdim=True))[0]
    torch.testing.assert_close(
        kernel_principal_components(x, zeta=1)[0], expected, atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("landmarks", [torch.arange(120), torch.arange(240) % 120, 120])
def test_all_atoms_as_landmarks_are_exact(landmarks):
    x = sample()
    exact, nystrom = KernelMap.fit(x), KernelMap.fit(x, landmarks=landmarks, exact_atoms=10)
    torch.testing.assert_close(nystrom.project(x), exact.project(x), atol=1e-7, rtol=0)
    torch.testing.assert_close(nystrom.explained, exact.explained, atol=1e-7, rtol=0)


def test_landmarks_come_in_above_the_limit():
    x = sample(EXACT_ATOMS + 1, 4)
    assert len(KernelMap.fit(x[:-1]).weights) == EXACT_ATOMS
    assert len(KernelMap.fit(x, landmarks=50).weights) == 50


def test_landmarks_approximate_the_map_of_real_silicon(silicon):
    exact = KernelMap.fit(silicon.features, exact_atoms=10**6).project(silicon.features)
    few = KernelMap.fit(silicon.features, landmarks=200).project(silicon.features)
    # 200 of 1280 atoms place all of them to one percent of the extent of the map
    error = (few - exact).square().mean(0).sqrt() / exact.std(0)
    assert error.max() < 0.01


def test_every_species_gets_a_landmark():
    types = torch.tensor([14] * 999 + [32])
    chosen = draw_landmarks(1000, 10, types)
    assert chosen.unique().numel() == len(chosen) == 11
    assert 999 in chosen.tolist()
    assert torch.equal(chosen, draw_landmarks(1000, 10, types))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zeta": 0}, "zeta"),
        ({"zeta": 1.5}, "zeta"),
        ({"landmarks": 0, "exact_atoms": 5}, "landmarks"),
        ({"landmarks": torch.tensor([3, 120])}, "0 to 119"),
        ({"types": torch.zeros(3)}, "types"),
        ({"features": torch.zeros(9, 3)}, "atom 0 are zero"),
        ({"features": torch.ones(9, 3)}, "0 kernel components"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(InputError, match=message):
        KernelMap.fit(**{"features": sample(), **change})


def test_refuses_to_place_what_does_not_fit():
    chart = KernelMap.fit(sample())
    with pytest.raises(InputError, match="takes 9 features"):
        chart.project(torch.ones(2, 3))
    with pytest.raises(InputError, match="types"):
        chart.project(sample(), torch.ones(120))
    new = sample(4)
    new[2] = 0
    with pytest.raises(InputError, match="atom 2"):
        chart.project(new)
