"""What was made of a file is kept until the file changes."""

import os
from pathlib import Path

import pytest

from core.errors import InputError
from formats.kept import FILES_MAX, Kept


class Reader:
    """Reads texts, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def read(self, path: Path) -> str:
        self.times += 1
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            raise InputError([f"{path}: cannot be read"]) from None


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    reader, file = Reader(), tmp_path / "file"
    kept = Kept(reader.read)
    file.write_text("one", encoding="utf-8")
    assert [kept(file), kept(file)] == ["one", "one"]
    assert reader.times == 1
    file.write_text("two!", encoding="utf-8")
    assert kept(file) == "two!"
    file.write_text("2222", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert kept(file) == "2222"
    assert reader.times == 3


def test_an_error_is_raised_each_time_and_ends_when_the_file_is_there(tmp_path: Path) -> None:
    reader, file = Reader(), tmp_path / "file"
    kept = Kept(reader.read)
    for _ in range(2):
        with pytest.raises(InputError):
            kept(file)
    file.write_text("there", encoding="utf-8")
    assert kept(file) == "there"


def test_only_so_many_files_are_kept(tmp_path: Path) -> None:
    reader = Reader()
    kept = Kept(reader.read)
    for number in range(FILES_MAX + 1):
        (tmp_path / str(number)).write_text(str(number), encoding="utf-8")
        kept(tmp_path / str(number))
    kept(tmp_path / str(FILES_MAX))
    assert reader.times == FILES_MAX + 1
    kept(tmp_path / "0")
    assert reader.times == FILES_MAX + 2
