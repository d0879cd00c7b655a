"""Small files that must be whole after a crash."""

import os
from pathlib import Path

from drivers.log import event as log


def keep(path: Path, data: bytes) -> None:
    """Write a file as ``write_whole`` does; where the disk does not take it, say so and go on without."""
    try:
        write_whole(path, data)
    except OSError as error:
        log("not_written", path=str(path), error=str(error))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either the old or the new one, whatever happens meanwhile, readable by its owner only.

    Raises: OSError.
    """
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(path)


def read_count(path: Path) -> int:
    """Read a number written as text; 0 if there is none, or something else."""
    try:
        return int(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return 0
