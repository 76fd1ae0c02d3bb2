"""Single linkage: scipy's own, blobs with an outlier, equal points, and many of them."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist

from tests.cases import seeds, theorem
from torchlpr import InputError
from torchlpr.analysis import spanning_tree
from torchlpr.analysis.plots_clusters import dendrogram
from torchlpr.analysis.single_linkage import single_linkage


def blobs(seed=0, n=(60, 30), d=3, outlier=True):
    """Two blobs and a far point; r_g is their smallest distance."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 0.3, (n[0], d)), rng.normal(0, 0.3, (n[1], d))
    b[:, 0] += 5
    far = np.full((int(outlier), d), 40.0)
    return np.concatenate([a, b, far]), float(cdist(a, b).min())


def same_partition(a, b):
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


@pytest.mark.parametrize("many", [False, True], ids=["k-d tree", "products"])
@theorem
@given(seeds, st.integers(2, 80), st.integers(1, 6), st.sampled_from(["normal", "grid", "copies"]))
def test_against_scipy(many, seed, n, d, kind):
    """Same heights, and the same clusters at every height that is no tie."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.geomspace(1, 0.1, d) + 100 * (kind == "normal")
    if kind == "grid":
        x = rng.integers(0, 3, (n, d)).astype(float)
    if kind == "copies":
        x = x[rng.integers(0, (n + 3) // 4, n)]
    saved = spanning_tree._TREE_DIMENSIONS, spanning_tree._NEIGHBOURS, spanning_tree._SMALL
    spanning_tree._TREE_DIMENSIONS = 0 if many else 100
    spanning_tree._NEIGHBOURS, spanning_tree._SMALL = 3, 6  # every path is walked
    try:
        found = single_linkage(x)
    finally:
        spanning_tree._TREE_DIMENSIONS, spanning_tree._NEIGHBOURS, spanning_tree._SMALL = saved
    expected = linkage(x, "single")
    np.testing.assert_allclose(found.merges[:, 2], expected[:, 2], rtol=1e-9, atol=1e-12)
    heights = np.unique(np.round(expected[:, 2], 9))
    for low, high in pairwise(heights):
        middle = (low + high) / 2
        assert same_partition(found.cut(middle), fcluster(expected, middle, "distance"))
    assert set(found.cut(0.0).tolist()) == set(range(n))
    assert not found.cut(1e9).any()


@pytest.mark.parametrize("n", [2000])
@pytest.mark.parametrize("d", [2, 10, 40])
def test_clusters_larger_than_the_lists(n, d):
    """Three blobs apart: the search beyond the lists of neighbours decides."""
    rng = np.random.default_rng(d)
    x = rng.normal(size=(n, d))
    x[n // 2 :, 0] += 30
    x[3 * n // 4 :, 1] += 70
    expected = linkage(x, "single")[:, 2]
    np.testing.assert_allclose(single_linkage(x).merges[:, 2], expected, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 3, 30])
@pytest.mark.parametrize("seed", range(3))
def test_gap_of_two_blobs_and_an_outlier(seed, d):
    x, r_g = blobs(seed, d=d)
    order = np.random.default_rng(seed).permutation(len(x))
    found = single_linkage(x[order])
    gap = found.gap()
    assert gap is not None
    assert gap.distance == pytest.approx(r_g, rel=1e-13)
    assert gap.sizes == (60, 30)
    assert gap.labels[np.argsort(order)].tolist() == [0] * 60 + [1] * 30 + [-1]
    assert found.merges[-1, 2] > 20  # the outlier comes last, and is ignored
    assert np.array_equal(np.unique(found.cut(gap.distance)), [0, 1, 2])
    assert found.gap(0.4) is None  # the smaller blob is no longer big
    parts = [linkage(x[:60], "single"), linkage(x[60:90], "single")]
    assert gap.within == pytest.approx(max(part[-1, 2] for part in parts), rel=1e-12)
    cloud = single_linkage(x[:60]).gap()  # its last big merge is no gap
    assert cloud is None or cloud.distance < 1.5 * cloud.within
    assert gap.distance > 2 * gap.within or d == 30


def test_points_that_are_all_alike():
    found = single_linkage(np.ones((50, 7)))
    assert not found.merges[:, 2].any()
    assert len(found) == 50


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones((1, 3)), "at least two points, not 1"),
        (np.array([[0.0], [np.nan]]), r"features is nan at index 1"),
        (np.ones(4), "features must have 2 axes"),
    ],
)
def test_points_refused(points, message):
    with pytest.raises(InputError, match=message):
        single_linkage(points)


def test_shares_refused():
    found = single_linkage(blobs()[0])
    with pytest.raises(InputError, match=r"min_share must lie in \(0, 0.5\], not 0.6"):
        found.gap(0.6)


def test_dendrogram(ax):
    x, r_g = blobs()
    found = single_linkage(x)
    lines = dendrogram(ax, found, found.gap(), leaves=8)
    tops = sorted(path.vertices[:, 1].max() for path in lines.get_paths())
    np.testing.assert_allclose(tops, found.merges[-7:, 2])
    (mark,) = ax.get_lines()
    assert mark.get_ydata() == pytest.approx([r_g, r_g])
    assert ax.get_legend().get_texts()[0].get_text().endswith("(60 and 30 points)")
    with pytest.raises(InputError, match="at least 2 leaves"):
        dendrogram(ax, found, leaves=1)


def test_a_dendrogram_reaches_down_to_the_gap(ax):
    x, r_g = blobs()
    far = 100 * 2.0 ** np.arange(40)[:, None]  # each joins the whole by itself
    found = single_linkage(np.concatenate([x, np.repeat(far, 3, axis=1)]))
    lines = dendrogram(ax, found, found.gap(), leaves=5)
    assert min(path.vertices[:, 1].max() for path in lines.get_paths()) <= r_g * (1 + 1e-12)


LARGE = """
import resource, numpy as np
from torchlpr.analysis.single_linkage import single_linkage
rng = np.random.default_rng(0)
x = rng.normal(size=(100_000, 3)); x[50_000:, 0] += 30
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = single_linkage(x)
print(*found.gap().sizes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_of_many_points():
    """Distances of all pairs would take 80 GB."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LARGE], capture_output=True, text=True, check=True
    )
    larger, smaller, kib = map(int, done.stdout.split())
    assert (larger, smaller) == (50_000, 50_000)
    assert kib < 300_000
