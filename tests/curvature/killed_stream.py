"""Run as a script: a stream of rows that dies by SIGKILL, half-way through writing a checkpoint.

Arguments: shape, checkpoint, and in which write of it to die (0: in none); or "outside".
"""

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


if __name__ == "__main__":
    streaming.SAVE_SECONDS = 0.0  # after every batch
    shape, checkpoint, when = sys.argv[1:]
    if when == "outside":
        stream(shape, Path(checkpoint), 0.05)
    else:
        die_in_write(int(when))
        stream(shape, Path(checkpoint))
