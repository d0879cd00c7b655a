"""How far a swarm is, while it runs: one line that changes on a terminal, a line now and then in a log."""

from pathlib import Path
from typing import TextIO

from formats.paint import harmless
from twin.swarm.campaign import Clock, Standing
from twin.swarm.draw import in_words
from twin.swarm.found import Found
from twin.swarm.tape import Tape

TERMINAL_EVERY_S = 0.2
LOG_EVERY_S = 20.0
FAILURES_TOLD = 20
"""Failures that are told as they come; the summary has all ways to fail."""


class Live:
    """Tells a person, or a log, how far it is. ``of``: how many rare situations there are to be reached."""

    def __init__(self, stream: TextIO, clock: Clock, of: int) -> None:
        self._stream = stream
        self._clock = clock
        self._of = of
        self._terminal = stream.isatty()
        self._every_s = TERMINAL_EVERY_S if self._terminal else LOG_EVERY_S
        self._told_s = clock()
        self._failures = 0

    def progress(self, standing: Standing) -> None:
        """Tell how far it is, if it is time to."""
        if self._due():
            self._show(progress_line(standing, self._of))

    def note(self, text: str) -> None:
        """Tell something that stays."""
        self._stream.write(("\r\x1b[K" if self._terminal else "") + harmless(text) + "\n")
        self._stream.flush()

    def step(self, text: str) -> None:
        """Tell what is being done now, if it is time to."""
        if self._due():
            self._show(text)

    def failure(self, found: Found, tape: Tape, file: Path) -> None:
        """Tell of a failure at once: what was drawn, and the command that repeats it; of the first ones only."""
        self._failures += 1
        if self._failures <= FAILURES_TOLD:
            self.note(f"seed {found.seed}: {found.verdict.upper()} ({found.broken}), replay: twin run {file}")
            self.note(f"  {' '.join(in_words(tape).split())}")
        elif self._failures == FAILURES_TOLD + 1:
            self.note(f"further failures are only counted; their tapes are in {file.parent}")

    def done(self) -> None:
        """Leave a clean line."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _due(self) -> bool:
        now_s = self._clock()
        if now_s - self._told_s < self._every_s:
            return False
        self._told_s = now_s
        return True

    def _show(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{harmless(text)}" if self._terminal else f"{harmless(text)}\n")
        self._stream.flush()


def progress_line(standing: Standing, of: int) -> str:
    """Say in one line: seeds done, seeds a second, failures, rare situations reached, time left."""
    wanted = f" of {standing.wanted:,d}" if standing.wanted is not None else ""
    parts = [
        f"{standing.done:,d}{wanted} seeds",
        f"{standing.per_s:.1f}/s",
        f"{standing.failed:,d} failed",
        f"{standing.reached} of {of} rare situations",
    ]
    if standing.left_s is not None:
        parts.append(f"{_minutes(standing.left_s)} left")
    return ", ".join(parts)


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    hours = f"{whole // 3600}:{whole % 3600 // 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"
