"""The log of a process: one JSON object a line on standard error, for people and for whoever collects it."""

import os
import re
import select
import sys
import threading

import msgspec

from drivers.clock import now_ms, wall_text

TEXT_MAX = 2_000
"""Longer texts are cut: a line is to be written whole."""
SECRET = re.compile(r"password|passwd|secret|token|credential|private", re.IGNORECASE)
"""Fields of such names are never written, whatever they hold."""

Value = str | int | float | bool | None | tuple[str, ...]

_lock = threading.Lock()
_always: dict[str, Value] = {}
_lost: dict[str, int] = {}
"""How many lines could not be written since the last one."""


def always(**fields: Value) -> None:
    """Add these fields to every line of this process from now on (``node``, ``process``)."""
    _always.update(fields)


def event(kind: str, **fields: Value) -> None:
    """Write a line: what happened, in one word or two, and what there is to say about it.

    Never blocks and never raises: a line that nobody takes is left out, and the next one counts it as ``lost``.
    """
    with _lock:
        line: dict[str, Value] = {"at": wall_text(), "at_ms": now_ms(), "kind": kind, **_always, **fields, **_lost}
        if _write(msgspec.json.encode({key: _shown(key, value) for key, value in line.items()})):
            _lost.clear()
        else:
            _lost["lost"] = _lost.get("lost", 0) + 1


def _shown(key: str, value: Value) -> Value:
    if SECRET.search(key):
        return "(secret)"
    return value[:TEXT_MAX] if isinstance(value, str) else value


def _descriptor() -> int:
    """Where lines go. Raises: ValueError, OSError if standard error is closed, or no file."""
    return sys.stderr.fileno()


def _write(line: bytes) -> bool:
    """Write a whole line at once; False if it could not be taken now."""
    try:
        descriptor = _descriptor()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not any(events & select.POLLOUT for _, events in poll.poll(0)):
            return False
        return os.write(descriptor, line + b"\n") > 0
    except (OSError, ValueError):  # closed, or not a file at all
        return False
