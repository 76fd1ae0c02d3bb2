"""Principal components against scikit-learn and against their definition."""

import numpy as np
import pytest
import torch

from torchlpr.analysis.maps import PrincipalMap, principal_components
from torchlpr.errors import InputError


def sample(atoms, features, seed=0):
    rng = np.random.default_rng(seed)
    scale = 1.0 / (1 + np.arange(features))
    return torch.tensor(3 + rng.normal(size=(atoms, features)) * scale)


@pytest.mark.parametrize("shape", [(200, 12), (12, 200), (40, 40), (5000, 6)])
def test_agrees_with_sklearn(shape):
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = sample(*shape)
    pca = decomposition.PCA(3, svd_solver="full").fit(x.numpy())
    coordinates, explained = principal_components(x, 3)
    expected = pca.transform(x.numpy())
    sign = np.sign((expected * coordinates.numpy()).sum(0))
    np.testing.assert_allclose(coordinates, expected * sign, atol=1e-10)
    np.testing.assert_allclose(explained, pca.explained_variance_ratio_, rtol=1e-9)


def test_both_ways_to_the_axes_agree():
    """The covariance (50 atoms) and the singular values (49 of 50 features) meet."""
    x = sample(50, 49)
    wide = torch.cat([x, torch.zeros(50, 1)], 1)
    tall, broad = PrincipalMap.fit(x), PrincipalMap.fit(wide)
    torch.testing.assert_close(tall.project(x), broad.project(wide), atol=1e-10, rtol=0)


def test_sign_rule_survives_reflection():
    x = sample(60, 5)
    plain, mirrored = principal_components(x)[0], principal_components(-x)[0]
    for coordinates in (plain, mirrored):
        farthest = coordinates.abs().argmax(0)
        assert (coordinates[farthest, [0, 1]] > 0).all()
    torch.testing.assert_close(plain, mirrored, atol=1e-12, rtol=0)


def test_new_atoms_land_on_the_existing_map():
    x, new = sample(80, 7), sample(9, 7, seed=1)
    chart = PrincipalMap.fit(x, 2)
    torch.testing.assert_close(chart.project(new), (new - x.mean(0)) @ chart.axes)
    torch.testing.assert_close(chart.project(torch.cat([x, new]))[:80], chart.project(x))
    torch.testing.assert_close(chart.axes.T @ chart.axes, torch.eye(2, dtype=torch.float64))
    assert chart.project(new[:0]).shape == (0, 2)


def test_float32_features_give_float64_maps():
    x = sample(30, 4)
    coordinates, explained = principal_components(x.float())
    assert coordinates.dtype == explained.dtype == torch.float64
    torch.testing.assert_close(coordinates, principal_components(x)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("features", "n", "message"),
    [
        (torch.zeros(5), 2, "shape"),
        (torch.rand(5, 3), 4, "4 components"),
        (torch.rand(5, 3), 0, "components"),
        (torch.tensor([[1.0, 2], [float("nan"), 3], [0, 1]]), 2, "atom 1"),
        (torch.ones(10, 3), 2, "same features"),
        (torch.ones(3, 10), 2, "same features"),
    ],
)
def test_refuses(features, n, message):
    with pytest.raises(InputError, match=message):
        principal_components(features, n)


def test_refuses_other_features_on_an_existing_map():
    with pytest.raises(InputError, match="takes 4 features"):
        PrincipalMap.fit(sample(30, 4)).project(torch.zeros(3, 5))
