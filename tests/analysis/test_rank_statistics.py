import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchlpr.analysis.rank_statistics import log_slope, spearman
from torchlpr.errors import InputError

NUMBERS = st.lists(st.integers(-5, 5), min_size=3, max_size=30)


@given(NUMBERS, st.randoms(use_true_random=False))
def test_spearman_is_scipys_with_ties(values, random) -> None:
    x = [float(v) for v in values]
    y = [v + random.choice([0, 0, 3]) for v in x]
    if min(np.ptp(x), np.ptp(y)) > 0:
        expected = scipy.stats.spearmanr(x, y).statistic
        assert spearman(x, y) == pytest.approx(expected, abs=1e-12)


def test_spearman_sees_order_only() -> None:
    x = torch.linspace(0.1, 3, 20, dtype=torch.float64)
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, 1 / x) == pytest.approx(-1)


def test_slope_of_a_power() -> None:
    x = np.geomspace(1e-6, 1e3, 17)
    assert log_slope(x, 7 * x**-1.3) == pytest.approx(-1.3)
    rng = np.random.default_rng(0)
    y = np.exp(rng.normal(size=17))
    expected = scipy.stats.linregress(np.log10(x), np.log10(y)).slope
    assert log_slope(x, y) == pytest.approx(expected)


@pytest.mark.parametrize("function", [spearman, log_slope])
def test_bad_input(function) -> None:
    with pytest.raises(InputError, match="differ"):
        function([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="y must have"):
        function([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="positive"):
        log_slope([1.0, -2.0], [1.0, 2.0])
