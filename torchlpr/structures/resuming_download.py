"""A download that goes on where it was broken off."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torchlpr.errors import InputError

__all__ = ["ResumingDownload"]

BLOCK = 2**16
PARTIAL_CONTENT, PAST_THE_END = 206, 416


class ResumingDownload:
    """A downloader for pooch that keeps what it has in a file of its own until it is whole.

    Args:
        part: the file that holds what has arrived.
        timeout: seconds to wait for the server.
        progress: show a progress bar.
    """

    def __init__(self, part: Path, timeout: float = 30.0, progress: bool = True) -> None:
        self.part, self.timeout, self.progress = part, timeout, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download into a file; pooch then compares its checksum.

        Args:
            url: http(s) or file.
            output_file: where the whole file goes.
            pooch: not used.

        Raises:
            InputError: if nothing answers at the address, or the connection breaks.
        """
        try:
            self._fetch(url)
        except OSError as error:  # URLError, timeouts and broken connections among them
            reason = getattr(error, "reason", None) or error
            raise InputError(
                f"cannot download {url}: {reason}; try again to go on, or download it by other "
                f"means to {self.part.with_name(self.part.name.removesuffix('.part'))}"
            ) from error
        shutil.move(self.part, output_file)

    def _fetch(self, url: str) -> None:
        """Append what is missing to the part that is there."""
        have = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            answer = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == PAST_THE_END and have:  # all of it was here already
                return
            raise
        with answer:
            resumes = answer.status == PARTIAL_CONTENT
            left = answer.headers.get("Content-Length")
            start = have if resumes else 0  # a server may ignore the range and send everything
            total = None if left is None else start + int(left)
            bar = tqdm(
                total=total, initial=start, unit="B", unit_scale=True, disable=not self.progress
            )
            with self.part.open("ab" if resumes else "wb") as file, bar:
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
        if total is not None and self.part.stat().st_size < total:
            raise ConnectionError(f"only {self.part.stat().st_size} of {total} bytes came")
