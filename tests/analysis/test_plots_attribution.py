"""Bars of shares have the lengths they were given."""

import numpy as np
import pytest

from torchlpr import InputError
from torchlpr.analysis.figures import figure
from torchlpr.analysis.plots_attribution import attribution_bars


def test_bars_are_stacked() -> None:
    shares = np.array([[0.3, 0.1, 0.0], [0.2, 0.25, 0.0], [0.0, 0.0, 0.15]])
    fig, axes = figure()
    attribution_bars(axes[0, 0], ["3: Si8", "1: Si2", "regulariser"], shares)
    drawn = np.array([[bar.get_width() for bar in bars] for bars in axes[0, 0].containers]).T
    np.testing.assert_allclose(drawn, 100 * shares)
    ends = [bar.get_x() + bar.get_width() for bar in axes[0, 0].containers[-1]]
    np.testing.assert_allclose(ends, 100 * shares.sum(1))
    assert axes[0, 0].get_yticklabels()[0].get_text() == "3: Si8"
    fig.draw_without_rendering()


def test_a_kind_without_shares_has_no_legend() -> None:
    _, axes = figure()
    attribution_bars(axes[0, 0], ["a"], [[0.4, 0.0, 0.6]])
    assert [t.get_text() for t in axes[0, 0].get_legend().get_texts()] == ["energy", "regulariser"]


@pytest.mark.parametrize("shares", [[[0.1, 0.2]], [[0.1, -0.2, 0.3]], [[0.1, 0.2, 0.3]] * 2])
def test_refused(shares: list) -> None:
    with pytest.raises(InputError, match="1 x 3"):
        attribution_bars(figure()[1][0, 0], ["a"], shares)
