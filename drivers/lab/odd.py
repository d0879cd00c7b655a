"""What is odd about a machine of the lab at its next boots: files in its folder, read by its firmware.

``uuid`` and ``mac``: another board, another network card. ``late_ms``: its boot loader hangs so long. ``image``: it
runs another image than it was given. What is odd at some boots only is counted down by ``take``.
"""

from pathlib import Path
from typing import Literal

Oddity = Literal["uuid", "mac", "late_ms", "image"]


class Odd:
    """The oddities of one machine."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "odd"

    def set(self, what: Oddity, text: str, count: int = 0) -> None:
        """From now on; ``count``: only so many boots (0: all)."""
        self._folder.mkdir(exist_ok=True)
        self._file(what).write_text(f"{text} {count}\n", encoding="utf-8")

    def clear(self, what: Oddity) -> None:
        """No more."""
        self._file(what).unlink(missing_ok=True)

    def text(self, what: Oddity) -> str:
        """What it is; "" if there is nothing odd about it."""
        try:
            return self._file(what).read_text(encoding="utf-8").split()[0]
        except (OSError, IndexError):
            return ""

    def take(self, what: Oddity) -> str:
        """What it is at this boot, which counts."""
        text = self.text(what)
        if text:
            count = int(self._file(what).read_text(encoding="utf-8").split()[1])
            if count == 1:
                self.clear(what)
            elif count:
                self.set(what, text, count - 1)
        return text

    def _file(self, what: Oddity) -> Path:
        return self._folder / what
