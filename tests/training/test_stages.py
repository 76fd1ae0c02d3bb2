"""Descent in the leading features first: the minimum is that of all features."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cases import ONE, TWO, make_batch
from tests.training import dense
from torchlpr import AtomBatch, BehlerParrinelloMLP, Objective
from torchlpr.models import compression
from torchlpr.models.compression import compress
from torchlpr.training import LMSettings, fit, newton, second_order
from torchlpr.training.problem import Linearisation, Problem
from torchlpr.training.resume import SavePoint
from torchlpr.training.stationarity import stationarity

WIDE, OBJECTIVE = 30, Objective(mu=0.02)
LARGE, SMALL = 4, 8


def decaying(structures: int, types, seed: int = 0, small: float = 1e-5) -> AtomBatch:
    """Features of 30 dimensions that vary much in four and little in eight more."""
    batch, rng = make_batch(structures, types, seed=seed), np.random.default_rng(3)
    frame = np.linalg.qr(rng.normal(size=(WIDE, LARGE + SMALL)))[0]
    sizes = np.array([1.0] * LARGE + [small] * SMALL)
    scores = rng.normal(size=(len(batch), LARGE + SMALL)) * sizes
    return replace(batch, features=torch.from_numpy(scores @ frame.T))


def network(types, seed: int = 1) -> BehlerParrinelloMLP:
    return BehlerParrinelloMLP(WIDE, types, (4,), "tanh", seed=seed)


@pytest.mark.parametrize("types", [ONE, TWO])
def test_the_leading_features(types) -> None:
    batch, model = decaying(8, types), network(types)
    small = compress(model, batch)
    assert small.basis.shape[1] == LARGE + SMALL
    coarse = small.leading(1e-4)
    assert coarse.basis.shape[1] == LARGE
    within = batch.features @ coarse.basis @ coarse.basis.mT
    expected = model(within, batch.types).detach()
    found = coarse.model(coarse.batch.features, coarse.batch.types).detach()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert small.leading(1e-6) is None
    coarse.expand(model)
    small.enter(model)
    again = small.model(small.batch.features, small.batch.types).detach()
    np.testing.assert_allclose(again, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("small", [1e-5, 9e-5])
def test_the_minimum_is_that_of_all_features(small: float, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, found = decaying(12, ONE, small=small), []
    for share in (second_order.LEADING, 0.0):
        monkeypatch.setattr(second_order, "LEADING", share)
        model = network(ONE)
        result = fit(model, batch, OBJECTIVE, "lm", progress=False)
        assert result.stationarity.is_minimum
        gradient = dense.gradient(model, batch, OBJECTIVE)
        assert np.linalg.norm(gradient) <= 1e-7 * OBJECTIVE.mu * np.linalg.norm(dense.flat(model))
        found.append(result.loss)
    assert found[0] == pytest.approx(found[1], rel=1e-10)


def test_steps_are_counted_through_both_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, widths = decaying(12, ONE), []
    real = Problem.linearise
    monkeypatch.setattr(
        Problem, "linearise", lambda self, w: (widths.append(len(w)), real(self, w))[1]
    )
    for settings in (LMSettings(60, 1e-12, 0), LMSettings(30, 1e-12, 9), LMSettings(5, 1e-12, 2)):
        widths.clear()
        steps = fit(
            network(ONE), batch, OBJECTIVE, "lm", lm_settings=settings, progress=False
        ).steps
        assert sum(row[1] == 0 for row in steps) <= settings.steps
        assert sum(row[1] == 1 for row in steps) <= settings.newton_steps
        assert set(widths) <= {4 * (LARGE + 1), 4 * (LARGE + SMALL + 1)}
        assert widths == sorted(widths)  # never back


def test_a_proof_is_that_of_the_last_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that end in the second stage prove nothing by what the first one found."""
    monkeypatch.setattr(second_order, "GOOD_START", 1e-15)
    real, widths, seen = newton.relative_spectrum, list[int](), set()
    monkeypatch.setattr(
        newton, "relative_spectrum", lambda h, s, w: (widths.append(len(w)), real(h, s, w))[1]
    )
    whole, batch = 4 * (LARGE + SMALL + 1), decaying(12, ONE, small=9e-5)
    for newton_steps in range(1, 40):
        widths.clear()
        settings = LMSettings(5, 1e-16, newton_steps)
        model = network(ONE)
        state = second_order.train_second_order(model, batch, OBJECTIVE, settings, progress=False)
        proven = bool(widths) and widths[-1] == whole
        assert (state.ends is not None) == proven
        seen.add((len(widths) > 0, proven))
    assert seen == {(False, False), (True, False), (True, True)}
    fresh = stationarity(model, batch, OBJECTIVE)
    expected = fresh.smallest_curvature, fresh.largest_curvature
    assert state.ends == pytest.approx(expected, rel=0.02)


class Killed(Exception):
    """Stands for whatever ends a process."""


def test_goes_on_bit_by_bit_from_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SavePoint.__init__, "__defaults__", (0.0,))
    batch = decaying(7, TWO)

    def run(out: Path) -> Any:
        model = network(TWO)
        settings = LMSettings(6, 1e-12, 12)
        result = fit(model, batch, OBJECTIVE, "lm", lm_settings=settings, out=out, progress=False)
        return dense.flat(model), result.steps

    real, calls, widths = Linearisation.factor, [0], []

    def factor(self: Linearisation, mu: float) -> Any:
        calls[0] -= 1
        if calls[0] == 0:
            raise Killed
        widths.append(self.rows.shape[1])
        return real(self, mu)

    monkeypatch.setattr(Linearisation, "factor", factor)
    weights, steps = run(tmp_path / "whole")
    assert len(set(widths)) == 2  # both stages were seen
    span = compression.feature_span
    for stop in range(1, len(widths)):
        calls[0], out = stop, tmp_path / str(stop)
        with pytest.raises(Killed):
            run(out)
        if stop > 1:  # something was stored: another machine finds another basis of the span
            monkeypatch.setattr(compression, "feature_span", lambda x: span(x).neg())
        found = run(out)
        monkeypatch.setattr(compression, "feature_span", span)
        np.testing.assert_array_equal(found[0], weights)
        np.testing.assert_array_equal(found[1], steps)
