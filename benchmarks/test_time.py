"""Seconds of assembly (rows and factor), of evaluation, and of a matrix product."""

import pytest
import torch

from torchlpr.pipeline.bench.methods import silence

ROUNDS = {"rounds": 3, "warmup_rounds": 1}


def test_build(benchmark, method, problem):
    if method.one_call:
        pytest.skip("has no build of its own")
    benchmark.group = f"build, {problem.point.key}"
    with silence():
        benchmark.pedantic(method.build, (problem,), **ROUNDS)


def test_evaluate(benchmark, method, problem):
    benchmark.group = f"evaluate, {problem.point.key}"
    with silence():
        state = method.build(problem)
        benchmark.pedantic(method.evaluate, (state, problem.test), **ROUNDS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_floor(benchmark, dtype):
    a = torch.ones(1024, 1024, dtype=dtype)
    benchmark.group = "matrix product, 1024 x 1024 x 1024"
    benchmark.pedantic(torch.mm, (a, a), **ROUNDS)
    benchmark.extra_info["gflop"] = 2e-9 * 1024**3
