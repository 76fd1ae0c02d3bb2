"""The structures of the rigidity paper, from the Materials Cloud Archive.

Record 2023.102, doi:10.24435/materialscloud:re-0d, CC-BY-4.0, of Chong et al., J. Chem. Theory
Comput. 19, 8020 (2023).
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import ase
import ase.io

from torchlpr.errors import InputError
from torchlpr.extras import require
from torchlpr.files import make_folder
from torchlpr.structures.resuming_download import ResumingDownload

__all__ = [
    "ARCHIVE",
    "URL",
    "archive_members",
    "archive_structures",
    "fetch_archive",
    "read_member",
]

ARCHIVE = "LPR_supp_notebook_dataset.tar.gz"
URL = f"https://archive.materialscloud.org/records/1wsvs-sb736/files/{ARCHIVE}"
CHECKSUM = "md5:68664f36b80f27317378e76fa62a6406"
FOLDER = "TORCHLPR_DATA_DIR"


def fetch_archive(
    url: str = URL, checksum: str = CHECKSUM, folder: str | Path | None = None
) -> Path:
    """Download the archive of 13 MB once; a broken download goes on where it stopped.

    Args:
        url: where it is.
        checksum: algorithm and hexadecimal digest, as pooch has them.
        folder: where to keep it; by default that of the environment variable
            ``TORCHLPR_DATA_DIR``, or else the user's cache.

    Returns:
        The file. One that is there already with this checksum is not downloaded.

    Raises:
        InputError: if it cannot be downloaded, or is not the file that was published.
        MissingExtraError: if pooch is not installed.
    """
    pooch = require("pooch", "data")
    target = Path(folder or os.environ.get(FOLDER) or pooch.os_cache("torchlpr"))
    make_folder(target)
    downloader = ResumingDownload(target / f"{ARCHIVE}.part")
    pooch.get_logger().setLevel("WARNING")
    try:
        path = pooch.retrieve(url, checksum, fname=ARCHIVE, path=target, downloader=downloader)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{url} is not the published file: its checksum is not {checksum}; try again later"
        ) from error
    return Path(path)


def archive_members(archive: str | Path) -> list[str]:
    """Names of the structure files in the archive.

    Args:
        archive: what :func:`fetch_archive` returned.

    Returns:
        The names that end in .xyz, in their order.
    """
    with tarfile.open(archive) as tar:
        return [entry.name for entry in tar if entry.isfile() and entry.name.endswith(".xyz")]


def archive_structures(archive: str | Path, symbols: set[str]) -> list[ase.Atoms]:
    """All structures of some elements, whatever file they are in.

    Args:
        archive: what :func:`fetch_archive` returned.
        symbols: of the elements that a structure may hold.

    Returns:
        The structures.

    Raises:
        InputError: if there are none; the sentence lists the files.
    """
    names = archive_members(archive)
    frames = (frame for name in names for frame in read_member(archive, name))
    chosen = [frame for frame in frames if set(frame.get_chemical_symbols()) <= symbols]
    if not chosen:
        raise InputError(
            f"{archive} holds no structures of {', '.join(sorted(symbols))} in its files "
            f"{', '.join(names) or '(none)'}"
        )
    return chosen


def read_member(archive: str | Path, member: str) -> list[ase.Atoms]:
    """Read the structures of one file in the archive.

    Args:
        archive: what :func:`fetch_archive` returned.
        member: name of the file.

    Returns:
        The structures.

    Raises:
        InputError: if there is no such file; the sentence lists those that there are.
    """
    with tarfile.open(archive) as tar:
        try:
            file = tar.extractfile(member)
        except KeyError:
            file = None
        if file is None:
            names = ", ".join(archive_members(archive)) or "none"
            raise InputError(f"{archive} holds no {member!r}; its structure files are {names}")
        text = io.StringIO(file.read().decode("utf-8"))
    return list(ase.io.iread(text, index=":", format="extxyz"))
