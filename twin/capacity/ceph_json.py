"""Files of Ceph JSON in a folder: finding each by its name or by what it holds, and decoding it with named problems.

Releases differ in what they print, and people in how they name files; both are met here, so that readers see one shape.
"""

import re
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from core.errors import InputError

Kind = Literal["osd_dump", "osd_crush_dump", "osd_df_tree", "df_detail", "pg_dump", "osd_metadata"]
Row = TypeVar("Row")

COMMANDS: dict[Kind, str] = {
    "osd_dump": "ceph osd dump --format json",
    "osd_crush_dump": "ceph osd crush dump --format json",
    "osd_df_tree": "ceph osd df tree --format json",
    "df_detail": "ceph df detail --format json",
    "pg_dump": "ceph pg dump --format json",
    "osd_metadata": "ceph osd metadata --format json",
}
"""What makes each kind of file, on any machine with the cluster's admin key."""

NEEDED: tuple[Kind, ...] = ("osd_dump", "osd_crush_dump", "osd_df_tree", "df_detail", "pg_dump")
FILES_MAX = 1_000
FILE_BYTES_MAX = 2 << 30
DEPTH_SHOWN = 200

_NAMES: dict[Kind, tuple[str, ...]] = {
    "osd_dump": ("osddump",),
    "osd_crush_dump": ("osdcrushdump", "crushdump", "crush"),
    "osd_df_tree": ("osddftree", "osddf"),
    "df_detail": ("dfdetail", "df"),
    "pg_dump": ("pgdump", "pgdumpall"),
    "osd_metadata": ("osdmetadata",),
}
_MARKS: dict[Kind, tuple[frozenset[str], ...]] = {
    "osd_dump": (frozenset({"osds", "pools", "max_osd"}),),
    "osd_crush_dump": (frozenset({"devices", "buckets", "rules"}),),
    "osd_df_tree": (frozenset({"nodes", "stray", "summary"}),),
    "df_detail": (frozenset({"stats", "pools"}),),
    "pg_dump": (frozenset({"pg_map"}), frozenset({"pg_stats", "osd_stats"})),
    "osd_metadata": (),
}
_NO_NUMBER = re.compile(rb"([:\[,]\s*)-?(?:nan|inf(?:inity)?)(?=\s*[,}\]])", re.IGNORECASE)


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it was read: ``path``, its kind, and its bytes without what is no JSON."""

    path: Path
    kind: Kind
    data: bytes

    @property
    def name(self) -> str:
        """The file's path, for messages."""
        return str(self.path)

    def fail(self, problem: str) -> InputError:
        """Make the error that names this file, what is wrong, and the command that makes the file."""
        return InputError([f"{self.path}: {problem}; needed: the output of `{COMMANDS[self.kind]}`"])

    def decode(self, decoder: msgspec.json.Decoder[Row], data: bytes | msgspec.Raw, key: str = "") -> Row:
        """Decode the file or a part of it that stands at ``key``. Raises: InputError with file and field."""
        try:
            return decoder.decode(data)
        except msgspec.ValidationError as error:
            raise self.fail(_worded(str(error), key)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            where = f"{key}: " if key else ""
            raise self.fail(f"{where}is cut off or no JSON ({error})") from None
        except RecursionError:
            raise self.fail(f"{key or 'the file'}: is nested too deeply") from None

    def rows(self, decoder: msgspec.json.Decoder[Row], rows: list[msgspec.Raw], key: str) -> list[Row]:
        """Decode the rows of the list at ``key`` one by one. Raises: InputError with file, row and field."""
        return [self.decode(decoder, row, f"{key}[{index}]") for index, row in enumerate(rows)]

    def plain(self) -> dict[str, object]:
        """Decode the whole file as plain values. Raises: InputError if it is no JSON object."""
        return self.decode(_PLAIN, self.data)


_PLAIN = msgspec.json.Decoder(dict[str, object])
_ANY = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def find_documents(folder: Path) -> dict[Kind, Document]:
    """Find the files of a folder by kind: by name (any spelling of `osd_df_tree.json`), the rest by what they hold.

    Raises: InputError if the folder or one of its files cannot be read, or a needed kind is missing (all of these
    together, each with the command that makes it).
    """
    paths = _json_files(folder)
    found: dict[Kind, Document] = {}
    for kind, names in _NAMES.items():
        for name in names:
            path = next((path for path in paths if _plain_name(path) == name), None)
            if path is not None and kind not in found:
                found[kind] = Document(path=path, kind=kind, data=_read(path, kind))
    if missing := [kind for kind in _NAMES if kind not in found]:
        _by_content([path for path in paths if all(path != one.path for one in found.values())], missing, found)
    if absent := [kind for kind in NEEDED if kind not in found]:
        raise InputError(
            [
                f"{folder / f'{kind}.json'}: is missing, and no other JSON file there holds the same; needed: the "
                f"output of `{COMMANDS[kind]}`"
                for kind in absent
            ]
        )
    return found


def _json_files(folder: Path) -> list[Path]:
    try:
        if not folder.is_dir():
            raise InputError([f"{folder}: is no folder; needed: one with the JSON that a Ceph cluster printed"])
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.is_file())
    except OSError as error:
        raise InputError([f"{folder}: cannot be read ({error.strerror}); needed: a folder of Ceph JSON"]) from None
    if len(paths) > FILES_MAX:
        raise InputError([f"{folder}: holds {len(paths)} JSON files; allowed: {FILES_MAX}"])
    return paths


