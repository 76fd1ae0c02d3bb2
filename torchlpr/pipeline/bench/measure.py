"""Seconds of a method, and the machine's rate of matrix products in the same minute."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchlpr.pipeline.bench.methods import Method, silence
from torchlpr.pipeline.bench.problem import Problem, as_batch
from torchlpr.structures.batch import AtomBatch

__all__ = ["CLOCKS", "gemm_rate", "machine", "measure", "run_once", "timed"]

T = TypeVar("T")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""Time that passes, or that the process itself is at work: for a machine that is shared."""
GEMM_SIZE = {"cpu": 768, "cuda": 4096}
GEMM_TIMES = 3


def timed(function: Callable[[], T], device: str, clock: str = "wall") -> tuple[T, float]:
    """Result and time of a call, everything on the device included.

    Args:
        function: what to call.
        device: cpu or cuda.
        clock: wall or cpu.

    Returns:
        What it returned, and seconds.
    """
    _wait(device)
    start = CLOCKS[clock]()
    result = function()
    _wait(device)
    return result, CLOCKS[clock]() - start


def gemm_rate(device: str, dtype: torch.dtype, clock: str = "wall") -> float:
    """Median rate of a few square matrix products.

    Args:
        device: cpu or cuda.
        dtype: float64 or float32.
        clock: wall or cpu.

    Returns:
        GFLOP/s.
    """
    n = GEMM_SIZE[device]
    a = torch.ones(n, n, dtype=dtype, device=device)
    out = a @ a
    rates = []
    for _ in range(GEMM_TIMES):
        _, seconds = timed(lambda: torch.mm(a, a, out=out), device, clock)
        rates.append(2e-9 * n**3 / seconds)
    return statistics.median(rates)


def measure(method: Method, problem: Problem, clock: str = "wall") -> tuple[dict[str, Any], Tensor]:
    """One measurement.

    Args:
        method: the method, which works for this problem.
        problem: what it is given.
        clock: wall or cpu.

    Returns:
        Seconds of build and evaluation (of build None where they are one call), atoms that were
        evaluated, and the rate of GEMM just before; and the rigidities.
    """
    device = problem.point.device
    rate = gemm_rate(device, problem.point.torch_dtype, clock)
    batch = _sample(method, problem)
    with silence():
        state, build = timed(lambda: method.build(problem), device, clock)
        values, evaluate = timed(lambda: method.evaluate(state, batch), device, clock)
    seconds = {
        "build_s": None if method.one_call else build,
        "evaluate_s": evaluate * problem.point.test_atoms / len(batch),
        "atoms_evaluated": len(batch),
        "gemm_gflops": rate,
    }
    return seconds, values.detach()


def run_once(method: Method, problem: Problem) -> None:
    """Build and evaluate without a clock.

    Args:
        method: the method.
        problem: what it is given.
    """
    with silence():
        method.evaluate(method.build(problem), _sample(method, problem))


def _sample(method: Method, problem: Problem) -> AtomBatch:
    """Test atoms that are evaluated."""
    if method.sample is None or method.sample >= problem.point.test_atoms:
        return problem.test
    return as_batch(problem.test.features[: method.sample], 1)


def machine(devices: tuple[str, ...], clock: str) -> dict[str, Any]:
    """What the numbers belong to.

    Args:
        devices: cpu, cuda.
        clock: wall or cpu.

    Returns:
        Names of processor, device and versions, cores, threads and the clock.
    """
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock": clock,
        "devices": [torch.cuda.get_device_name() if d == "cuda" else d for d in devices],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchlpr": version("torchlpr"),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # only Linux has it
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
