"""Splits: disjoint, seeded, exact, and true to groups."""

import contextlib

import numpy as np
import pytest
from ase import Atoms
from hypothesis import assume, given
from hypothesis import strategies as st

from torchlpr.errors import InputError
from torchlpr.structures.io import read
from torchlpr.structures.splits import split


def flat(parts: list[list[int]]) -> list[int]:
    return [i for part in parts for i in part]


@given(st.integers(1, 60), st.lists(st.integers(1, 15), min_size=1, max_size=4), st.integers(0, 9))
def test_sizes_are_exact_and_parts_disjoint(n: int, sizes: list[int], seed: int) -> None:
    if sum(sizes) > n:
        with pytest.raises(InputError, match="more than the"):
            split(n, sizes, seed)
        return
    parts = split(n, sizes, seed)
    assert [len(part) for part in parts] == sizes
    assert len(set(flat(parts))) == sum(sizes)
    assert set(flat(parts)) <= set(range(n))
    assert all(part == sorted(part) for part in parts)


@given(
    st.integers(20, 300),
    st.sampled_from([[0.8, 0.2], [0.7, 0.2, 0.1], [0.1] * 10, [1 / 3] * 3, [0.5], [1.0]]),
    st.integers(0, 9),
)
def test_fractions_are_met_to_half_a_structure(n: int, fractions: list[float], seed: int) -> None:
    parts = split(n, fractions, seed)
    ends = np.cumsum([len(part) for part in parts])
    assert abs(ends - np.cumsum(fractions) * n).max() <= 0.5 + 1e-6
    assert len(set(flat(parts))) == len(flat(parts)) == round(sum(fractions) * n + 1e-9)


def test_seeds() -> None:
    assert split(100, [80, 20], 1) == split(100, [80, 20], 1)
    assert split(100, [80, 20], 1) != split(100, [80, 20], 2)
    # shuffled: neither the first nor the last ones
    assert split(100, [80, 20], 1)[1] not in (list(range(20)), list(range(80, 100)))


def test_every_structure_is_as_likely() -> None:
    drawn = np.zeros(10)
    for seed in range(2000):
        drawn[split(10, [3], seed)[0]] += 1
    # binomial with p = 0.3: standard deviation 20.5
    assert abs(drawn - 600).max() < 5 * 20.5


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=60),
    st.sampled_from([[0.5, 0.5], [0.6, 0.3, 0.1], [0.25]]),
    st.integers(0, 5),
)
def test_groups_stay_together(labels: list[int], fractions: list[float], seed: int) -> None:
    parts: list[list[int]] = []
    with contextlib.suppress(InputError):  # few groups leave a part empty, which is refused
        parts = split(len(labels), fractions, seed, groups=labels)
    assume(parts)
    owners = [{labels[i] for i in part} for part in parts]
    for i, owner in enumerate(owners):
        assert all(owner.isdisjoint(other) for other in owners[:i])
        assert sorted(parts[i]) == [j for j, label in enumerate(labels) if label in owner]
    largest = max(labels.count(label) for label in labels)
    ends = np.cumsum([len(part) for part in parts])
    assert abs(ends - np.cumsum(fractions) * len(labels)).max() <= largest / 2 + 1e-6


@given(st.lists(st.integers(1, 5), min_size=4, max_size=20), st.integers(0, 5))
def test_groups_with_exact_sizes(counts: list[int], seed: int) -> None:
    """Sizes that groups can meet, because they are sums of groups."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    size = sum(counts[::2])
    (part,) = split(len(labels), [size], seed, groups=labels)
    assert len(part) == size
    assert part == [i for i, label in enumerate(labels) if label in {labels[j] for j in part}]


def test_groups_in_several_exact_parts() -> None:
    labels = ["a"] * 3 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2
    for seed in range(20):
        parts = split(10, [5, 3, 2], seed, groups=labels)
        assert [len(part) for part in parts] == [5, 3, 2]
        assert {len({labels[i] for i in part}) for part in parts} == {1, 2}


def test_groups_named_by_info() -> None:
    structures = [Atoms("He", info={"trajectory": i // 3}) for i in range(30)]
    first, second = split(structures, [21, 9], 0, groups="trajectory")
    assert not {i // 3 for i in first} & {i // 3 for i in second}
    with pytest.raises(InputError, match=r"structure 0 has no info entry 'run'.*trajectory"):
        split(structures, [21, 9], 0, groups="run")
    with pytest.raises(InputError, match="not a number"):
        split(30, [21, 9], 0, groups="trajectory")


@pytest.mark.parametrize(
    ("n", "sizes", "seed", "groups", "message"),
    [
        (10, [8, 3], 0, None, "add up to 11, more than the 10"),
        (10, [0.8, 0.3], 0, None, "more than 1"),
        (10, [5, 0], 0, None, "must be positive"),
        (10, [5, -1], 0, None, "must be positive"),
        (10, [0.5, float("nan")], 0, None, "must be positive"),
        (10, [5, 0.5], 0, None, "mix"),
        (10, [True], 0, None, "integers or fractions"),
        (10, ["5"], 0, None, "integers or fractions"),
        (10, [], 0, None, "at least one part"),
        (10, [0.96, 0.04], 0, None, "is empty"),
        (0, [0.5], 0, None, "is empty"),
        (10, [5], -1, None, "seed"),
        (10, [5], 0, [1, 2], "2 group labels do not fit 10"),
        (9, [4], 0, [0, 0, 0, 1, 1, 1, 2, 2, 2], "whole groups of 3"),
        (4, [0.5, 0.5], 0, [7, 7, 7, 7], "is empty"),
    ],
)
def test_refusals(n, sizes, seed, groups, message) -> None:
    with pytest.raises(InputError, match=message):
        split(n, sizes, seed, groups)


def test_real_trajectories(data_dir) -> None:
    structures = read(data_dir / "si_tersoff_local" / "si_tersoff_local.xyz")
    parts = split(structures, [0.8, 0.1, 0.1], 0, groups="trajectory")
    assert sum(map(len, parts)) == len(structures)
    owners = [{structures[i].info["trajectory"] for i in part} for part in parts]
    assert not owners[0] & owners[1]
    assert not owners[2] & (owners[0] | owners[1])