def _plain_name(path: Path) -> str:
    """A file's name without what people put around it: `ceph-osd-df_tree.JSON` is `osddftree`."""
    name = re.sub(r"[^a-z]", "", path.stem.lower())
    return name.removeprefix("ceph").removesuffix("json")


def _read(path: Path, kind: Kind) -> bytes:
    """A file's bytes, with the not-a-numbers that older releases print made into null."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError([f"{path}: is larger than {FILE_BYTES_MAX >> 30} GiB"])
        data = path.read_bytes()
    except OSError as error:
        problem = f"{path}: cannot be read ({error.strerror}); needed: the output of `{COMMANDS[kind]}`"
        raise InputError([problem]) from None
    if not data.strip():
        raise InputError([f"{path}: is empty; needed: the output of `{COMMANDS[kind]}`"])
    return _NO_NUMBER.sub(rb"\1null", data.removeprefix(b"\xef\xbb\xbf"))


def _by_content(paths: list[Path], missing: list[Kind], found: dict[Kind, Document]) -> None:
    """Give files with foreign names to the kinds that are still missing."""
    for path in paths:
        data = _read_or_nothing(path)
        kind = _kind_of(data) if data else None
        if kind is not None and kind in missing and kind not in found:
            found[kind] = Document(path=path, kind=kind, data=data)


def _read_or_nothing(path: Path) -> bytes:
    try:
        return _read(path, "osd_dump")
    except InputError:
        return b""


def _kind_of(data: bytes) -> Kind | None:
    try:
        if data.lstrip()[:1] == b"[":
            rows = _LIST.decode(data)
            if rows and all("id" in row and "osd_objectstore" in row for row in rows):
                return "osd_metadata"
            return "pg_dump" if rows and all("pgid" in row and "stat_sum" in row for row in rows) else None
        keys = frozenset(_ANY.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return next((kind for kind, marks in _MARKS.items() if any(mark <= keys for mark in marks)), None)


def _worded(message: str, key: str) -> str:
    """Say a decoder's message with the field first: ``pools[2].size: expected `int`, got `str```."""
    text, _, path = message.partition(" - at `$")
    path = path.removesuffix("`")
    missing = re.fullmatch(r"Object missing required field `(.+)`", text)
    if missing:
        return f"{_joined(key, f'{path}.{missing[1]}')}: is missing"
    return f"{_joined(key, path) or 'the file'}: {text[:1].lower()}{text[1:DEPTH_SHOWN]}"


def _joined(key: str, path: str) -> str:
    return f"{key}{path}" if key else path.removeprefix(".")
