"""Documents on disk: whole, versioned, and read without running anything."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from torchlpr import InputError
from torchlpr.serialization import FORMAT_VERSION, read_document, write_document

CONTENT = {"tensor": torch.arange(3.0).double(), "list": [1, 2.5, "three", None], "d": {"x": (1,)}}


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 300
    return text


@pytest.fixture
def document(tmp_path: Path) -> Path:
    write_document(tmp_path / "a.pt", "run", CONTENT)
    return tmp_path / "a.pt"


def test_what_is_written_is_read(document: Path) -> None:
    again = read_document(document, "run")
    assert torch.equal(again.pop("tensor"), CONTENT["tensor"])
    assert again == {"list": [1, 2.5, "three", None], "d": {"x": (1,)}}


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.6, 0.9, 0.99, 0.999])
def test_a_truncated_file(document: Path, part: float) -> None:
    whole = document.read_bytes()
    document.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match=r"a\.pt is truncated or no torchlpr run file") as caught:
        read_document(document, "run")
    one_sentence(caught.value)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


OTHERS = {
    "text": lambda path: path.write_text("energy = 1\n"),
    "words": lambda path: path.write_text("not a checkpoint at all"),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"format": "torchlpr"})),
    "zip": write_zip,
    "tensor": lambda path: torch.save(torch.ones(3), path),
    "state dict": lambda path: torch.save(torch.nn.Linear(2, 1).state_dict(), path),
    "module": lambda path: torch.save(torch.nn.Linear(2, 1), path),
    "other format": lambda path: torch.save({"format": "metatrain", "version": 1}, path),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    OTHERS[kind](path)
    with pytest.raises(
        InputError, match=r"other\.pt is (not a|truncated or no) torchlpr"
    ) as caught:
        read_document(path, "run")
    one_sentence(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch evil",)


def test_no_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = {"format": "torchlpr", "version": FORMAT_VERSION, "kind": "run", "content": Evil()}
    torch.save(document, "document.pt")
    Path("plain.pt").write_bytes(pickle.dumps(document))
    for name in ("document.pt", "plain.pt"):
        with pytest.raises(InputError, match="truncated or no torchlpr run file"):
            read_document(name, "run")
    assert not Path("evil").exists()
    pickle.loads(Path("plain.pt").read_bytes())
    assert Path("evil").exists()  # it would have been


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, None, "1"])
def test_other_versions(document: Path, version: object) -> None:
    whole = torch.load(document, weights_only=True)
    torch.save(whole | {"version": version}, document)
    with pytest.raises(InputError, match=f"format version {version}, newer .* update") as caught:
        read_document(document, "run")
    one_sentence(caught.value)


def test_other_kinds_and_no_file(document: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a torchlpr run file, not a rigidity file"):
        read_document(document, "rigidity")
    for path in (tmp_path / "nowhere.pt", tmp_path):
        with pytest.raises(InputError, match="is no file; give the run file"):
            read_document(path, "run")


def test_a_failure_leaves_the_old_file(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = document.read_bytes()

    def fail(content: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        write_document(document, "run", {"new": 1})
    assert [*document.parent.iterdir()] == [document]
    assert document.read_bytes() == before
