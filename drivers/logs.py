"""Logs of services: files that they append to themselves, cut by the supervisor when they have grown."""

import os
from contextlib import suppress
from pathlib import Path

BYTES_MAX = 16 << 20
"""A log that has grown beyond this is put aside as ``NAME.1`` and begun anew; one generation is kept."""
LOOK_MS = 30_000
CHUNK_BYTES = 1 << 20


def rotate(folder: Path, bytes_max: int = BYTES_MAX) -> int:
    """Put aside every log of the folder that is too long; return how many. Whatever is written meanwhile may be lost.

    It is copied and cut, not renamed: its writer has it open for appending, and would go on with the renamed one.
    """
    done = 0
    for path in sorted(folder.glob("*.log")):
        with suppress(OSError):  # a full or failing disk: the next look tries again
            if path.stat().st_size > bytes_max:
                _put_aside(path)
                done += 1
    return done


def _put_aside(path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    with path.open("r+b", buffering=0) as log, part.open("wb", buffering=0) as old:
        size, at = os.fstat(log.fileno()).st_size, 0
        while at < size:
            sent = os.sendfile(old.fileno(), log.fileno(), at, min(CHUNK_BYTES, size - at))
            if not sent:
                break
            at += sent
        log.truncate(0)
    part.replace(path.with_name(f"{path.name}.1"))
