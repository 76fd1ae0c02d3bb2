import numpy as np
import pytest
import torch

from torchlpr.analysis.figures import figure, figure_of_rows, save_figure
from torchlpr.analysis.plots_committee import committee_parity, variance_ratio
from torchlpr.errors import InputError


def test_ratios_and_their_line() -> None:
    _, axes = figure()
    ax = axes[0, 0]
    classes = ["Ga", "As", "Ga"]
    artists = variance_ratio(ax, [1.0, 10.0, 100.0], torch.tensor([1.0, 0.2, 0.01]), classes)
    assert [len(artist.get_offsets()) for artist in artists] == [1, 2]
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(np.asarray(x) * y, 1)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "LPR after / before"
    with pytest.raises(InputError, match=r"variances of atom 1 is 0\.0"):
        variance_ratio(ax, [1.0, 10.0], [1.0, 0.0], ["a", "b"])


def test_members_against_their_mean() -> None:
    _, axes = figure()
    ax = axes[0, 0]
    members = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 5.0]])
    artist = committee_parity(ax, members, [1.0, 100.0, 10.0], limits=(0.5, 3.0), label="E")
    points = np.asarray(artist.get_offsets())
    # atoms by rising rigidity: the rigid one is drawn last
    np.testing.assert_allclose(points[:3], [[1.5, 1.0], [4.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(points[3:, 0], points[:3, 0])
    np.testing.assert_allclose(artist.get_array(), [0, 1, 2, 0, 1, 2])
    assert artist.get_clim() == (0.5, 3.0)
    assert ax.get_xlabel() == "E, mean / eV"
    assert ax.get_xlim() == ax.get_ylim() == (1.0, 5.0)
    with pytest.raises(InputError, match="lpr must have 1 axes and 3"):
        committee_parity(ax, members, [1.0, 1.0])


def test_rows_have_their_own_layout(tmp_path) -> None:
    fig, axes = figure_of_rows(2, 2)
    assert axes.shape == (2, 2)
    axes[0, 0].plot([0, 1], label="a label that takes much room beside the axes")
    axes[0, 0].legend(bbox_to_anchor=(1.01, 1.0), loc="upper left")
    save_figure(fig, tmp_path / "rows.png")
    widths = [[ax.get_position().width for ax in row] for row in axes]
    assert widths[0][0] < 0.7 * widths[1][0]
