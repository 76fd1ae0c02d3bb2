"""Run as a script: streams of rows that die by SIGKILL.

Argument: a JSON list of [shape, checkpoint, write]: each process dies half-way through writing
its checkpoint for that time, or for write 0 is killed from outside when a checkpoint is there.
Every process is forked from this one, so that the imports are paid for once. Prints the signals.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.cases import make_batch
from torchlpr.curvature import Accumulator, accumulate, streaming
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

BATCHES = 12


def batches(pause: float = 0.0) -> Iterator[AtomBatch]:
    for seed in range(BATCHES):
        time.sleep(pause)
        yield make_batch(7, seed=seed, features=6)


def model() -> BehlerParrinelloMLP:
    return BehlerParrinelloMLP(6, (14,), (5, 3), seed=1)


def stream(shape: Any, checkpoint: Path | None, pause: float = 0.0) -> Accumulator:
    return accumulate(model(), batches(pause), Objective(mu=1.0), shape, checkpoint)


def die_in_write(number: int) -> None:
    save, writes = torch.save, []

    def half(document: object, path: Path) -> None:
        save(document, path)
        writes.append(path)
        if len(writes) == number:
            whole = Path(path).read_bytes()
            Path(path).write_bytes(whole[: len(whole) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def killed(shape: str, checkpoint: str, write: int) -> int:
    child = os.fork()
    if not child:
        streaming.SAVE_SECONDS = 0.0  # after every batch
        die_in_write(write)
        stream(shape, Path(checkpoint), 0.0 if write else 0.2)
        os._exit(0)
    while not write and not Path(checkpoint).exists():
        time.sleep(0.01)
    if not write:
        os.kill(child, signal.SIGKILL)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    print(json.dumps([killed(*plan) for plan in json.loads(sys.argv[1])]))
