"""What the maps draw, read back from their artists."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.maps import principal_components
from torchlpr.analysis.plots_classes import map_by_class
from torchlpr.analysis.plots_maps import map_by_energy, map_by_lpr, map_by_value
from torchlpr.errors import InputError

POINTS = np.array([[0.0, 1, 9], [2, 3, 9], [4, 5, 9], [6, 7, 9]])
LPR = torch.tensor([100.0, 1, 1000, 10])


def colorbar(ax):
    return ax.figure.axes[-1]


def test_lpr_map_draws_logarithms_from_low_to_high(ax):
    artist = map_by_lpr(ax, POINTS, LPR, explained=[0.76, 0.09])
    assert_allclose(artist.get_array(), [0, 1, 2, 3])
    assert_allclose(artist.get_offsets(), POINTS[[1, 3, 0, 2], :2])
    assert artist.get_clim() == (0, 3)
    assert artist.get_rasterized()
    assert colorbar(ax).get_ylabel() == "log$_{10}$ (LPR / eV$^{-2}$)"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("PC 1 (76 %)", "PC 2 (9 %)")


def test_low_values_on_top_and_common_limits(ax):
    artist = map_by_lpr(ax, POINTS, LPR, limits=(1, 2), on_top="low")
    assert_allclose(artist.get_array(), [3, 2, 1, 0])
    assert artist.get_clim() == (1, 2)
    assert artist.colorbar.extend == "both"
    assert ax.get_xlabel() == "PC 1"


def test_energy_map_does_not_stretch_to_outliers(ax):
    energies = np.append(np.linspace(-4.5, -4, 999), 100.0)
    points = np.random.default_rng(0).normal(size=(1000, 2))
    artist = map_by_energy(ax, points, energies)
    assert_allclose(artist.get_clim(), np.percentile(energies, [1, 99]))
    assert artist.colorbar.extend == "both"
    assert colorbar(ax).get_ylabel() == "atomic energy / eV"
    assert_allclose(artist.get_array(), np.sort(energies))


def test_class_map_counts_and_lays_rare_classes_on_top(ax):
    rare, common = map_by_class(ax, POINTS, ["Ge", "Si", "Si", "Si"], title="species")
    legend = ax.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["Ge (1)", "Si (3)"]
    assert legend.get_title().get_text() == "species"
    assert rare.get_zorder() > common.get_zorder()
    assert_allclose(common.get_offsets(), POINTS[1:, :2])
    assert not np.array_equal(rare.get_facecolor(), common.get_facecolor())


@pytest.mark.parametrize(
    ("points", "values"),
    [
        (POINTS, [1.0, 2]),
        (POINTS[:, :1], [1.0, 2, 3, 4]),
        (POINTS, [1.0, np.nan, 3, 4]),
        (np.full((4, 2), np.inf), [1.0, 2, 3, 4]),
        (POINTS[:0], []),
    ],
)
def test_refuses(ax, points, values):
    with pytest.raises(InputError):
        map_by_value(ax, points, values, "value")


def test_real_silicon_smoke(silicon, tmp_path):
    pytest.importorskip("matplotlib")
    points, explained = principal_components(silicon.features)
    fig, axes = figure(2, 2)
    map_by_lpr(axes[0, 0], points, silicon.after, explained=explained)
    map_by_class(axes[0, 1], points, silicon.array("coordination"), title="neighbours")
    map_by_energy(axes[1, 0], points, silicon.array("local_energy"))
    map_by_class(axes[1, 1], points, silicon.config)
    assert save_figure(fig, tmp_path / "maps.png").stat().st_size > 20_000
