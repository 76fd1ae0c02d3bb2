"""Class statistics against numpy, tables against text."""

import numpy as np
import pytest
import torch

from torchlpr.analysis.statistics import format_table, lpr_by_class, ratio_by_class
from torchlpr.errors import InputError


def test_quartiles_by_class():
    rng = np.random.default_rng(0)
    lpr, classes = np.exp(rng.normal(size=200)), rng.choice([3, 4, 10], 200)
    rows = lpr_by_class(torch.tensor(lpr), torch.tensor(classes))
    assert [row.label for row in rows] == ["3", "4", "10"]
    for row, label in zip(rows, (3, 4, 10), strict=True):
        chosen = lpr[classes == label]
        assert row.atoms == len(chosen)
        expected = np.quantile(chosen, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(row[2:], expected, rtol=1e-14)


def test_the_two_ratios_differ():
    rows = ratio_by_class([1.0, 2, 4, 7], [4.0, 2, 8, 7], ["a", "a", "a", "b"])
    assert rows[0] == ("a", 3, 2.0, 2.0)
    assert rows[1] == ("b", 1, 1.0, 1.0)
    (row,) = ratio_by_class([1.0, 2, 10], [10.0, 2, 1], [0.5, 0.5, 0.5])
    assert row == ("0.5", 3, 1.0, 1.0)
    (row,) = ratio_by_class([1.0, 2, 3], [30.0, 2, 3], np.array(["x"] * 3, dtype=object))
    assert row == ("x", 3, 1.5, 1.0)


@pytest.mark.parametrize("bad", [[1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [], "ab"])
def test_refuses_what_is_no_rigidity(bad):
    with pytest.raises(InputError, match="lpr"):
        lpr_by_class(bad, [1, 2])


def test_refuses_other_sizes():
    with pytest.raises(InputError, match="classes"):
        lpr_by_class([1.0, 2.0], [1])
    with pytest.raises(InputError, match="lpr after"):
        ratio_by_class([1.0, 2.0], [1.0], [1, 1])


def test_table():
    rows = [("3", 114, 0.0057261), ("four", np.int64(1057), np.float32(12345.678)), (None, True, 2)]
    assert format_table(rows, ["class", "atoms", "median"]) == (
        "class  atoms     median\n"
        "-----  -----  ---------\n"
        "    3    114   0.005726\n"
        " four   1057  1.235e+04\n"
        "    -   True          2"
    )
    assert format_table([], ["a"]) == "a\n-"
    with pytest.raises(InputError, match="row 1"):
        format_table([(1, 2), (1,)], ["a", "b"])
