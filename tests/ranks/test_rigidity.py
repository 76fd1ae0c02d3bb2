"""Rigidities do not depend on the number of processes that share the work."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks import work
from tests.ranks.launch import launch
from torchlpr.curvature.shared_build import choose_shared_shape
from torchlpr.ranks import ALONE, Ranks

pytestmark = pytest.mark.xdist_group("rigidity on ranks")
WORK = "tests.ranks.work"
Results = dict[tuple[str, int], list[Any]]


def agree(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], what: str) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        torch.testing.assert_close(
            other[name], values, rtol=1e-10, atol=0, msg=lambda m, n=name: f"{what}, {n}: {m}"
        )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    plan = {f"{WORK}.{name}": [2, 3] for name in ("rigidities", "more")}
    return launch(plan, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("function", ["rigidities", "more"])
def test_ranks_agree(results: Results, function: str, size: int, tmp_path: Path) -> None:
    alone = getattr(work, function)(tmp_path, ALONE)
    for result in results[f"{WORK}.{function}", size]:
        assert result.keys() == alone.keys()
        for key, numbers in result.items():
            agree(alone[key], numbers, f"{size} ranks, {key}")


def test_auto_takes_columns_where_rows_do_not_fit() -> None:
    ranks = Ranks()
    ranks.size = 4
    sizes = 200, 1_000_000
    shape, why = choose_shared_shape(*sizes, ranks, limit=4_000_000_000)
    assert (shape, why.endswith(", 4 ranks")) == ("row", True)
    shape, why = choose_shared_shape(*sizes, ranks, limit=1_000_000_000)
    assert shape == "column"
    assert "each of 4 ranks has its columns of them (at least" in why
    for size in (4, 1):  # neither fits, or there is nobody to share with
        ranks.size = size
        limit = 100_000_000 if size == 4 else 1_000_000_000
        assert choose_shared_shape(*sizes, ranks, limit)[0] == "matrix-free"
    ranks.size = 4
    assert choose_shared_shape(100_000, 1000, ranks, 4_000_000_000)[0] == "parameter"
