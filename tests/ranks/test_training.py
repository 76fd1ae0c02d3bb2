"""Adam on several processes takes the steps of one, and each structure counts once."""

from typing import Any

import pytest
import torch

from tests.ranks import work
from tests.ranks.launch import launch
from torchlpr.ranks import ALONE

pytestmark = pytest.mark.xdist_group("training on ranks")
WORK = "tests.ranks.work"
Results = dict[tuple[str, int], list[Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    plan = {"trainings": [2, 3], "seen": [3], "interrupted": [2], "diverging": [2]}
    folder = tmp_path_factory.mktemp("ranks")
    return launch({f"{WORK}.{name}": sizes for name, sizes in plan.items()}, folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    return work.trainings(tmp_path_factory.mktemp("alone"), ALONE)


@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_train_as_one(
    results: Results, alone: dict[str, dict[str, torch.Tensor]], size: int
) -> None:
    """Gradients are averaged over processes: a sum of squares with L2 must be scaled for it."""
    assert len(alone["full batch"]["history"][:, 4].unique()) > 2  # the learning rate fell
    every = results[f"{WORK}.trainings", size]
    for key, expected in alone.items():
        for got in every:
            for name, numbers in expected.items():
                torch.testing.assert_close(
                    got[key][name], numbers, rtol=1e-8, atol=1e-12, equal_nan=True,
                    msg=lambda m, k=key, n=name: f"{k}, {n}: {m}",
                )  # fmt: skip
            assert got[key]["weights"].equal(every[0][key]["weights"])


def test_nothing_is_padded(results: Results) -> None:
    every = results[f"{WORK}.seen", 3]
    for name, batches in (("full", [7]), ("mini", [3, 3, 1])):
        steps = list(zip(*(seen[name] for seen in every), strict=True))  # [step][process]
        together = [[structure for part in parts for structure in part] for parts in steps]
        assert [len(step) for step in together] == batches * (len(together) // len(batches))
        for start in range(0, len(together), len(batches)):  # an epoch of either kind
            epoch = together[start : start + len(batches)]
            assert sorted(k for step in epoch for k in step) == list(range(7))


def test_a_shared_training_resumes(results: Results) -> None:
    for got in results[f"{WORK}.interrupted", 2]:
        assert got["resumed"].equal(got["whole"])
        assert (got["whole steps"], got["resumed steps"]) == (8, 4)
        assert got["resumed files"] == ["metrics.csv", "training.ckpt"]


def test_a_loss_that_is_not_finite_stops_all(results: Results) -> None:
    for said in results[f"{WORK}.diverging", 2]:
        assert said.startswith("the loss is inf in epoch 0; lower the learning rate")
