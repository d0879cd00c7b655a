"""One machine beside a small store of records, for tests of what it does about machines, boots and images."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from core import effects as fx
from core import events as ev
from core.events import Reason
from core.ids import NO_SESSION, BootId, DomainId, ImageId, NodeId, OpId, RackId, SessionId
from core.journal import Opening
from core.machine import Machine
from core.records import (
    CLUSTER,
    ENSEMBLE,
    AnyRecord,
    Change,
    ClusterRecord,
    EnsembleRecord,
    Lifecycle,
    MemberRecord,
    NodeRecord,
    member_path,
    node_path,
)
from core.specs import NodeSpec, Timing

ME, R1, P1 = NodeId("n1"), RackId("r1"), DomainId("p1")
SESSION = SessionId(7)
TURNS_MAX = 10_000
E = TypeVar("E")


class Alone:
    """A machine that is the only agent: every commit of it works, unless its version is old. Time is ``now``."""

    def __init__(
        self,
        networks: tuple[str, ...] = ("mgmt",),
        image: str = "",
        taken: tuple[int, ...] = (),
        seen: tuple[ev.Seen, ...] = (),
        me: NodeId = ME,
    ) -> None:
        spec = NodeSpec(id=me, rack=R1, power_domain=P1, number=1)
        self.opening = Opening(
            node=spec, timing=Timing(), services=(), inventory=(spec,), networks=networks, taken=taken
        )
        self.machine = Machine(self.opening)
        self.now = 0
        self.zxid = 1
        self.records: dict[str, Change] = {}
        self.mirrors: dict[str, str] = {}
        self.timers: dict[str, int] = {}
        self.effects: list[fx.AnyEffect] = []
        self.inbox: deque[ev.AnyEvent] = deque()
        self.answers: dict[type[fx.Effect], Callable[[Any], ev.Result | Reason | None]] = {
            fx.Scan: lambda _: ev.Scanned(seen=seen)
        }
        self.put(ENSEMBLE, EnsembleRecord(config=1, voters=(me,)))
        self.put(CLUSTER, ClusterRecord())
        self.step(ev.Started(at_ms=0, boot_id=BootId("b1"), session=SessionId(0), image=ImageId(image)))
        self.step(ev.SessionOpened(at_ms=self.now, session=SESSION, resumed=False))

    # -- records -------------------------------------------------------------------------------------------------------

    def put(self, path: str, record: AnyRecord | None, owner: SessionId = NO_SESSION) -> None:
        """Write a record as somebody else would, and show it to the machine."""
        self._show([self.write(path, record, owner)])

    def write(self, path: str, record: AnyRecord | None, owner: SessionId = NO_SESSION) -> Change:
        """Write a record as somebody else would; the machine hears of it when it looks."""
        self.zxid += 1
        old = self.records.get(path)
        version = old.version + 1 if old is not None and old.data is not None else 0
        self.records[path] = Change(path=path, zxid=self.zxid, version=version, data=record, owner=owner)
        return self.records[path]

    def get(self, path: str) -> Any:
        """What lies at a path."""
        found = self.records.get(path)
        return found.data if found is not None else None

    def member(
        self, name: str, image: str = "", boot: str = "b1", domain: str = "p1", *, settled: bool = False
    ) -> None:
        """Another node joins, or joins again."""
        node = NodeId(name)
        boot_id, power = BootId(boot), DomainId(domain)
        old = self.get(node_path(node))
        state = old.state if isinstance(old, NodeRecord) else Lifecycle.JOINED
        kept = state if state in (Lifecycle.DRAINING, Lifecycle.MAINTENANCE) else Lifecycle.JOINED
        record = NodeRecord(node=node, rack=R1, power_domain=power, state=kept, boot_id=boot_id)
        member = MemberRecord(
            node=node, session=SessionId(99), boot_id=boot_id, rack=R1, power_domain=power, weight=100, cores=8,
            memory_bytes=1 << 34, image=ImageId(image), fit=kept is Lifecycle.JOINED, settled=settled,
        )  # fmt: skip
        changes = [self.write(member_path(R1, node), member, SessionId(99)), self.write(node_path(node), record)]
        self._show(changes)

    def leave(self, name: str) -> None:
        """Another node is a member no more."""
        self.put(member_path(R1, NodeId(name)), None)

    def state(self, name: str) -> Lifecycle:
        """The lifecycle state of a node."""
        found: NodeRecord = self.get(node_path(NodeId(name)))
        return found.state

    def set_state(self, name: str, state: Lifecycle) -> None:
        """Have somebody move a node's lifecycle."""
        path = node_path(NodeId(name))
        self.put(path, msgspec.structs.replace(self.get(path), state=state))

    # -- time ----------------------------------------------------------------------------------------------------------

    def run(self, ms: int) -> None:
        """Let time pass, timer by timer."""
        end = self.now + ms
        for _ in range(TURNS_MAX):
            due = min(((at, name) for name, at in self.timers.items()), default=(end + 1, ""))
            if due[0] > end:
                self.now = end
                return
            self.now = max(self.now, due[0])
            del self.timers[due[1]]
            self.step(ev.TimerFired(at_ms=self.now, timer=due[1]))
        raise AssertionError(f"more than {TURNS_MAX} timers within {ms} ms")

    def step(self, event: ev.AnyEvent) -> None:
        """Give the machine an event and carry out what it asks for, and what comes of that."""
        self.inbox.append(event)
        if len(self.inbox) > 1:
            return  # whoever began takes them all, in order
        for _ in range(TURNS_MAX):
            for effect in self.machine.step(self.inbox[0]):
                self.effects.append(effect)
                self._do(effect)
            self.inbox.popleft()
            if not self.inbox:
                return
        raise AssertionError("the machine keeps itself busy for ever")

    def seen(self, kind: type[E]) -> list[E]:
        """The effects of a kind so far."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def notes(self, kind: str) -> list[fx.Note]:
        """The notes of a kind so far."""
        return [note for note in self.seen(fx.Note) if note.kind == kind]

    def answer(self, op: OpId, result: ev.Result | Reason) -> None:
        """Answer an op that was left open."""
        if isinstance(result, ev.Done):
            self.step(ev.OpSucceeded(at_ms=self.now, op=op, result=result))
        else:
            self.step(ev.OpFailed(at_ms=self.now, op=op, reason=result, detail="as the test has it"))

    def _do(self, effect: fx.AnyEffect) -> None:
        if isinstance(effect, fx.SetTimer):
            self.timers[effect.timer] = effect.at_ms
        elif isinstance(effect, fx.CancelTimer):
            self.timers.pop(effect.timer, None)
        elif isinstance(effect, fx.Mirror):
            self.mirrors[effect.path] = effect.depth
            at = (effect.path,) if effect.depth == "one" else ()
            below = [c for p, c in self.records.items() if p in at or p.startswith(effect.path + "/")]
            shown = tuple(c for c in below if c.data is not None)
            self.step(ev.RecordsChanged(at_ms=self.now, changes=shown, resync=True, roots=(effect.path,)))
        elif isinstance(effect, fx.Commit):
            self._commit(effect)
        elif isinstance(effect, fx.Read):
            found = tuple(self.records.get(path, Change(path=path, zxid=0)) for path in effect.paths)
            self.answer(effect.op, ev.ReadBack(changes=found))
        elif type(effect) in self.answers and isinstance(op := getattr(effect, "op", None), int):
            result = self.answers[type(effect)](effect)
            if result is not None:
                self.answer(OpId(op), result)

    def _commit(self, effect: fx.Commit) -> None:
        for write in effect.writes:
            old = self.records.get(write.path)
            there = old is not None and old.data is not None
            fits = (
                not there
                if isinstance(write, fx.Create)
                else there and old is not None and old.version == write.version
            )
            if not fits:
                self.answer(effect.op, "conflict")
                return
        versions, changes = [], []
        self.zxid += 1
        for write in effect.writes:
            old = self.records.get(write.path)
            if isinstance(write, fx.Create | fx.Put):
                version = old.version + 1 if isinstance(write, fx.Put) and old is not None else 0
                owner = SESSION if isinstance(write, fx.Create) and write.ephemeral else SessionId(0)
                if isinstance(write, fx.Put) and old is not None:
                    owner = old.owner
                self.records[write.path] = Change(
                    path=write.path, zxid=self.zxid, version=version, data=write.data, owner=owner
                )
                changes.append(self.records[write.path])
                versions.append(version)
            else:
                versions.append(0)
        self.answer(effect.op, ev.Committed(zxid=self.zxid, versions=tuple(versions)))
        self._show(changes)

    def _show(self, changes: list[Change]) -> None:
        """Tell of changes to what is mirrored."""
        shown = tuple(c for c in changes if any(_covers(root, depth, c) for root, depth in self.mirrors.items()))
        if shown:
            self.step(ev.RecordsChanged(at_ms=self.now, changes=shown))


def _covers(root: str, depth: str, change: Change) -> bool:
    if depth == "one":
        return change.path == root
    return change.path.startswith(root + "/") and (depth == "tree" or change.version == 0)
