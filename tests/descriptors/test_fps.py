"""Farthest point sampling against its definition and against scikit-matter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlpr.descriptors.fps import farthest_point_sampling
from torchlpr.errors import InputError


def by_definition(x, n, start=0):
    """argmax over points of the distance to the nearest chosen one, all distances anew."""
    chosen = [start]
    while len(chosen) < n:
        distance = np.linalg.norm(x[:, None] - x[None, chosen], axis=2).min(axis=1)
        chosen.append(int(np.argmax(distance)))
    return chosen


def cloud(atoms=60, features=5, seed=0):
    return np.random.default_rng(seed).normal(size=(atoms, features))


@pytest.mark.parametrize("start", [0, 17])
@pytest.mark.parametrize("n", [1, 2, 30, 60])
def test_definition(n, start):
    x = cloud()
    chosen = farthest_point_sampling(torch.from_numpy(x), n, start=start)
    assert chosen.dtype == torch.int64
    assert chosen.tolist() == by_definition(x, n, start)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=30), st.data())
def test_ties_go_to_the_lowest_index(points, data):
    """Integer lattice points: many exact ties, and copies that must not be chosen twice."""
    x, distinct = np.array(points, dtype=float), len(set(points))
    n = data.draw(st.integers(1, distinct))
    chosen = farthest_point_sampling(torch.from_numpy(x), n).tolist()
    assert chosen == by_definition(x, n)
    assert len({points[i] for i in chosen}) == n
    if distinct < len(points):
        with pytest.raises(InputError, match=f"only {distinct} are distinct"):
            farthest_point_sampling(torch.from_numpy(x), distinct + 1)


def test_scikit_matter_chooses_the_same():
    selection = pytest.importorskip("skmatter.sample_selection")
    x = cloud(500, 40)
    theirs = selection.FPS(n_to_select=80, initialize=3).fit(x).selected_idx_
    ours = farthest_point_sampling(torch.from_numpy(x), 80, start=3)
    assert ours.tolist() == theirs.tolist()


def test_float32_chooses_the_same_where_points_are_apart():
    x = torch.from_numpy(cloud())
    assert torch.equal(
        farthest_point_sampling(x, 20), farthest_point_sampling(x.to(torch.float32), 20)
    )


def test_rounding_does_not_make_copies_distinct():
    x = torch.from_numpy(cloud(4, 30)).repeat(5, 1)
    x *= 1 + 1e-15 * torch.arange(20, dtype=torch.float64)[:, None]
    assert sorted((farthest_point_sampling(x, 4) % 4).tolist()) == [0, 1, 2, 3]
    with pytest.raises(InputError, match="cannot choose 5 points: only 4 are distinct"):
        farthest_point_sampling(x, 5)


def test_a_seed_draws_the_start_and_repeats():
    x = torch.from_numpy(cloud())
    first = [farthest_point_sampling(x, 5, seed=seed).tolist() for seed in range(8)]
    again = [farthest_point_sampling(x, 5, seed=seed).tolist() for seed in range(8)]
    assert first == again
    assert len({chosen[0] for chosen in first}) > 1
    assert all(chosen == by_definition(x.numpy(), 5, chosen[0]) for chosen in first)


TYPES = torch.tensor([33, 31, 31, 33, 33, 31] * 10)


@pytest.mark.parametrize(
    ("n", "split"), [(20, {31: 10, 33: 10}), (7, {31: 4, 33: 3}), ({33: 5, 31: 2}, {31: 2, 33: 5})]
)
def test_each_species_by_itself(n, split):
    x = cloud()
    expected = []
    for number in (31, 33):
        atoms = np.flatnonzero(TYPES.numpy() == number)
        expected += atoms[by_definition(x[atoms], split[number], 2)].tolist()
    chosen = farthest_point_sampling(torch.from_numpy(x), n, types=TYPES, start=2)
    assert chosen.tolist() == expected


def test_a_species_may_be_left_out():
    x = torch.from_numpy(cloud())
    assert (TYPES[farthest_point_sampling(x, {33: 4, 31: 0}, types=TYPES)] == 33).all()


@pytest.mark.parametrize(
    ("n", "arguments", "message"),
    [
        (61, {}, "cannot choose 61 of the 60 points"),
        (-1, {}, "cannot choose -1"),
        (3, {"start": 60}, r"start=60 is outside 0..59"),
        ({31: 3}, {}, "need types"),
        ({31: 31}, {"types": TYPES}, "cannot choose 31 of the 30 points of atomic number 31"),
        ({6: 1}, {"types": TYPES}, "no atom of atomic number 6"),
        (3, {"types": TYPES[:5]}, r"types must have shape \(60,\)"),
    ],
)
def test_refusals(n, arguments, message):
    with pytest.raises(InputError, match=message):
        farthest_point_sampling(torch.from_numpy(cloud()), n, **arguments)


def test_features_must_be_finite_numbers():
    x = torch.from_numpy(cloud())
    x[3, 2] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        farthest_point_sampling(x, 2)
    with pytest.raises(InputError, match="floating point"):
        farthest_point_sampling(torch.ones(3, 2, dtype=torch.int64), 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_device_changes_nothing():
    x = torch.from_numpy(cloud(2000, 50))
    on_gpu = farthest_point_sampling(x.cuda(), 100)
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), farthest_point_sampling(x, 100))
