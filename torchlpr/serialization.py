"""Versioned documents on disk: plain tensors and settings, read without running any code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from torchlpr.errors import InputError
from torchlpr.files import atomic_path

__all__ = ["FORMAT_VERSION", "read_document", "write_document"]

FORMAT_VERSION = 1


def write_document(path: str | Path, kind: str, content: dict[str, Any]) -> None:
    """Write a document, whole or not at all.

    Args:
        path: the file.
        kind: what it is, for example "rigidity" or "run".
        content: plain tensors, numbers, strings, lists and dictionaries.
    """
    document = {"format": "torchlpr", "version": FORMAT_VERSION, "kind": kind, "content": content}
    with atomic_path(path) as temporary:
        torch.save(document, temporary)


def read_document(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a document of one kind.

    Args:
        path: the file.
        kind: what it must be.

    Returns:
        Its content, tensors on the CPU.

    Raises:
        InputError: if the file is absent, truncated, not a torchlpr document, of another kind,
            or of a newer version.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"{source} is no file; give the {kind} file that torchlpr wrote")
    try:
        zipfile.ZipFile(source).close()  # what torch.save writes; other pickles make it warn
        document = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage fails in its own way
        raise InputError(
            f"{source} is truncated or no torchlpr {kind} file; write it again"
        ) from error
    if not isinstance(document, dict) or document.get("format") != "torchlpr":
        raise InputError(f"{source} is not a torchlpr {kind} file; give one that torchlpr wrote")
    version = document.get("version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{source} has format version {version}, newer than the {FORMAT_VERSION} this "
            "torchlpr reads; update torchlpr"
        )
    if document.get("kind") != kind:
        raise InputError(f"{source} is a torchlpr {document.get('kind')} file, not a {kind} file")
    content = document.get("content")
    if not isinstance(content, dict):
        raise InputError(f"{source} is a torchlpr {kind} file without content; write it again")
    return content
