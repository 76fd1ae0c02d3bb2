"""The loader of the published data, on a stand-in for the server."""

from __future__ import annotations

import hashlib
import http.server
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from torchlpr.errors import InputError, MissingExtraError
from torchlpr.structures import archive
from torchlpr.structures.archive import (
    ARCHIVE,
    archive_members,
    archive_structures,
    fetch_archive,
    read_member,
)

pytest.importorskip("pooch", reason="the extra data is not installed")

MEMBER = "datasets/Si_amo_defect_free.xyz"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("published") / ARCHIVE
    text = io.StringIO()
    ase.io.write(text, [bulk("Si"), bulk("Si", cubic=True)], format="extxyz")
    content = text.getvalue().encode()
    with tarfile.open(path, "w:gz") as tar:
        for name, data in ((MEMBER, content), ("notes.txt", b"x" * 300_000)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo("noise.bin")
        noise = hashlib.shake_128(b"noise").digest(200_000)  # does not compress
        entry.size = len(noise)
        tar.addfile(entry, io.BytesIO(noise))
    return path, "md5:" + hashlib.md5(path.read_bytes()).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    content = b""
    cut: int | None = None
    ranges = True
    asked: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.server.ranges else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.server.content) - start))
        self.end_headers()
        self.wfile.write(self.server.content[start : self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(published) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as one:
        one.content, one.asked = published[0].read_bytes(), []
        thread = threading.Thread(target=one.serve_forever, args=(0.01,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/{ARCHIVE}"


def test_a_file_is_fetched_once(server, published, tmp_path) -> None:
    for _ in range(2):
        path = fetch_archive(address(server), published[1], tmp_path)
        assert path.read_bytes() == published[0].read_bytes()
    assert server.asked == [None]
    assert [p.name for p in tmp_path.iterdir()] == [ARCHIVE]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server, published, tmp_path, ranges) -> None:
    server.cut, server.ranges = 100_000, ranges
    with pytest.raises(InputError, match=r"cannot download http.*try again to go on"):
        fetch_archive(address(server), published[1], tmp_path)
    assert (tmp_path / f"{ARCHIVE}.part").stat().st_size == 100_000
    server.cut = None
    path = fetch_archive(address(server), published[1], tmp_path)
    assert path.read_bytes() == published[0].read_bytes()
    assert server.asked == [None, "bytes=100000-"]


def test_a_whole_part_is_not_fetched_again(server, published, tmp_path) -> None:
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.content)
    assert fetch_archive(address(server), published[1], tmp_path).exists()


def test_a_wrong_file_is_refused(server, tmp_path) -> None:
    with pytest.raises(InputError, match="is not the published file: its checksum is not md5:0000"):
        fetch_archive(address(server), "md5:" + 32 * "0", tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_network(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHLPR_DATA_DIR", str(tmp_path))
    closed = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    port = closed.server_port
    closed.server_close()
    place = str(tmp_path / ARCHIVE)
    with pytest.raises(InputError, match=f"cannot download .*by other means to {place}"):
        fetch_archive(f"http://127.0.0.1:{port}/{ARCHIVE}")
    assert not list(tmp_path.iterdir())


def test_a_file_put_there_by_hand_needs_no_network(published, tmp_path) -> None:
    (tmp_path / ARCHIVE).write_bytes(published[0].read_bytes())
    path = fetch_archive("http://127.0.0.1:9/none", published[1], tmp_path)
    assert path == tmp_path / ARCHIVE


def test_files_on_disk_are_urls_too(published, tmp_path) -> None:
    path = fetch_archive(published[0].as_uri(), published[1], tmp_path)
    frames = read_member(path, MEMBER)
    assert [len(frame) for frame in frames] == [2, 8]
    assert archive_members(path) == [MEMBER]
    assert len(archive_structures(path, {"Si", "C"})) == 2
    with pytest.raises(InputError, match=f"no structures of As, Ga in its files {MEMBER}"):
        archive_structures(path, {"Ga", "As"})
    with pytest.raises(InputError, match=rf"holds no 'C.xyz'; its structure files are {MEMBER}"):
        read_member(path, "C.xyz")


def test_without_pooch(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"torchlpr\[data\]"):
        fetch_archive(folder=tmp_path)


def test_the_record() -> None:
    assert archive.URL.startswith("https://archive.materialscloud.org/records/1wsvs-sb736/")
    assert len(archive.CHECKSUM.removeprefix("md5:")) == 32
