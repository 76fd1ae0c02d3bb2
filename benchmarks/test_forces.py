"""Seconds of a training step on forces, by each way to its loss and gradient."""

import pytest
from forces import DESCRIPTORS, Problem

WAYS = ("packed, closed form", "pairs, autograd", "through the descriptor")
ROUNDS = {"rounds": 5, "warmup_rounds": 1}


@pytest.fixture(scope="module", params=["symmetry functions, 20, 5 Å", "SOAP, 180, 5 Å"])
def step_problem(request: pytest.FixtureRequest) -> Problem:
    assert request.param in DESCRIPTORS
    problem = Problem(request.param)
    problem.check()
    return problem


@pytest.mark.parametrize("way", WAYS)
def test_step(benchmark, step_problem: Problem, way: str) -> None:
    if way not in step_problem.ways:
        pytest.skip("featomic's features are not differentiable twice")
    benchmark.group = f"step on forces, {step_problem.descriptor}"
    benchmark.pedantic(step_problem.ways[way], **ROUNDS)
    benchmark.extra_info["atoms"] = len(step_problem.batch)
    benchmark.extra_info["derivatives_mb"] = step_problem.memory()
