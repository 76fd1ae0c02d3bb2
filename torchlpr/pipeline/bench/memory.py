"""Peak memory of a method above that of its data, in a process of its own for each point.

The processes are forked from a server that has imported everything and computed nothing, so that
one costs no new import. A forked process also starts with its own high-water mark: one that
replaces itself (as ``subprocess`` does) inherits the mark of its parent in ``ru_maxrss``.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import resource
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from torchlpr.pipeline.bench.check import METHODS, small_problem
from torchlpr.pipeline.bench.measure import run_once
from torchlpr.pipeline.bench.methods import Unavailable
from torchlpr.pipeline.bench.points import Point
from torchlpr.pipeline.bench.problem import Pool, make_problem

__all__ = ["peak_memory"]

PRELOAD = "torchlpr.pipeline.bench.memory"
PRELOAD_PEERS = "torchlpr.pipeline.bench.preload"


def peak_memory(
    method: str, point: Point, mu: float, pool: Path, peers: bool = False, timeout: float = 1800
) -> int:
    """Bytes that build and evaluation take at most, beyond what is there before.

    The method first solves a small problem, so that libraries and their buffers are in place.

    Args:
        method: name of the method.
        point: size of the problem.
        mu: strength of the L2 term.
        pool: file with the features of the pool.
        peers: whether the server, where it is not running yet, imports other packages at once.
        timeout: seconds to wait.

    Returns:
        Bytes: of resident memory, or on cuda of the device.

    Raises:
        Unavailable: if the process dies, for want of memory for example, or takes too long.
    """
    servers = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if servers else "spawn")
    if servers:
        context.set_forkserver_preload(["__main__", PRELOAD_PEERS if peers else PRELOAD])
    receive, send = context.Pipe(duplex=False)
    arguments = (send, method, point, mu, pool, torch.get_num_threads())
    process = context.Process(target=_measure, args=arguments, daemon=True)
    process.start()
    send.close()
    try:
        if not receive.poll(timeout):
            raise Unavailable(f"took more than {timeout:.0f} s")
        answer = receive.recv()
    except EOFError as error:
        process.join()
        raise Unavailable(f"its process ended with exit code {process.exitcode}") from error
    finally:
        process.kill()
        process.join()
    if isinstance(answer, str):
        raise Unavailable(answer)
    return int(answer)


def _measure(
    send: Connection, name: str, point: Point, mu: float, pool: Path, threads: int
) -> None:
    """Measure in a fresh process and send bytes, or a sentence."""
    torch.set_num_threads(threads)
    try:
        send.send(_peak(name, point, mu, pool))
    except Exception as error:
        send.send(f"fails: {type(error).__name__}: {' '.join(str(error).split())[:160]}")


def _peak(name: str, point: Point, mu: float, pool: Path) -> int:
    method = METHODS[name]
    run_once(method, small_problem(point))
    real = torch.load(pool, weights_only=True)
    problem = make_problem(point, Pool(real["train"], real["test"]), mu)
    del real
    gc.collect()
    if point.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run_once(method, problem)
        return torch.cuda.max_memory_allocated() - before
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # freed memory would be used again, unseen
    before = _reset_mark()
    run_once(method, problem)
    return max(0, _mark() - before)


def _reset_mark() -> int:
    """Lower the high-water mark to what is resident now, where the system can, and return it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _mark()


def _mark() -> int:
    """Largest resident memory of this process so far in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
