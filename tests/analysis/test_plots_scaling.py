import numpy as np
import pytest

from torchlpr.analysis.figures import figure
from torchlpr.analysis.plots_scaling import power_law, scaling
from torchlpr.errors import InputError


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.5])
def test_finds_the_exponent_of_a_power_law(exponent):
    sizes = np.array([3.0, 10.0, 11.0, 200.0])
    assert power_law(sizes, 7 * sizes**exponent) == pytest.approx(exponent, abs=1e-12)


def test_fits_the_largest_sizes_only():
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    costs = np.maximum(sizes**2, 9.0)
    costs[2] = 16.0
    assert power_law(sizes, costs) == pytest.approx(2)
    assert power_law(sizes, costs, last=5) < 1.9


def test_one_size_has_no_exponent():
    assert power_law([4.0], [2.0]) is None


@pytest.mark.parametrize(
    ("sizes", "costs", "message"),
    [([1, 2], [1], "one cost a size"), ([1, 2], [0, 1], "positive"), ([0, 2], [1, 1], "positive")],
)
def test_refuses_what_has_no_logarithm(sizes, costs, message):
    with pytest.raises(InputError, match=message):
        power_law(sizes, costs)


def test_draws_a_line_a_method_with_its_exponent():
    _, axes = figure()
    x = np.array([10.0, 20.0, 40.0])
    curves = {"square": (x, x**2), "line": (x, 3 * x), "point": (x[:1], x[:1])}
    lines = scaling(axes[0, 0], curves, xlabel="N", ylabel="s")
    assert [line.get_label() for line in lines] == list(curves)
    np.testing.assert_array_equal(lines[0].get_ydata(), x**2)
    legend = axes[0, 0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["2.0", "1.0", "–"]
    assert axes[0, 0].get_xscale() == axes[0, 0].get_yscale() == "log"
    assert len({line.get_color() for line in lines}) == 3


def test_nothing_to_draw_is_an_error():
    _, axes = figure()
    with pytest.raises(InputError, match="no method"):
        scaling(axes[0, 0], {}, xlabel="N", ylabel="s")
