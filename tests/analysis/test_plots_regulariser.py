"""Errors, evidence, degrees of freedom and rigidity over mu, read back from their artists."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from torchlpr.analysis.plots_regulariser import plot_regulariser
from torchlpr.errors import InputError

pytest.importorskip("matplotlib")

from torchlpr.analysis.figures import figure, save_figure

MUS = [1.0, 1e-4, 1e-2]  # in no order
LPR = np.array([[3.0, 4.0, 5.0], [0.01, 0.02, 0.05], [0.1, 0.3, 0.4]])


def draw(**changes):
    fig, axes = figure(2, 2)
    errors = {"training": [0.3, 1e-6, 0.1], "validation": [0.3, 0.2, 0.12]}
    values = {"errors": errors, "log_evidence": [-9.0, 1.0, 3.0], "effective_dof": [1, 7, 4]}
    values |= {"mus": MUS, "lpr": LPR, "chosen": 1e-2} | changes
    plot_regulariser(list(axes.ravel()), **values)
    return fig, axes.ravel()


def test_every_curve_is_in_the_order_of_mu():
    fig, (errors, evidence, dof, lpr) = draw()
    fig.draw_without_rendering()
    for ax in (errors, evidence, dof, lpr):
        assert ax.get_xscale() == "log"
        assert ax.get_xlabel() == "μ / eV$^2$"
        assert_allclose(ax.lines[0].get_xdata(), [1e-4, 1e-2, 1.0])
        assert_allclose(ax.lines[-1].get_xdata(), [1e-2, 1e-2])  # the chosen one
    assert_allclose(errors.lines[0].get_ydata(), [1e-6, 0.1, 0.3])
    assert_allclose(errors.lines[1].get_ydata(), [0.2, 0.12, 0.3])
    assert_allclose(evidence.lines[0].get_ydata(), [-2, 0, -12])
    assert_allclose(dof.lines[0].get_ydata(), [7, 4, 1])
    assert_allclose(lpr.lines[0].get_ydata(), [0.02, 0.3, 4.0])
    band = lpr.collections[0].get_paths()[0].vertices
    assert {0.01, 0.1, 3.0, 0.05, 0.4, 5.0} <= {float(f"{y:.6g}") for y in band[:, 1]}
    words = [text.get_text() for text in errors.get_legend().get_texts()]
    assert words == ["training", "validation", "chosen μ = 0.01"]
    labels = [ax.get_ylabel() for ax in (errors, evidence, dof, lpr)]
    assert labels[0] == "RMSE / (eV/atom)"
    assert labels[1].endswith("/ nat")
    assert labels[3] == "LPR / eV$^{-2}$"


def test_a_training_error_of_nothing_does_not_hide_the_others():
    assert draw()[1][0].get_ylim()[0] == pytest.approx(0.1 * 0.12)
    alike = {"training": [0.3, 0.05, 0.1], "validation": [0.3, 0.2, 0.12]}
    assert draw(errors=alike)[1][0].get_ylim()[0] < 0.05


def test_an_infinite_evidence_is_left_out(tmp_path):
    fig, axes = draw(log_evidence=[np.inf, 2.0, 5.0])
    assert_allclose(axes[1].lines[0].get_ydata(), [-3, 0, np.nan])
    fig, axes = draw(log_evidence=[np.inf] * 3)
    assert np.isnan(axes[1].lines[0].get_ydata()).all()
    assert save_figure(fig, tmp_path / "mu.png").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mus": [1.0, 0.0, 2.0]}, "mu"),
        ({"lpr": LPR[:, :2]}, "three quantiles at each mu, not 2"),
        ({"lpr": LPR[:2]}, "3 entries"),
        ({"effective_dof": [1, 2]}, "effective_dof must have"),
        ({"errors": {"training": [1, 2]}}, "error of training must have"),
    ],
)
def test_refusals(changes, words):
    with pytest.raises(InputError, match=words):
        draw(**changes)


def test_four_axes():
    with pytest.raises(InputError, match="four axes are needed, not 1"):
        plot_regulariser([figure()[1][0, 0]], MUS, {}, MUS, MUS, LPR)
