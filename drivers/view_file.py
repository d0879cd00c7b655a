"""A machine's view as a file, ``run_dir/view.json``: for ``rack status`` on the node, also when no agent runs."""

import os
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from core import effects as fx
from core.view import NodeView
from drivers import log
from drivers.clock import now_ms, wall_text

EVERY_MS = 1_000
"""A view that merely went on is written this often; one with a new note soon."""
NOTED_MS = 100
NOTES_KEPT = 20


class ViewFile:
    """Writes the latest view: all of ``core.view.NodeView``, and ``agent`` with what belongs to the process.

    ``about``: fields of ``agent`` that stay (pid, version, incarnation). For one thread.
    """

    def __init__(self, run_dir: Path, about: dict[str, Any]) -> None:
        self._path = run_dir / "view.json"
        self._about = about
        self._problems: dict[str, str] = {}
        self._notes: deque[dict[str, Any]] = deque(maxlen=NOTES_KEPT)
        self._view: NodeView | None = None
        self._written_ms = -EVERY_MS
        self._noted = False
        self._fresh = False
        self._silenced = False

    def note(self, note: fx.Note) -> None:
        """Keep a note; the next view is written soon."""
        kept = {key: value for key, value in msgspec.to_builtins(note).items() if value and key != "effect"}
        self._notes.append({"at": wall_text(), **kept})
        self._noted = True

    def problem(self, what: str, text: str) -> None:
        """Say from now on, beside what is pending, that something of the agent itself is wrong; "": not any more."""
        if self._problems.get(what, "") == text:
            return
        if not text:
            del self._problems[what]  # the next view is without it
            return
        self._problems[what] = text
        self._noted = True
        if self._view is not None:
            self._view = msgspec.structs.replace(self._view, pending=(text, *self._view.pending))

    def take(self, view: NodeView) -> NodeView:
        """Take a newer view, write it if it is time, and hand it back as it is shown: with the agent's own problems."""
        if self._problems:
            view = msgspec.structs.replace(view, pending=(*self._problems.values(), *view.pending))
        self._view = view
        self._fresh = True
        self.look()
        return view

    def look(self) -> None:
        """Write what is not written yet, if it is time."""
        if self._fresh and now_ms() - self._written_ms >= (NOTED_MS if self._noted else EVERY_MS):
            self.write()

    def write(self) -> None:
        """Write now. A file system that takes nothing is said once in the log; the machine does not depend on it."""
        if self._view is None:
            return
        shown = msgspec.to_builtins(self._view)
        shown["agent"] = {**self._about, "written": wall_text(), "notes": list(self._notes)}
        self._fresh = self._noted = False
        self._written_ms = now_ms()
        part = self._path.with_name(self._path.name + ".part")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(shown))
            part.replace(self._path)
        except OSError as error:
            if not self._silenced:
                log.event("view_not_written", path=str(self._path), error=error.strerror or str(error))
            self._silenced = True
