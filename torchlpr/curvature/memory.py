"""Memory: what is free, and what the shapes of the Gauss-Newton Hessian will take."""

from __future__ import annotations

import os
from pathlib import Path

import torch

__all__ = ["default_limit", "readable", "shape_bytes"]

SHARE = 0.75  # of the free memory: models, features and the operating system want the rest


def default_limit(device: torch.device | str = "cpu") -> int:
    """Three quarters of the memory that is free on a device, in bytes."""
    place = torch.device(device)
    if place.type == "cuda":
        free = torch.cuda.mem_get_info(place)[0]
        spare = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return int(SHARE * (free + spare))
    return int(SHARE * _free_on_host())


def _free_on_host() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":") for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux: all there is, where that is known
        names = os.sysconf_names if hasattr(os, "sysconf") else {}
        if "SC_PHYS_PAGES" not in names:
            return 4 * 2**30
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def shape_bytes(shape: str, n_rows: int, n_parameters: int) -> int:
    """Peak memory of building an exact shape, in bytes.

    Args:
        shape: "row" (rows, scaled rows, the copies that QR takes at small mu, and the M x M
            system with its factor) or "parameter" (rows, and the stacked blocks of the P x P
            triangle).
        n_rows: number M of rows.
        n_parameters: number P of weights.

    Returns:
        The prediction, float64 numbers.
    """
    rows = n_rows * n_parameters
    if shape == "row":
        return 8 * (4 * rows + 3 * n_rows**2)
    block = min(n_rows, max(4 * n_parameters, 1024)) * n_parameters
    return 8 * (rows + 2 * block + 6 * n_parameters**2)


def readable(n_bytes: float) -> str:
    """Bytes for a reader, such as 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
