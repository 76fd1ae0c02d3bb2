"""A network in the span of its training features: the same energies, loss and minima."""

import numpy as np
import pytest
import torch

from tests.cases import ONE, TWO, make_batch
from tests.training import dense
from torchlpr import AtomBatch, BehlerParrinelloMLP, LinearModel, Objective
from torchlpr.models.compression import compress, feature_span
from torchlpr.training import LMSettings, fit
from torchlpr.training import second_order as module

OBJECTIVE = Objective(mu=0.02)
WIDE = 40


def wide_batch(structures: int, types, seed: int = 0) -> AtomBatch:
    """Features of 40 dimensions that span 4 of them."""
    batch = make_batch(structures, types, seed=seed)
    frame = np.random.default_rng(7).normal(size=(batch.features.shape[1], WIDE))
    features = batch.features @ torch.from_numpy(frame)
    return AtomBatch(features, batch.types, batch.structure, batch.energies)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("types", [ONE, TWO])
def test_the_same_energies_and_no_larger_penalty(types, bias: bool) -> None:
    batch = wide_batch(8, types)
    model = BehlerParrinelloMLP(WIDE, types, (5, 3), "tanh", bias, seed=3)
    small = compress(model, batch)
    assert small.basis.shape == (WIDE, 4)
    np.testing.assert_allclose(small.basis.mT @ small.basis, np.eye(4), atol=1e-14)
    energies = model(batch.features, batch.types).detach()
    found = small.model(small.batch.features, small.batch.types).detach()
    np.testing.assert_allclose(found, energies, rtol=0, atol=1e-12 * energies.abs().max())
    full = BehlerParrinelloMLP(WIDE, types, (5, 3), "tanh", bias, seed=4)
    small.expand(full)
    np.testing.assert_allclose(full(batch.features, batch.types).detach(), energies, atol=1e-12)
    norm = np.linalg.norm(dense.flat(full))
    assert norm == pytest.approx(np.linalg.norm(dense.flat(small.model)), rel=1e-13)
    assert norm < np.linalg.norm(dense.flat(model))


def test_nothing_to_gain() -> None:
    batch = make_batch(8)
    assert compress(BehlerParrinelloMLP(4, ONE), batch) is None  # the features span all there is
    assert compress(LinearModel(WIDE, ONE), wide_batch(8, ONE)) is None
    blank = AtomBatch(torch.zeros(3, WIDE).double(), batch.types[:3], torch.arange(3))
    assert feature_span(blank.features).shape == (WIDE, 0)
    assert compress(BehlerParrinelloMLP(WIDE, ONE), blank) is None


def test_training_ends_at_the_same_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same start, as the part outside of the span decays by itself."""
    batch = wide_batch(12, ONE, seed=2)
    results = []
    for way in (compress, lambda model, batch: None):
        monkeypatch.setattr(module, "compress", way)
        model = BehlerParrinelloMLP(WIDE, ONE, (3,), "tanh", seed=1)
        with torch.no_grad():  # start inside the span, where both are the same problem
            span = feature_span(batch.features)
            first = next(model.parameters())
            first.copy_(first @ span @ span.mT)
        result = fit(
            model, batch, OBJECTIVE, "lm", lm_settings=LMSettings(300, 1e-9), progress=False
        )
        assert result.stationarity.is_minimum
        assert result.stationarity.relative_gradient < 1e-7  # of the full network
        results.append((result.loss, dense.flat(model)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-10)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=0, atol=1e-5)
