"""Run functions of this folder in several processes that make a group.

As a script it forks every process from one that has done the imports and runs no thread. One of
them plays torchrun's part: it keeps the store on a free port; the others have torchrun's variables.
"""

import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]


def launch(plan: dict[str, list[int]], folder: Path) -> dict[tuple[str, int], list[Any]]:
    """What functions return on every rank of groups of every size, by function and size.

    Each gets a folder of its own, and makes the group itself. A process that is killed returns
    None; one that fails, or waits for over a minute, fails the test with its traceback.
    """
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(folder), json.dumps(plan)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, timeout=300, cwd=ROOT, env=environment)
    return {
        (function, size): [_result(_folder(folder, function, size), rank) for rank in range(size)]
        for function, sizes in plan.items()
        for size in sizes
    }


def _folder(folder: Path, function: str, size: int) -> Path:
    return folder / f"{function.split('.')[-1]}-{size}"


def _result(folder: Path, rank: int) -> Any:
    path, error = folder / f"result-{rank}.pt", folder / f"error-{rank}.txt"
    said = error.read_text() if error.exists() else ""
    assert not said, f"rank {rank}: {said}"
    return torch.load(path, weights_only=False) if path.exists() else None


def _child(function: str, folder: Path, rank: int, size: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    error = (folder / f"error-{rank}.txt").open("w")
    faulthandler.dump_traceback_later(60, file=error, exit=True)
    try:
        os.environ.update({
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_RUN_ID": "test",
        })  # fmt: skip
        module, _, name = function.rpartition(".")
        value = getattr(importlib.import_module(module), name)(folder)
        torch.save(value, folder / f"result-{rank}.pt")
        code = 0
    except BaseException:
        error.write(traceback.format_exc())
    finally:
        error.close()
        sys.stdout.flush()
        os._exit(code)


def _store() -> tuple[int, int]:
    """A process that keeps a store, and its port."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(writing, f"{store.port}\n".encode())
        while True:
            time.sleep(60)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return child, int(pipe.readline())


def _main(folder: Path, plan: dict[str, list[int]]) -> None:
    torch.set_num_threads(1)
    for function in plan:
        importlib.import_module(function.rpartition(".")[0])
    for function, size in ((f, size) for f, sizes in plan.items() for size in sizes):
        place = _folder(folder, function, size)
        place.mkdir()
        store, port = _store()
        alive = {_child(function, place, rank, size, port) for rank in range(size)}
        end = time.monotonic() + 120
        while alive and time.monotonic() < end:
            alive -= {pid for pid in alive if os.waitpid(pid, os.WNOHANG)[0]}
            time.sleep(0.01)
        for pid in [*alive, store]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), json.loads(sys.argv[2]))
