"""A small storage: one volume, client instances, writes in flight, and fences that take effect late.

Opening is not exclusive on purpose (Ceph's lock is cooperative): only the fence protects. A write carries the whole
content as its writer believes it to be, so an old writer that lands late overwrites its successor's data.
"""

import msgspec

from core import effects as fx
from core.records import Instance

Content = tuple[int, ...]


class Request(msgspec.Struct, frozen=True):
    """A storage operation under way; ``stage`` 1: the fence is set, but not yet in force."""

    node: str
    incarnation: int
    effect: fx.OpenVolume | fx.CloseVolume | fx.FenceInstance | fx.LiftBlock
    fail_at_ms: int
    born_at_ms: int
    stage: int = 0


class Flight(msgspec.Struct, frozen=True):
    """A write on its way; ``payload`` 0 is internal (mount), else a client waits for it."""

    node: str
    service: str
    instance: Instance
    content: Content
    payload: int
    born_at_ms: int


class Storage:
    """Truth about the volume. Mutable; ``copy`` before changing one that is shared."""

    __slots__ = (
        "_key",
        "acked",
        "blocked",
        "content",
        "flights",
        "instances",
        "opened",
        "payload",
        "requests",
        "set_at",
        "stalled",
        "writer",
    )

    def __init__(self) -> None:
        self.instances: dict[Instance, str] = {}  # open, closed, dead
        self.blocked: dict[Instance, int] = {}  # 1: set, 2: in force
        self.set_at: dict[Instance, int] = {}
        self.requests: tuple[Request, ...] = ()
        self.flights: tuple[Flight, ...] = ()
        self.content: Content = ()
        self.acked: Content = ()
        self.writer = 0
        self.opened = 0
        self.payload = 0
        self.stalled = False
        self._key: object = None

    def copy(self) -> "Storage":
        other = Storage.__new__(Storage)
        other.instances = dict(self.instances)
        other.blocked = dict(self.blocked)
        other.set_at = dict(self.set_at)
        other.requests = self.requests
        other.flights = self.flights
        other.content = self.content
        other.acked = self.acked
        other.writer = self.writer
        other.opened = self.opened
        other.payload = self.payload
        other.stalled = self.stalled
        other._key = None
        return other

    def key(self) -> object:
        if self._key is None:
            self._key = (
                tuple(sorted(self.instances.items())),
                tuple(sorted(self.blocked.items())),
                tuple(sorted(self.set_at.items())),
                self.requests,
                self.flights,
                self.content,
                self.acked,
                self.writer,
                self.payload,
                self.stalled,
            )
        return self._key

    def accepts(self, instance: Instance) -> bool:
        """Whether a write of this instance would be accepted now."""
        return self.blocked.get(instance) != 2

    def is_fenced(self, instance: Instance) -> bool:
        return self.blocked.get(instance) == 2

    def write(self, instance: Instance, content: Content | None) -> bool:
        """Apply a write (None: a probe, which changes no data); False if it was refused.

        Raises AssertionError if it is accepted from an instance older than one that already wrote.
        """
        if not self.accepts(instance):
            return False
        assert instance.epoch >= self.writer, f"single writer: {instance} wrote after epoch {self.writer}"
        self.writer = instance.epoch
        if content is not None:
            self.content = content
        lost = [payload for payload in self.acked if payload not in self.content]
        assert not lost, f"acknowledged write lost: {lost}"
        return True
