"""Run functions of this folder in several processes that make a group.

As a script it forks every process from one that has done the imports; a listening store of its own
on a free port plays torchrun's part, with torchrun's variables.
"""

import importlib
import json
import os
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

    Each gets a folder of its own, and makes the group itself. A process that is killed, fails, or
    runs for over a minute returns None.
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
    path = folder / f"result-{rank}.pt"
    return torch.load(path, weights_only=False) if path.exists() else None


def _child(function: str, folder: Path, rank: int, size: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update({
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
        })  # fmt: skip
        module, _, name = function.rpartition(".")
        value = getattr(importlib.import_module(module), name)(folder)
        torch.save(value, folder / f"result-{rank}.pt")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _main(folder: Path, plan: dict[str, list[int]]) -> None:
    torch.set_num_threads(1)
    for function in plan:
        importlib.import_module(function.rpartition(".")[0])
    for function, size in ((f, size) for f, sizes in plan.items() for size in sizes):
        place = _folder(folder, function, size)
        place.mkdir()
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        alive = {_child(function, place, rank, size, store.port) for rank in range(size)}
        end = time.monotonic() + 60
        while alive and time.monotonic() < end:
            alive -= {pid for pid in alive if os.waitpid(pid, os.WNOHANG)[0]}
            time.sleep(0.01)
        for pid in alive:
            os.kill(pid, 9)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), json.loads(sys.argv[2]))
