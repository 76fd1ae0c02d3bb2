"""Peak memory above the data, one process a point; the seconds are those of that process."""

import pytest

from torchlpr.pipeline.bench.memory import peak_memory
from torchlpr.pipeline.bench.methods import Unavailable


def test_memory(benchmark, method, problem, pool_file):
    benchmark.group = f"memory, {problem.point.key}"
    arguments = (method.name, problem.point, problem.mu, pool_file, True)
    try:
        peak = benchmark.pedantic(peak_memory, arguments, rounds=1)
    except Unavailable as error:
        pytest.fail(str(error))
    benchmark.extra_info["peak_bytes"] = peak
    assert peak > 0
