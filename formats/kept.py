"""What was made of a file, kept until the file changes: thousands of campaigns name the same few racks and catalogs."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

FILES_MAX = 16
"""Files whose contents one ``Kept`` keeps; the one read first makes room for a new one."""


class Kept(Generic[T]):
    """Reads a file with ``load``, or gives what came of it before if its path, time and size are the same.

    What ``load`` makes must be immutable. Its errors are raised each time and not kept.
    """

    def __init__(self, load: Callable[[Path], T]) -> None:
        self._load = load
        self._found: dict[str, tuple[tuple[int, int], T]] = {}

    def __call__(self, path: Path) -> T:
        """Return what ``load`` makes of the file as it is now."""
        try:
            stat = path.stat()
            key, state = str(path.absolute()), (stat.st_mtime_ns, stat.st_size)
        except (OSError, ValueError):
            return self._load(path)  # which says what is wrong
        kept = self._found.get(key)
        if kept is not None and kept[0] == state:
            return kept[1]
        made = self._load(path)
        self._found.pop(key, None)
        if len(self._found) >= FILES_MAX:
            del self._found[next(iter(self._found))]
        self._found[key] = (state, made)
        return made
