"""Read a CRUSH map from a file, whichever of its three forms it has: JSON, text or compiled (each also gzipped)."""

import gzip
import zlib
from pathlib import Path

import msgspec

from core.errors import InputError
from twin.crush.crush_binary import MAGIC, crush_from_binary
from twin.crush.crush_json import crush_from_json
from twin.crush.crush_text import LOSSY, crush_from_text
from twin.crush.map import ONE, CrushMap
from twin.crush.sound import unsound

BYTES_MAX = 1 << 28
"""No map is larger, packed or not."""


def read_map(path: Path) -> tuple[CrushMap, tuple[str, ...]]:
    """Read a map, and what a person should know about it (one sentence each).

    JSON of `ceph osd crush dump` or `crushtool --dump`; text of `crushtool -d`; binary of `ceph osd getcrushmap`.
    Raises: `InputError` naming the file, and the field, line or byte, if it is missing, cut short or something else.
    """
    crush, warnings = _read(_content(path), path)
    if problems := unsound(crush):
        raise InputError([f"{path}: {problem}" for problem in problems])
    return crush, warnings


def _read(content: bytes, path: Path) -> tuple[CrushMap, tuple[str, ...]]:
    if content.startswith(MAGIC):
        return crush_from_binary(content, str(path))
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InputError(
            [f"{path}: neither text nor a compiled map; allowed: JSON, crushmap text, or a compiled map"]
        ) from None
    if text.lstrip().startswith(("{", "[")):
        try:
            crush = crush_from_json(msgspec.json.decode(text), str(path))
        except msgspec.DecodeError as error:
            raise InputError([f"{path}: no valid JSON ({error}); truncated?"]) from None
        return crush, _notes(crush, path)
    return crush_from_text(text, str(path)), (f"{path}: {LOSSY}",)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX)
        if content[:2] == b"\x1f\x8b":
            with gzip.open(path, "rb") as packed:
                content = packed.read(BYTES_MAX)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError([f"{path}: cannot be read ({error}); allowed: a CRUSH map"]) from None
    return content


def _notes(crush: CrushMap, path: Path) -> tuple[str, ...]:
    """What JSON does not say exactly."""
    notes = []
    if any(bucket.alg == "straw" for bucket in crush.buckets):
        notes.append(
            f"{path}: straw buckets: JSON has no straw lengths, so they follow from the weights; "
            "a map whose lengths are older than its tunables maps otherwise: give its binary"
        )
    sets = [weights for many in crush.choose_args.values() for one in many for weights in one.weight_sets]
    if any(max(weights, default=0) >= 256 * ONE for weights in sets):
        notes.append(
            f"{path}: choose_args: weights of 256 and more are rounded in JSON: give the binary for exact ones"
        )
    return tuple(notes)
