"""Plots of rigidity by class, read back from their artists."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_change import lpr_before_after
from torchlpr.analysis.plots_rigidity import lpr_against_mu, lpr_histogram
from torchlpr.errors import InputError

RNG = np.random.default_rng(0)
LPR = np.exp(RNG.normal(size=300))
CLASSES = np.repeat([3, 4, 10], [5, 200, 95])


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_histogram_marks_medians_and_shares_add_up(ax):
    lines = lpr_histogram(ax, LPR, CLASSES, bins=20)
    for line, label in zip(lines, (3, 4, 10), strict=True):
        assert_allclose(line.get_xdata(), np.median(LPR[label == CLASSES]))
    assert texts(ax.get_legend()) == ["3 (5)", "4 (200)", "10 (95)"]
    assert ax.get_xscale() == "log"
    # one filled and one outlined polygon for each class with ten atoms or more
    assert len(ax.patches) == 4
    outline = ax.patches[0].get_xy()
    edges = np.unique(outline[:, 0])
    assert_allclose(np.diff(np.log(edges)), np.log(edges[-1] / edges[0]) / 20, rtol=1e-9)
    assert_allclose(edges[[0, -1]], [LPR.min(), LPR.max()])
    shares = np.histogram(LPR[CLASSES == 4], edges)[0] / 200
    assert_allclose(shares.sum(), 1)
    assert_allclose(outline[:, 1].max(), shares.max())


def test_histogram_of_equal_rigidities(ax):
    (line,) = lpr_histogram(ax, [2.0, 2.0], ["a", "a"])
    assert_allclose(line.get_xdata(), 2)


def test_before_after_writes_ratios_of_medians(ax):
    after = LPR * np.repeat([150.0, 1, 3.52], [5, 200, 95])
    found = lpr_before_after(ax, LPR, after, CLASSES, names=("without", "with"))
    assert [t.get_text() for t in found] == ["×150", "×1.0", "×3.5"]
    assert_allclose([t.get_position()[0] for t in found], [0, 1, 2])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["3\n(5)", "4\n(200)", "10\n(95)"]
    assert texts(ax.get_legend()) == ["without", "with"]
    assert ax.get_yscale() == "log"
    assert len(ax.patches) == 6
    box = ax.patches[1]
    quartiles = np.percentile(LPR[5:205], [25, 75])
    assert_allclose([box.get_y(), box.get_y() + box.get_height()], quartiles)
    whiskers, medians = ax.collections[:2]
    assert_allclose(whiskers.get_segments()[1][0], [0.8, np.percentile(LPR[5:205], 5)])
    assert_allclose(medians.get_segments()[1][:, 1], np.median(LPR[5:205]))


def test_boxes_stay_inside_and_below_the_ratios(ax):
    lpr_before_after(ax, [1.0, 50, 60], [2.0, 55, 100], ["a", "b", "b"])
    low, high = ax.get_ylim()
    assert 0 < low < 0.99
    assert high > 200


def test_long_class_names_are_slanted(ax):
    found = lpr_before_after(ax, [1.0, 2], [0.5, 2], ["amorphous_300K", "liquid_3000K"])
    assert [t.get_text() for t in found] == ["×0.5", "×1.0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "amorphous_300K (1)",
        "liquid_3000K (1)",
    ]
    assert {t.get_rotation() for t in ax.get_xticklabels()} == {30}


@pytest.mark.parametrize("name", ["coordination", "config"])
def test_labels_do_not_overlap(silicon, name):
    pytest.importorskip("matplotlib")
    fig, axes = figure()
    ax = axes[0, 0]
    classes = silicon.config if name == "config" else silicon.array(name)
    found = lpr_before_after(ax, silicon.before, silicon.after, classes)
    fig.canvas.draw()
    rows = [found] if name == "config" else [found, ax.get_xticklabels()]
    for row in rows:
        boxes = [text.get_window_extent() for text in row]
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_against_mu(ax):
    mus = np.array([1e-2, 1e-4, 1e-3])
    lpr = LPR * np.sqrt(mus)[:, None]
    lines = lpr_against_mu(ax, mus, lpr, CLASSES, chosen=1e-3)
    order = [1, 2, 0]
    for line, label in zip(lines, (3, 4, 10), strict=True):
        assert_allclose(line.get_xdata(), mus[order])
        assert_allclose(line.get_ydata(), np.median(lpr[:, label == CLASSES], axis=1)[order])
    band = ax.collections[1].get_paths()[0].vertices
    quartiles = np.percentile(lpr[1, CLASSES == 4], [25, 75])
    assert_allclose(np.unique(band[np.isclose(band[:, 0], 1e-4), 1])[[0, -1]], quartiles)
    assert texts(ax.get_legend())[-1] == "chosen μ = 0.001"
    assert_allclose(ax.lines[-1].get_xdata(), 1e-3)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_refuses(ax):
    with pytest.raises(InputError, match="lpr after"):
        lpr_before_after(ax, LPR, LPR[:3], CLASSES)
    with pytest.raises(InputError, match="lpr"):
        lpr_against_mu(ax, [1.0, 2], LPR[None], CLASSES)
    with pytest.raises(InputError, match="positive for every mu"):
        lpr_against_mu(ax, [1.0], 0 * LPR[None], CLASSES)
    with pytest.raises(InputError, match="atom 0"):
        lpr_histogram(ax, -LPR[:1], [1])


def test_real_silicon_smoke(silicon, tmp_path):
    pytest.importorskip("matplotlib")
    fig, axes = figure(1, 3)
    classes = silicon.array("coordination")
    lpr_histogram(axes[0, 0], silicon.after, classes)
    ratios = lpr_before_after(axes[0, 1], silicon.before, silicon.after, classes)
    # more rows never lower a rigidity
    assert all(float(t.get_text()[1:]) >= 1 for t in ratios)
    lpr_against_mu(axes[0, 2], silicon.mus, silicon.against_mu, classes, chosen=1e-5)
    assert save_figure(fig, tmp_path / "rigidity.png").stat().st_size > 10_000
