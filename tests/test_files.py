import pytest

from torchlpr.errors import InputError
from torchlpr.files import atomic_path, make_folder


def test_the_temporary_name_keeps_the_folder_and_the_ending(tmp_path):
    with atomic_path(str(tmp_path / "x.json.gz")) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".json.gz")
        temporary.write_text("1")
        assert not (tmp_path / "x.json.gz").exists()
    assert (tmp_path / "x.json.gz").read_text() == "1"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        make_folder(tmp_path / "file" / "folder")
