from pathlib import Path

import pytest
import torch

from torchlpr.pipeline.bench.check import METHODS, check
from torchlpr.pipeline.bench.methods import Method, Unavailable
from torchlpr.pipeline.bench.points import Plan, Point, quick_plan
from torchlpr.pipeline.bench.problem import Pool, Problem, load_pool, make_problem

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
PLAN: Plan = quick_plan().on(DEVICES)


def pytest_generate_tests(metafunc):
    if "point" in metafunc.fixturenames:
        metafunc.parametrize("point", PLAN.comparisons, ids=lambda point: point.key)
    if "method" in metafunc.fixturenames:
        metafunc.parametrize("method", METHODS.values(), ids=lambda method: method.name)


@pytest.fixture(scope="session")
def pool() -> Pool:
    return load_pool(PLAN)


@pytest.fixture(scope="session")
def pool_file(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "pool.pt"
    torch.save({"train": pool.train, "test": pool.test}, path)
    return path


@pytest.fixture
def problem(method: Method, point: Point, pool: Pool) -> Problem:
    """The problem, for a method that is there and gives the right numbers on a small one."""
    try:
        check(method, point)
    except Unavailable as error:
        pytest.skip(str(error))
    return make_problem(point, pool)
