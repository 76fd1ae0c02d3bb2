"""Files that are whole or absent: write under a temporary name, then rename."""

from __future__ import annotations

import contextlib
import csv
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torchlpr.errors import InputError

__all__ = ["atomic_path", "make_folder", "write_table"]


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to ``path`` if the block succeeds.

    Args:
        path: final file; missing folders above it are made.

    Yields:
        A name with the same ending (writers choose formats by it); removed on error.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{uuid.uuid4().hex}.{target.name}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: str | Path) -> Path:
    """Make a folder and its parents.

    Args:
        path: the folder; may exist.

    Returns:
        The folder's path.

    Raises:
        InputError: if a file is in the way or it may not be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {folder}: {error.strerror}; choose another"
        ) from error
    return folder


def write_table(path: str | Path, columns: Mapping[str, Sequence[float] | Sequence[str]]) -> None:
    """Write columns of numbers and words as CSV.

    Args:
        path: the file; written whole or not at all.
        columns: equally long columns by name.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
