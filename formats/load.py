"""Reading TOML files into frozen records, with every problem of a file reported together.

``msgspec.convert`` stops at the first problem, so a walker over the type's metadata finds all of them first; only a
table without problems is converted.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import inspect as mi

from core.errors import InputError
from formats.problems import Problems
from formats.shape import walk

T = TypeVar("T")

FILE_BYTES_MAX = 4 << 20
"""A larger file is refused: nobody writes one by hand, and the parser needs quadratic time on some of them."""

MS_MAX = 100 * 366 * 86_400_000
"""A hundred years; no time in a file is longer."""

Ms = Annotated[int, msgspec.Meta(ge=0, le=MS_MAX, description="milliseconds")]
PositiveMs = Annotated[int, msgspec.Meta(ge=1, le=MS_MAX, description="milliseconds")]
Name = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z",
        description="a name of letters, digits, '_', '.', '-' (63 at most), starting with a letter or digit",
    ),
]


def read_toml(path: Path, what: str) -> dict[str, object]:
    """Read one TOML file; ``what`` names its purpose for the reader of an error, with its article.

    Raises: InputError if it is missing, no file, too large, not UTF-8 or not TOML (with line and column).
    """
    file = str(path)
    try:
        if path.is_dir():
            raise InputError([f"{file}: is a directory; needed: {what}"])
        if path.exists() and not path.is_file():
            raise InputError([f"{file}: is not a file; needed: {what}"])
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError([f"{file}: is larger than {FILE_BYTES_MAX} bytes; needed: {what}"])
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError([f"{file}: cannot be read ({reason.lower()}); needed: {what}"]) from None
    return parse_toml(data, file)


def parse_toml(data: bytes, file: str) -> dict[str, object]:
    """Parse the bytes of a TOML file called ``file``.

    Raises: InputError if they are not UTF-8 or not TOML.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError([f"{file}: line {line}: byte {data[error.start]:#04x} is not UTF-8; allowed: UTF-8"]) from None
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except RecursionError:
        raise InputError([f"{file}: is nested too deeply; allowed: a few levels"]) from None
    except ValueError as error:
        raise InputError([f"{file}: is not TOML: {error}"]) from None


def build(value: object, kind: type[T], problems: Problems, key: str = "") -> T | None:
    """Convert a parsed value to ``kind``; note every problem and return None if there is any.

    ``key`` is the path of the value in its file ("" for the whole file).
    """
    before = len(problems.found)
    walk(value, _type_info(kind), problems, key)
    if len(problems.found) > before:
        return None
    try:
        return msgspec.convert(value, kind, strict=True, dec_hook=_path)
    except (msgspec.ValidationError, RecursionError) as error:
        problems.add(key or "the file", value, str(error) or "nested too deeply")
        return None


def _path(kind: type, value: object) -> object:
    """Make the one type that TOML has no form for: a path, written as a string. Anything else stays as it is."""
    return Path(value) if kind is Path and isinstance(value, str) else value


@cache
def keys_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Name the keys that a table of this kind may have, in declared order."""
    return tuple(field.encode_name for field in msgspec.structs.fields(kind))


_type_infos: dict[object, mi.Type] = {}


def _type_info(kind: object) -> mi.Type:
    """What ``msgspec`` knows of a type; worked out once."""
    if kind not in _type_infos:
        _type_infos[kind] = mi.type_info(kind)
    return _type_infos[kind]
