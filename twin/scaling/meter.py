"""What the agents of a rack are told and ask, counted at the machines; and what the steps of a few of them cost.

Messages are counted as the drivers send them over ZooKeeper: a watch says only that a path changed, so each is
followed by one read of that path; a mirror that begins reads every path it holds, one by one.
"""

from collections.abc import Callable, Iterable

import msgspec

from core import effects as fx
from core.assignments import Solvers
from core.events import AnyEvent, RecordsChanged
from core.ids import NodeId
from core.journal import Opening
from core.machine import Machine
from core.records import Change
from core.view import NodeView, ServiceView
from twin.host import Brain

WATCH_BYTES, READ_BYTES, WRITE_BYTES = 36, 129, 92
"""Bytes around a path (and a record) in a watch event, in a read with its answer, and in a transaction with its answer:
length, header, fixed fields and Stat. Source: zookeeper.jute of Apache ZooKeeper 3.8 (WatcherEvent, GetDataRequest,
GetDataResponse, MultiHeader, Stat); TLS and TCP not counted."""

Clock = Callable[[], int]
"""Processor time of this process so far, in nanoseconds."""


class Traffic(msgspec.Struct, kw_only=True):
    """What all machines together took and asked in some time; ``bytes`` both ways. ``changes``: distinct transactions.

    ``probe_ns``, ``probe_steps``: processor time and steps of the probes alone.
    """

    steps: int = 0
    watch_events: int = 0
    reads: int = 0
    writes: int = 0
    power_calls: int = 0
    bytes: int = 0
    changes: int = 0
    probe_ns: int = 0
    probe_steps: int = 0

    @property
    def requests(self) -> int:
        """Requests to ZooKeeper: reads and transactions."""
        return self.reads + self.writes

    @property
    def messages(self) -> int:
        """Everything on the network: events, requests with their answers, calls of BMCs with theirs."""
        return self.watch_events + 2 * (self.requests + self.power_calls)


class Meter:
    """Makes the machines of one world and counts for them.

    ``probes``: machines that share no placement with the others, as on servers of their own, so that the ``clock``
    shows what a step really costs. Without a clock nothing is timed. ``make`` builds them (a bend planted by a test).
    """

    def __init__(
        self, probes: Iterable[NodeId], clock: Clock | None, make: Callable[[Opening], Brain] | None = None
    ) -> None:
        self.traffic = Traffic()
        self.machines: dict[NodeId, Brain] = {}
        self._probes = dict.fromkeys(probes)
        self._clock = clock
        self._build = make
        self._shared: Solvers = {}
        self._zxid = 0
        self._weighed: tuple[tuple[Change, ...], int] = ((), 0)

    def make(self, opening: Opening) -> Brain:
        """Build the machine of one agent process."""
        node = opening.node.id
        if self._build is not None:
            machine = self._build(opening)
        else:
            machine = Machine(opening, {} if node in self._probes else self._shared)
        self.machines[node] = machine
        return _Metered(self, machine, self._clock if node in self._probes else None)

    def take(self) -> Traffic:
        """Hand out what was counted since the last time, and begin again."""
        taken, self.traffic = self.traffic, Traffic()
        return taken

    def heard(self, event: AnyEvent) -> None:
        """Count an event that a machine is told."""
        traffic = self.traffic
        traffic.steps += 1
        if not isinstance(event, RecordsChanged):
            return
        count = len(event.changes)
        paths = self._bytes_of(event.changes)
        if event.resync:
            traffic.reads += count + 2 * len(event.roots)  # each path, each root's watch, each root's names
            traffic.bytes += paths + count * READ_BYTES + 2 * len(event.roots) * READ_BYTES
            return
        traffic.watch_events += count
        traffic.reads += count
        traffic.bytes += 2 * paths + count * (WATCH_BYTES + READ_BYTES)
        for change in event.changes:
            if change.zxid > self._zxid:
                self._zxid = change.zxid
                traffic.changes += 1

    def asked(self, effects: tuple[fx.AnyEffect, ...]) -> None:
        """Count what a machine asks."""
        traffic = self.traffic
        for effect in effects:
            if isinstance(effect, fx.Commit):
                traffic.writes += 1
                traffic.bytes += len(_encode(effect)) + WRITE_BYTES
            elif isinstance(effect, fx.Read):
                traffic.reads += len(effect.paths)
                traffic.bytes += sum(len(path) + READ_BYTES for path in effect.paths)
            elif isinstance(effect, fx.OpenSession | fx.CloseSession | fx.Reconfigure):
                traffic.writes += 1
                traffic.bytes += WRITE_BYTES
            elif isinstance(effect, fx.ReadPower | fx.PowerOrder):
                traffic.power_calls += 1
                traffic.bytes += WRITE_BYTES

    def timed(self, ns: int) -> None:
        """Count a step of a probe."""
        self.traffic.probe_ns += ns
        self.traffic.probe_steps += 1

    def _bytes_of(self, changes: tuple[Change, ...]) -> int:
        """Paths and records of changes; those that are told to many are weighed once."""
        if changes is not self._weighed[0]:
            size = sum(len(change.path) + (len(_encode(change.data)) if change.data else 0) for change in changes)
            self._weighed = changes, size
        return self._weighed[1]


_encode = msgspec.json.Encoder().encode


class _Metered:
    """A machine whose steps are counted, and timed if it is a probe (``twin.host.Brain``)."""

    def __init__(self, meter: Meter, machine: Brain, clock: Clock | None) -> None:
        self._meter = meter
        self._machine = machine
        self._clock = clock

    def step(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]:
        self._meter.heard(event)
        if self._clock is None:
            effects = self._machine.step(event)
        else:
            begun = self._clock()
            effects = self._machine.step(event)
            self._meter.timed(self._clock() - begun)
        self._meter.asked(effects)
        return effects

    def view(self) -> NodeView:
        return self._machine.view()

    def singletons(self) -> tuple[ServiceView, ...]:
        return self._machine.singletons()
