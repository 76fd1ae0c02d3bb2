"""Gain curves and reliability plots show the numbers they were given."""

import numpy as np
import pytest
import torch

from torchlpr import InputError
from torchlpr.analysis.figures import figure
from torchlpr.analysis.plots_calibration import confidence_curve, error_against_uncertainty
from torchlpr.analysis.plots_design import gain_curve
from torchlpr.calibration import miscalibration_area


def test_gain_curve_shows_geometric_mean_and_minimum() -> None:
    lpr = np.random.default_rng(0).lognormal(size=(4, 7)).cumsum(axis=0)
    fig, axes = figure()
    mean, low = gain_curve(axes[0, 0], lpr)
    np.testing.assert_allclose(mean.get_ydata(), np.exp(np.log(lpr).mean(axis=1)))
    np.testing.assert_allclose(low.get_ydata(), lpr.min(axis=1))
    np.testing.assert_array_equal(mean.get_xdata(), range(4))
    fig.draw_without_rendering()
    with pytest.raises(InputError, match="positive after every pick"):
        gain_curve(axes[0, 0], -lpr)


def test_sigma_lines_and_binned_errors() -> None:
    rng = np.random.default_rng(1)
    sigma = rng.lognormal(size=60)
    errors = sigma * rng.normal(size=60)
    errors[3] = 0.0  # has no place on a log axis
    fig, axes = figure()
    lines = error_against_uncertainty(axes[0, 0], sigma, errors)
    for n, line in enumerate(lines, start=1):
        np.testing.assert_allclose(line.get_ydata(), n * line.get_xdata())
        assert line.get_xdata()[0] <= sigma.min() <= sigma.max() <= line.get_xdata()[1]
    points, binned = axes[0, 0].lines[:2]
    assert len(points.get_xdata()) == 59
    counts = [len(part) for part in np.array_split(np.arange(60), 6)]
    total = np.dot(np.square(binned.get_ydata()), counts)
    assert total == pytest.approx(np.square(errors).sum())
    fig.draw_without_rendering()


def test_the_area_by_the_confidence_curve_is_the_miscalibration_area() -> None:
    rng = np.random.default_rng(2)
    sigma, errors = rng.lognormal(size=50), 2 * rng.normal(size=50)
    fig, axes = figure()
    curve = confidence_curve(axes[0, 0], sigma, errors)
    x, y = curve.get_xdata(), curve.get_ydata()
    grid = (np.arange(100_000) + 0.5) / 100_000
    observed = y[np.searchsorted(x, grid, side="right") - 1]
    area = miscalibration_area(torch.from_numpy(errors / sigma))
    assert np.mean(np.abs(observed - grid)) == pytest.approx(area, abs=1e-4)
    fig.draw_without_rendering()
