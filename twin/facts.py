"""What a journal says about one singleton: a flat list of facts in order of time, each with a sentence for a person."""

from collections.abc import Iterable

import msgspec

from core import effects as fx
from core import events as ev
from core.ids import Epoch, NodeId, OpId, ServiceName, VolumeName
from core.journal import Line, Opening, decode_effect, decode_event, decode_opening
from core.notes import NOTES
from core.records import MEMBERS, lease_path, term_path
from twin.fact_words import Operation, failed, succeeded

Agent = tuple[NodeId, int]
"""One agent process: its node and its incarnation."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened at ``at_ms`` of the journal's time line on ``node``.

    ``kind`` names it for the code that follows causes; ``about`` is the node that it concerns, if another;
    ``span_ms`` is how long it took (-1: it was a moment).
    """

    at_ms: int
    node: NodeId
    kind: str
    text: str
    about: NodeId = NodeId("")
    epoch: Epoch = Epoch(0)
    span_ms: int = -1


class FactLog(msgspec.Struct, kw_only=True):
    """All facts about ``service``, and for every node the times of its journal lines."""

    service: ServiceName
    admission_ms: int
    services: tuple[ServiceName, ...]
    facts: list[Fact] = []
    lines_ms: dict[NodeId, list[int]] = {}


def read_facts(lines: Iterable[Line], service: ServiceName) -> FactLog:
    """Collect the facts about ``service``; one pass, memory for the facts and one time per line."""
    reader = _Reader(service)
    for line in lines:
        reader.take(line)
    return reader.log


class _Reader:
    """Follows operations from effect to answer, per agent process."""

    def __init__(self, service: ServiceName) -> None:
        self.service = service
        self.volume: VolumeName | None = None
        self.log = FactLog(service=service, admission_ms=0, services=())
        self._ops: dict[tuple[Agent, OpId], tuple[int, Operation]] = {}

    def take(self, line: Line) -> None:
        times = self.log.lines_ms.setdefault(line.node, [])
        if not times or times[-1] != line.at_ms:
            times.append(line.at_ms)
        match line.kind:
            case "open":
                self._open(decode_opening(line.body))
            case "snapshot":
                pass
            case "event":
                self._event(line, decode_event(line.body))
            case "effect":
                self._effect(line, decode_effect(line.body))

    def _open(self, opening: Opening) -> None:
        self.log.admission_ms = opening.timing.admission_ms
        self.log.services = tuple(spec.name for spec in opening.services)
        for spec in opening.services:
            if spec.name == self.service:
                self.volume = spec.volume

    def _say(self, line: Line, kind: str, text: str, about: str = "", epoch: int = 0, span_ms: int = -1) -> None:
        fact = Fact(
            at_ms=line.at_ms,
            node=line.node,
            kind=kind,
            text=text,
            about=NodeId(about),
            epoch=Epoch(epoch),
            span_ms=span_ms,
        )
        self.log.facts.append(fact)

    # -- effects ----------------------------------------------------------------------------------------------------

    def _effect(self, line: Line, effect: fx.AnyEffect) -> None:
        if isinstance(effect, fx.Note):
            if effect.service in ("", self.service):
                self._note(line, effect)
        elif isinstance(effect, fx.SuspendService) and effect.service == self.service:
            self._say(line, "suspend", "suspends the service and takes its address off", epoch=effect.epoch)
        else:
            operation = self._concern(effect)
            if operation is not None:
                self._ops[((line.node, line.incarnation), operation.op)] = (line.at_ms, operation)

    def _note(self, line: Line, note: fx.Note) -> None:
        text = note.detail or NOTES.get(note.kind, note.kind)
        self._say(line, f"note:{note.kind}", text, about=note.node, epoch=note.epoch)

    def _concern(self, effect: fx.AnyEffect) -> Operation | None:
        """The effect, if it has an op and touches the service, its volume or somebody's power or session."""
        if isinstance(effect, fx.OpenVolume | fx.StartService | fx.StopService):
            return effect if effect.service == self.service else None
        if isinstance(effect, fx.FenceInstance | fx.CloseVolume):
            return effect if effect.volume == self.volume else None
        if isinstance(effect, fx.Commit):
            paths = (term_path(self.service), lease_path(self.service))
            return effect if any(write.path in paths for write in effect.writes) else None
        if isinstance(effect, fx.CloseSession | fx.ReadPower | fx.PowerOrder):
            return effect
        return None

    # -- events -----------------------------------------------------------------------------------------------------

    def _event(self, line: Line, event: ev.AnyEvent) -> None:
        match event:
            case ev.OpSucceeded() | ev.OpFailed():
                asked = self._ops.pop(((line.node, line.incarnation), event.op), None)
                if asked is not None:
                    self._answer(line, asked[0], asked[1], event)
            case ev.RecordsChanged():
                self._records(line, event)
            case ev.Started():
                how = "to hand everything over" if event.hand_over else f"with {len(event.running)} services running"
                self._say(line, "started", f"its agent starts {how} (boot {event.boot_id})")
            case ev.PeerSilent():
                self._say(line, "silent", f"no longer hears {event.node}", about=event.node)
            case ev.PeerHeard():
                self._say(line, "heard", f"hears {event.node} again", about=event.node)
            case ev.SessionEnded():
                self._say(line, "session_ended", f"is told that its session {event.session:#x} is over")
            case ev.StorageSeen(ok=False):
                self._say(line, "storage_lost", "no longer reaches the storage")
            case ev.BeatAnswered() | ev.ServiceExited() | ev.RightExpired():
                if event.service == self.service:
                    self._own(line, event)
            case ev.TimerFired() | ev.SessionOpened() | ev.StorageSeen() | ev.BootSeen():
                pass
            case ev.JoinAdmitted() | ev.JoinRefused():
                pass  # the machine states both as notes

    def _own(self, line: Line, event: ev.BeatAnswered | ev.ServiceExited | ev.RightExpired) -> None:
        match event:
            case ev.BeatAnswered(outcome="ok"):
                pass
            case ev.BeatAnswered():
                what = "a check of its lease" if event.kind == "coordination" else "a probe write to its volume"
                self._say(line, f"beat_{event.outcome}", f"{what} is {event.outcome}", epoch=event.epoch)
            case ev.ServiceExited():
                self._say(line, "exited", f"the service exited {event.detail}".rstrip(), epoch=event.epoch)
            case ev.RightExpired():
                text = "its right to serve ran out: the supervisor took the address off and suspended the service"
                self._say(line, "right_expired", text, epoch=event.epoch)

    def _records(self, line: Line, event: ev.RecordsChanged) -> None:
        for change in event.changes:
            if change.data is not None:
                continue
            if change.path == lease_path(self.service):
                self._say(line, "lease_gone", f"sees that the lease on {self.service} is gone")
            elif change.path.startswith(MEMBERS + "/"):
                gone = change.path.rpartition("/")[2]
                self._say(line, "member_gone", f"sees that {gone} is no longer a member", about=gone)

    def _answer(self, line: Line, asked_ms: int, effect: Operation, answer: ev.OpSucceeded | ev.OpFailed) -> None:
        span = line.at_ms - asked_ms
        if isinstance(answer, ev.OpFailed):
            why = f"{answer.reason}, {answer.detail}" if answer.detail else answer.reason
            kind, text, about, epoch = failed(effect, why)
        else:
            kind, text, about, epoch = succeeded(effect, answer.result)
        if kind:
            self._say(line, kind, text, about=about, epoch=epoch, span_ms=span)
