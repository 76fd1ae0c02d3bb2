"""Memory that is free on this machine, and the limit that follows from it.

It is read from the kernel and from the control groups: in a container or a batch job the group's
limit counts, which the usual helpers do not know.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from torchlpr.errors import InputError

__all__ = ["format_bytes", "free_memory", "memory_limit"]

SHARE = 0.75  # of what is free
MEMINFO = Path("/proc/meminfo")
GROUP_OF_PROCESS = Path("/proc/self/cgroup")
GROUP_ROOT = Path("/sys/fs/cgroup")
# limit, use, and the name of droppable page cache in memory.stat, of control groups 2 and 1
GROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def memory_limit(limit: int | None = None, device: torch.device | str = "cpu") -> int:
    """Bytes that may be used.

    Args:
        limit: as the user gave it; None takes three quarters of what is free now.
        device: whose memory.

    Returns:
        The limit in bytes.

    Raises:
        InputError: if the limit is not positive.
    """
    if limit is None:
        return int(SHARE * free_memory(device))
    if isinstance(limit, bool) or not limit > 0:
        raise InputError(f"memory_limit must be a positive number of bytes, not {limit}")
    return int(limit)


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that can still be allocated on a device.

    Args:
        device: the CPU or a CUDA device.

    Returns:
        Bytes, within the limit of the control group.
    """
    where = torch.device(device)
    if where.type == "cuda":
        free, _ = torch.cuda.mem_get_info(where)
        cached = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(free) + cached
    return min([_system_memory(), *_group_memory()])


def _system_memory() -> int:
    if MEMINFO.is_file():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    if hasattr(os, "sysconf"):  # no count of free pages on macOS: take half of all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 * 2**30


def _group_memory() -> list[int]:
    """What the control groups around this process leave, where they set a limit."""
    if not GROUP_OF_PROCESS.is_file():
        return []
    free = []
    for line in GROUP_OF_PROCESS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        kind = "memory" if "memory" in controllers.split(",") else controllers
        if kind not in GROUP_FILES:
            continue
        root = GROUP_ROOT / kind
        group = root / path.strip("/")
        # inside a container the path is that of the host and absent: its own group is the root
        around = [group, *group.parents]
        free += [_left(g, *GROUP_FILES[kind]) for g in around[: around.index(root) + 1]]
    return [bytes_ for bytes_ in free if bytes_ is not None]


def _left(group: Path, maximum: str, current: str, cache: str) -> int | None:
    """Limit less use of one control group; page cache can be dropped and counts as free."""
    try:
        limit = (group / maximum).read_text().strip()
        used = int((group / current).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if not limit.isdigit():  # "max": no limit
        return None
    return max(0, int(limit) - used + int(statistics.get(cache, 0)))


def format_bytes(number: float) -> str:
    """Bytes for a reader, for example 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
