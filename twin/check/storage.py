"""A small storage: one volume, client instances, writes in flight, and fences that take effect late.

Opening is not exclusive on purpose (Ceph's lock is cooperative): only the fence protects. A write carries the whole
content as its writer believes it to be, so an old writer that lands late overwrites its successor's data.
"""

from collections.abc import Hashable

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

    def order(self) -> tuple[str, int, int, int, int, str]:
        """An order of requests that is the same however they came to be."""
        effect = self.effect
        return self.node, effect.op, self.incarnation, self.fail_at_ms, self.stage, type(effect).__name__


class Flight(msgspec.Struct, frozen=True):
    """A write on its way; ``payload`` 0 is internal (mount), else a client waits for it."""

    node: str
    service: str
    instance: Instance
    content: Content
    payload: int
    born_at_ms: int

    def order(self) -> tuple[str, int, int]:
        """An order of writes that is the same however they came to be."""
        return self.node, self.payload, self.born_at_ms


class Storage:
    """Truth about the volume. Mutable; ``copy`` before changing one that is shared."""

    __slots__ = (
        "acked",
        "blocked",
        "content",
        "flights",
        "instances",
        "number",
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
        self.payload = 0
        self.stalled = False
        self.number = -1

    def copy(self) -> "Storage":
        """Return an independent storage in the same state."""
        other = Storage.__new__(Storage)
        other.instances = dict(self.instances)
        other.blocked = dict(self.blocked)
        other.set_at = dict(self.set_at)
        other.requests = self.requests
        other.flights = self.flights
        other.content = self.content
        other.acked = self.acked
        other.writer = self.writer
        other.payload = self.payload
        other.stalled = self.stalled
        other.number = -1
        return other

    def key(self) -> Hashable:
        """Equal for equal states."""
        return (
            tuple(sorted(self.instances.items())),
            tuple(sorted(self.blocked.items())),
            tuple(sorted(self.set_at.items())),
            tuple(sorted(self.requests, key=Request.order)),
            tuple(sorted(self.flights, key=Flight.order)),
            self.content,
            tuple(sorted(self.acked)),
            self.writer,
            self.payload,
            self.stalled,
        )

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
