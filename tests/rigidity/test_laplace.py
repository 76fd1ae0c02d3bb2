"""C20: laplace-torch's linearised predictive variance at unit noise is 1/LPR."""

import numpy as np
import pytest
import torch

from tests.cases import FEATURES, ONE, make_batch
from tests.oracles import laplace_torch
from torchlpr import BehlerParrinelloMLP, Objective, Rigidity, prediction_rigidity
from torchlpr.curvature import atomic_gradients, energy_rows

MODEL = BehlerParrinelloMLP(FEATURES, ONE, (5, 3), seed=4)
TRAIN, TEST = make_batch(8, seed=1, atoms=3), make_batch(3, seed=2)


def variance(mu: float, subset: str) -> torch.Tensor:
    structures = TRAIN.features.view(8, 3, FEATURES)
    return laplace_torch.glm_variance(MODEL.networks[0], structures, TEST.features, mu, subset)


@pytest.mark.parametrize("mu", [1e-2, 1.0])
def test_c20_full_network(mu: float) -> None:
    expected = variance(mu, "all")
    lpr = Rigidity(MODEL, TRAIN, Objective(mu=mu)).local(TEST)
    np.testing.assert_allclose(1 / lpr, expected, rtol=1e-10)


@pytest.mark.parametrize("mu", [1e-2, 1.0])
def test_c20_last_layer(mu: float) -> None:
    expected = variance(mu, "last_layer")
    last = slice(-3, None)
    rows = energy_rows(MODEL, TRAIN, Objective(mu=mu))[:, last]
    gradients = atomic_gradients(MODEL, TEST.features, TEST.types)[:, last]
    np.testing.assert_allclose(1 / prediction_rigidity(rows, gradients, mu), expected, rtol=1e-10)
