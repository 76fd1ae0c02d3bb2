"""Sums, gatherings and failures among real processes."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import random_tensor, theorem
from tests.ranks.launch import launch
from torchlpr.ranks import ALONE, current_ranks, even_shares, launched, processes, shares

pytestmark = pytest.mark.xdist_group("collectives")
WORK = "tests.ranks.work"
Results = dict[tuple[str, int], list[Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    plan = {f"{WORK}.{name}": [3] for name in ("subgroup", "failures", "killed")}
    folder = tmp_path_factory.mktemp("ranks")
    sizes = {f"{WORK}.collectives": [2, 3], f"{WORK}.in_fabric": [2]}
    return launch(sizes | plan, folder)


@theorem
@given(weights=st.lists(st.integers(0, 50), max_size=30), size=st.integers(1, 6))
def test_shares_are_a_partition_in_order(weights: list[int], size: int) -> None:
    parts = shares(weights, size)
    assert len(parts) == size
    assert [k for part in parts for k in range(len(weights))[part]] == list(range(len(weights)))
    for part in parts:  # no share is heavier than its due by more than one item
        assert sum(weights[part]) <= sum(weights) / size + max(weights, default=0)
    assert [k for part in even_shares(len(weights), size) for k in range(len(weights))[part]] == [
        *range(len(weights))
    ]


def test_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not launched()
    assert current_ranks() is ALONE
    with processes() as ranks:
        assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
        tensor = random_tensor(0, 2, 2)
        for same in (
            ranks.sum(tensor),
            ranks.gather(tensor),
            *ranks.exchange([tensor]),
            ranks.combine(tensor, torch.add),
            ranks.by_first(lambda: tensor),
        ):
            assert same is tensor
        assert list(ranks.rounds(iter([3, 4]))) == [3, 4]


def test_incomplete_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="RANK is not set; start the processes with torchrun"):
        processes().__enter__()


@pytest.mark.parametrize("size", [2, 3])
def test_collective_calls(results: Results, size: int) -> None:
    every = results[f"{WORK}.collectives", size]
    everyone = range(size)
    mine = [random_tensor(r, r, 3) for r in everyone]
    for rank, got in enumerate(every):
        total = torch.stack([random_tensor(r, 4) for r in everyone]).sum(0)
        torch.testing.assert_close(got["sum"], total, rtol=1e-14, atol=1e-14)
        assert got["sum"].equal(every[0]["sum"])
        assert got["gather"].equal(torch.cat(mine))
        assert got["gather dim 1"].equal(torch.cat(mine).mT)
        assert got["gather first"].equal(torch.cat(mine) if rank == 0 else mine[0])
        parts = [random_tensor(10 * r + rank, r, rank + 1) for r in everyone]
        assert all(a.equal(b) for a, b in zip(got["exchange"], parts, strict=True))
        assert got["combine"].equal(torch.cat(mine) + 1)
        assert got["from first"].equal(random_tensor(5, 2, 2))
        assert got["by first"] == {"who": 0}
        assert got["rounds"] == [*range(2 * rank), *[None] * (2 * (size - 1 - rank))]
        assert got["neighbours"] == size


def test_a_group_of_the_users_own(results: Results) -> None:
    _, one, two = results[f"{WORK}.subgroup", 3]
    assert one == (0, [1.0, 2.0, 2.0], [-1.0])
    assert two == (1, [1.0, 2.0, 2.0], [-1.0])


def test_in_lightning_fabric(results: Results) -> None:
    zero, one = results[f"{WORK}.in_fabric", 2]
    assert (zero["size"], zero["still"], one["still"]) == (2, 2.0, 2.0)
    torch.testing.assert_close(zero["shared"], zero["alone"], rtol=1e-10, atol=0)
    assert one["shared"].equal(zero["shared"])


def test_a_failure_on_one_rank_reaches_all(results: Results) -> None:
    zero, one, two = results[f"{WORK}.failures", 3]
    told = "rank 1 of 3 failed: this model is sick"
    assert zero == two
    assert zero == [f"PeerError: {told}"] * 6 + [
        "PeerError: rank 1 of 3 failed: the disk is gone",
        "InputError",  # a limit that is too small is too small for all
        "3",
    ]
    assert one == ["InputError: this model is sick"] * 6 + [
        "OSError: the disk is gone",
        "InputError",
        "3",
    ]


def test_a_rank_that_is_killed_leaves_no_one_waiting(results: Results) -> None:
    zero, one, two = results[f"{WORK}.killed", 3]
    assert one is None
    for error, seconds in (zero, two):
        assert error != "nothing"
        assert seconds < 20
