"""The folder of a run: whose it is, and what a killed one left in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from torchlpr.errors import InputError
from torchlpr.files import atomic_path, make_folder

__all__ = ["CONFIG", "claimed"]

CONFIG = "config.yaml"
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.")  # the names of torchlpr.files.atomic_path


@contextmanager
def claimed(folder: Path, settings: dict[str, Any]) -> Iterator[Path]:
    """Make the folder the run's own, or recognise the same run that was interrupted.

    A mistake in the input that shows before anything was trained gives the folder back.

    Args:
        folder: of the run; made where there is none.
        settings: of the run, as they are written into it.

    Yields:
        The folder.

    Raises:
        InputError: if the folder is not empty, or holds a run with other settings.
    """
    existed, path = folder.exists(), folder / CONFIG
    make_folder(folder)
    _sweep(folder)
    mine = not path.exists()
    if mine and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run; choose another --out")
    if not mine and _read_settings(path) != settings:
        raise InputError(
            f"{folder} holds a run with other settings (its {CONFIG}); choose another --out"
        )
    try:
        if mine:
            with atomic_path(path) as temporary:
                temporary.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        yield folder
    except InputError:
        if mine and [p for p in folder.rglob("*") if p.is_file()] == [path]:
            shutil.rmtree(folder)
            if existed:
                folder.mkdir()
        raise


def _read_settings(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return None


def _sweep(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote."""
    for path in [*folder.glob(".*"), *(folder / "training").rglob(".*")]:
        if TEMPORARY.match(path.name):
            path.unlink()
