"""Where an agent's journal goes: ``state_dir`` while its disk takes it, else ``run_dir``, for a hand-over only."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from core.effects import AnyEffect
from core.events import AnyEvent
from core.journal import Opening
from drivers import log
from drivers.config import NodeTables
from drivers.journal_file import JournalBroken, JournalFile

FOLDER = "journal"
"""Its name in ``state_dir``, and in ``run_dir``."""
REASON = "stepped-down"
"""In ``run_dir``: one sentence, why the last agent must not go on."""


class Journal(Protocol):
    """A journal that can be closed."""

    def event(self, at_ms: int, event: AnyEvent) -> None: ...

    def effect(self, at_ms: int, effect: AnyEffect) -> None: ...

    def step(self, at_ms: int, snapshot: Callable[[], bytes]) -> None: ...

    @property
    def size(self) -> int: ...

    def close(self) -> None: ...


def open_journal(tables: NodeTables, opening: Opening, incarnation: int, at_ms: int, spill: bool) -> Journal:
    """Open the journal of an agent; with ``spill`` it goes to ``run_dir`` when ``state_dir`` cannot take it.

    Raises: JournalBroken.
    """
    size = tables.journal_mib << 20

    def open_in(folder: Path, now: int) -> JournalFile:
        return JournalFile(folder / FOLDER, opening, incarnation, now, size)

    if not spill:
        return open_in(tables.state_dir, at_ms)
    try:
        first = open_in(tables.state_dir, at_ms)
    except JournalBroken as broken:
        log.event("journal_spills", why=str(broken))
        return open_in(tables.run_dir, at_ms)
    return _Spilling(first, lambda now: open_in(tables.run_dir, now))


class _Spilling:
    """A journal that goes on elsewhere when its disk takes no more."""

    def __init__(self, first: JournalFile, elsewhere: Callable[[int], JournalFile]) -> None:
        self._now = first
        self._elsewhere: Callable[[int], JournalFile] | None = elsewhere

    def event(self, at_ms: int, event: AnyEvent) -> None:
        self._now.event(at_ms, event)

    def effect(self, at_ms: int, effect: AnyEffect) -> None:
        self._now.effect(at_ms, effect)

    def step(self, at_ms: int, snapshot: Callable[[], bytes]) -> None:
        """Write the step; the other journal begins with the state behind the step that could not be written."""
        try:
            self._now.step(at_ms, snapshot)
        except JournalBroken as broken:
            if self._elsewhere is None:
                raise
            log.event("journal_spills", why=str(broken))
            self._now.close()
            self._now, self._elsewhere = self._elsewhere(at_ms), None
            self._now.go_on(at_ms, snapshot())

    @property
    def size(self) -> int:
        return self._now.size

    def close(self) -> None:
        self._now.close()


def give_reason(run_dir: Path, why: str) -> None:
    """Leave word of why an agent must not go on, for its substitute and for people."""
    with suppress(OSError):  # it is in the log and in the view
        (run_dir / REASON).write_text(why + "\n", encoding="utf-8")


def reason_in(run_dir: Path) -> str:
    """Why the last agent must not go on; "" if it may."""
    try:
        return (run_dir / REASON).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def clear_reason(run_dir: Path) -> None:
    """Forget why an earlier agent must not go on: this one can."""
    with suppress(OSError):
        (run_dir / REASON).unlink(missing_ok=True)
