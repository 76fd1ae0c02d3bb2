"""Progress bars for work that may take long, one rule for all of them."""

from __future__ import annotations

import os

from tqdm import tqdm

__all__ = ["bar"]

DELAY = 2.0  # seconds of work before a bar appears


def bar(total: int, what: str, unit: str = "", show: bool | None = None) -> tqdm:
    """A bar to update, on stderr.

    Args:
        total: number of steps.
        what: the work, in a word or two.
        unit: a step.
        show: True for always, False for never; None shows it on a terminal only, only where the
            work takes more than two seconds, and of torchrun's processes in the first alone.

    Returns:
        The bar, a context manager.
    """
    disable = None if show is None else not show
    if show is None and os.environ.get("RANK", "0") != "0":
        disable = True
    return tqdm(total=total, desc=what, unit=unit, disable=disable, delay=0 if show else DELAY)
