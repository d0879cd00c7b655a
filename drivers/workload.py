"""How services are run: the one interface of ``drivers.process`` and ``drivers.systemd``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from core.ids import ServiceName
from formats.catalog import Process


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One start of one service. ``places``: what stands for each placeholder of ``Process``, without the braces."""

    service: ServiceName
    process: Process
    places: Mapping[str, str]
    cwd: Path

    def fill(self, text: str) -> str:
        """Put values in place of ``{mount}`` and the like; braces with anything else in them stay as they are."""
        for name, value in self.places.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    @property
    def command(self) -> tuple[str, ...]:
        """The command, filled."""
        return tuple(self.fill(part) for part in self.process.command)

    @property
    def env(self) -> dict[str, str]:
        """The variables of its own, filled."""
        return {name: self.fill(value) for name, value in self.process.env.items()}


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing of the service runs any more. ``killed``: some of it did not end by itself."""

    detail: str
    killed: bool


class Task(Protocol):
    """One running service. Orders return at once; what follows is told by ``ended``, once, in the loop."""

    def end(self) -> None:
        """Ask it to stop by itself. One that is frozen has to be thawed after this, or it never does."""

    def kill(self) -> None:
        """Kill all of it, frozen or not."""

    def freeze(self) -> None:
        """Let none of it run on, until ``thaw``."""

    def thaw(self) -> None:
        """Let it go on."""


class Workload(Protocol):
    """Starts services."""

    def start(self, launch: Launch, ended: Callable[[Ended], None]) -> Task:
        """Start one; ``ended`` is called in the loop, also if it could not be started at all, never from within."""
