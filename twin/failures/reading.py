"""Rows of recorded failures out of files: plain, ``.gz``, ``.xz``, or every table of a ``.zip``, one row at a time."""

import csv
import gzip
import io
import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

import msgspec

from core.errors import InputError

PROBLEMS_MAX = 20
"""So many broken lines are named; of the rest only the number."""
LINE_CHARS_MAX = 65_536
"""A longer line is none of a table. Source: ours; the widest format read here has about 200 columns."""


class BadCell(Exception):
    """One cell that does not hold what it should."""


class Problems:
    """What is wrong with a file, line by line: at most ``PROBLEMS_MAX`` are kept, all are counted."""

    def __init__(self, source: object) -> None:
        self._source = source
        self._found: list[str] = []
        self._count = 0

    def add(self, line: int, what: object, source: object = None) -> None:
        """Note a problem of one line, of another file than the first if ``source`` says so."""
        self._count += 1
        if len(self._found) < PROBLEMS_MAX:
            self._found.append(f"{source or self._source}: line {line}: {what}")

    def finish(self) -> None:
        """Raise InputError with what was found, or do nothing."""
        if self._found:
            rest = self._count - len(self._found)
            raise InputError([*self._found, *([f"{self._source}: {rest} more"] if rest else [])])


class Width:
    """How many columns of a table are wanted: the rest of a line need not be taken apart. 0: all of them."""

    def __init__(self) -> None:
        self.columns_max = 0


class Sheet(msgspec.Struct, frozen=True, eq=False):
    """One table: ``name`` for messages; ``rows`` gives (line number, cells), the heading as the first.

    ``width``: may be narrowed once the heading is known.
    """

    name: str
    rows: Iterator[tuple[int, list[str]]]
    width: Width


def sheets(path: Path, delimiter: str = ",", ending: str = ".csv") -> Iterator[Sheet]:
    """Open the tables of a file one after the other: a zip's members with that ending in order of name, else the file.

    Nothing is unpacked onto the disk, and only a block and a row are in memory. Read a table before the next.

    Raises: InputError, also while the rows are read, if the file is missing, torn, or no such table.
    """
    if path.suffix.lower() == ".zip":
        yield from _members(path, delimiter, ending)
    else:
        yield _opened(str(path), partial(_unpacked, path), delimiter)


def sheet(path: Path, delimiter: str = ",", ending: str = ".csv") -> Sheet:
    """Open the only table of a file. Raises: InputError as ``sheets``, or if a zip does not hold exactly one."""
    if path.suffix.lower() != ".zip":
        return next(sheets(path, delimiter, ending))
    found = next(sheets(path, delimiter, ending))
    names = _names(path, ending)
    if len(names) != 1:
        raise InputError([f"{path}: holds {len(names)} files {ending}; needed: one"])
    return found


def _names(path: Path, ending: str) -> list[str]:
    with _archive(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(ending)]
    return sorted(name for name in names if not name.startswith("__MACOSX/"))


def _members(path: Path, delimiter: str, ending: str) -> Iterator[Sheet]:
    names = _names(path, ending)
    if not names:
        raise InputError([f"{path}: holds no file {ending}"])
    for name in names:
        yield _opened(f"{path}/{name}", partial(_member, path, name), delimiter)


def _opened(where: str, opened: Callable[[], IO[bytes]], delimiter: str) -> Sheet:
    width = Width()
    return Sheet(where, _rows(where, opened, delimiter, width), width)


def _member(path: Path, name: str) -> IO[bytes]:
    with _archive(path) as archive:
        return archive.open(name)  # it stays open until it is closed itself


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except zipfile.BadZipFile as error:
        raise InputError([f"{path}: is not a whole .zip file: {error}"]) from error


def _unpacked(path: Path) -> IO[bytes]:
    if path.suffix == ".xz":
        return lzma.open(path)
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    return path.open("rb")


def _rows(where: str, opened: Callable[[], IO[bytes]], delimiter: str, width: Width) -> Iterator[tuple[int, list[str]]]:
    try:
        with io.TextIOWrapper(opened(), encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(_short_lines(text, delimiter, width), delimiter=delimiter, strict=True)
            for row in reader:
                yield reader.line_num, row
    except (gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise InputError([f"{where}: is not a whole compressed file: {error}"]) from error
    except OSError as error:
        raise InputError([f"{where}: cannot be read: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise InputError([f"{where}: is not text: byte {error.start} of a block is not UTF-8"]) from error
    except (RuntimeError, NotImplementedError) as error:
        raise InputError([f"{where}: cannot be unpacked: {error}"]) from error
    except csv.Error as error:
        raise InputError([f"{where}: is not a table: {error}"]) from error


def _short_lines(text: io.TextIOWrapper, delimiter: str, width: Width) -> Iterator[str]:
    for _ in iter(int, 1):
        line = text.readline(LINE_CHARS_MAX)
        if not line:
            return
        if len(line) == LINE_CHARS_MAX:
            raise csv.Error(f"a line has more than {LINE_CHARS_MAX} characters")
        if width.columns_max and '"' not in line:
            line = delimiter.join(line.split(delimiter, width.columns_max)[: width.columns_max])
        yield line


def columns_of(sheet_name: str, heading: list[str], wanted: tuple[str, ...]) -> dict[str, int]:
    """Find columns by name, whatever their order. Raises: InputError that names those missing."""
    names = [cell.strip().lstrip("#").strip().lower() for cell in heading]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError([f"{sheet_name}: line 1: no column {', '.join(missing)}; needed: {', '.join(wanted)}"])
    return {name: names.index(name) for name in wanted}


def number(cells: list[str], column: int, name: str) -> float:
    """Read a finite number from 0 on. Raises: BadCell."""
    text = cells[column].strip() if column < len(cells) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0) or not text.isascii():
        raise BadCell(f"{name}: {text[:40]!r} is not a number from 0 on")
    return value


def whole(cells: list[str], column: int, name: str, most: int = 999_999_999) -> int:
    """Read a whole number from 0 to ``most``. Raises: BadCell."""
    text = cells[column].strip() if column < len(cells) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) <= most):
        raise BadCell(f"{name}: {text[:40]!r} is not a whole number from 0 to {most}")
    return int(text)
