"""Judges each step of one agent by what it could know: no right without evidence, no closing without a mark.

The machine keeps its evidence itself, and so may be wrong about it. An auditor sees the same events and counts for
itself: evidence is the time at which something was *asked* that was answered with yes (rule 5).
"""

from collections.abc import Callable

from core import effects as fx
from core.events import (
    AnyEvent,
    BeatAnswered,
    OpFailed,
    OpSucceeded,
    ReadBack,
    RecordsChanged,
    ServiceExited,
    SessionOpened,
    Started,
)
from core.ids import NO_SESSION, Epoch, NodeId, OpId, ServiceName, SessionId
from core.records import LEASES, POWER, Change, LeaseRecord, MemberRecord, PowerRecord
from core.specs import ServiceSpec, Timing

Complain = Callable[[str, str], None]
"""Told the name of the checker and a sentence, when a step cannot be right."""


class Auditor:
    """What one agent process has asked and been told, as far as its rights depend on it."""

    def __init__(self, node: NodeId, services: tuple[ServiceSpec, ...], timing: Timing, complain: Complain) -> None:
        self._node = node
        self._limits = {s.name: timing.fresh_ms if s.volume else timing.coordination_ms for s in services}
        self._power_ms_max = timing.power_ms_max
        self._complain = complain
        self._session = NO_SESSION
        self._running: dict[tuple[ServiceName, Epoch], SessionId] = {}
        self._under_way: dict[OpId, tuple[ServiceName, Epoch, bool]] = {}  # starts (True) and stops
        self._ordered: dict[str, int] = {}
        self._commits: dict[OpId, tuple[int, fx.Commit]] = {}
        self._beats: dict[tuple[ServiceName, Epoch], int] = {}
        self._leases: dict[ServiceName, int] = {}
        self._claims: dict[str, int] = {}
        self._closable: dict[SessionId, None] = {}  # marked in a power record, or this node's own
        self._armed: dict[tuple[ServiceName, Epoch], None] = {}

    def saw(self, event: AnyEvent, effects: tuple[fx.AnyEffect, ...]) -> None:
        """Take one step: the event and what the machine made of it."""
        if isinstance(event, BeatAnswered):
            self._answered(event)
        elif isinstance(event, OpSucceeded):
            self._succeeded(event)
        elif isinstance(event, OpFailed):
            self._failed(event)
        elif isinstance(event, RecordsChanged):
            self._told(event.changes)
        elif isinstance(event, SessionOpened | Started):
            self._opened(event)
        elif isinstance(event, ServiceExited):
            self._running.pop((event.service, event.epoch), None)
        for effect in effects:
            if isinstance(effect, fx.Commit):
                self._writes(effect)
                self._commits[effect.op] = (event.at_ms, effect)
            elif isinstance(effect, fx.ArmRight):
                self._arms(effect)
            elif isinstance(effect, fx.StartService):
                self._starts(effect)
            elif isinstance(effect, fx.StopService):
                self._under_way[effect.op] = (effect.service, effect.epoch, False)
            elif isinstance(effect, fx.CloseSession):
                self._closes(effect)
            elif isinstance(effect, fx.PowerOrder):
                self._orders(effect)

    def _opened(self, event: SessionOpened | Started) -> None:
        self._closable[event.session] = None
        self._session = event.session
        if isinstance(event, Started):
            self._running = {(one.service, one.epoch): event.session for one in event.running if one.epoch}

    def _answered(self, event: BeatAnswered) -> None:
        if event.outcome == "ok":
            key = (event.service, event.epoch)
            self._beats[key] = max(self._beats.get(key, -1), event.asked_ms)

    def _succeeded(self, event: OpSucceeded) -> None:
        if isinstance(event.result, ReadBack):
            self._told(event.result.changes)
        elif event.op in self._commits:
            self._committed(*self._commits.pop(event.op))
        elif event.op in self._under_way:
            service, epoch, started = self._under_way.pop(event.op)
            self._running.pop((service, epoch), None)
            if started and epoch:
                self._running[(service, epoch)] = self._session

    def _failed(self, event: OpFailed) -> None:
        """An unanswered claim that a read-back shows to have worked is evidence as of when it was asked for."""
        self._under_way.pop(event.op, None)
        asked_ms, commit = self._commits.pop(event.op, (0, None))
        for write in commit.writes if commit is not None else ():
            if isinstance(write, fx.Create) and write.path.startswith(LEASES):
                self._claims[write.path] = asked_ms

    def _told(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if isinstance(change.data, MemberRecord) and change.data.node == self._node:
                self._closable[change.data.session] = None
            elif (
                isinstance(change.data, LeaseRecord) and change.data.node == self._node and change.path in self._claims
            ):
                name = ServiceName(change.path[len(LEASES) + 1 :])
                self._leases[name] = max(self._leases.get(name, -1), self._claims.pop(change.path))

    def _committed(self, asked_ms: int, commit: fx.Commit) -> None:
        for write in commit.writes:
            if write.path.startswith(LEASES):
                name = ServiceName(write.path[len(LEASES) + 1 :])
                self._leases[name] = max(self._leases.get(name, -1), asked_ms)
            elif write.path.startswith(POWER) and isinstance(write, fx.Put | fx.Create):
                if isinstance(write.data, PowerRecord):
                    self._closable[write.data.closed_session] = None
                    self._ordered[write.path[len(POWER) + 1 :]] = asked_ms

    def _arms(self, effect: fx.ArmRight) -> None:
        self._armed[(effect.service, effect.epoch)] = None
        asked_ms = max(self._beats.get((effect.service, effect.epoch), -1), self._leases.get(effect.service, -1))
        ends_ms = asked_ms + self._limits[effect.service]
        if effect.until_ms > ends_ms:
            over_ms = effect.until_ms - ends_ms
            self._complain("rights_have_evidence", f"{effect.service}: a right {over_ms} ms longer than its evidence")

    def _starts(self, effect: fx.StartService) -> None:
        self._under_way[effect.op] = (effect.service, effect.epoch, True)
        singleton = effect.epoch != Epoch(0)
        if singleton and (effect.service, effect.epoch) not in self._armed:
            self._complain("rights_have_evidence", f"{effect.service}: started with no right armed outside the agent")

    def _closes(self, effect: fx.CloseSession) -> None:
        if effect.session not in self._closable:
            self._complain("closed_after_mark", f"session {effect.session} was to be closed before that was on record")

    def _writes(self, effect: fx.Commit) -> None:
        old = [name for (name, _), session in self._running.items() if session != effect.session]
        if old and effect.session == self._session:
            self._complain("stopped_before_new_session", f"{old[0]}: ran on while the new session was written on")

    def _orders(self, effect: fx.PowerOrder) -> None:
        asked_ms = self._ordered.get(effect.node)
        if asked_ms is not None and effect.deadline_ms > asked_ms + self._power_ms_max:
            over_ms = effect.deadline_ms - asked_ms - self._power_ms_max
            self._complain("orders_dated_from_commit", f"an order to {effect.node} is good for {over_ms} ms too long")
