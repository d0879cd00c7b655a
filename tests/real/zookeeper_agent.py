"""One agent's side of the coordination port in tests; run as a program it is a process of its own that can be frozen.

The program opens a session, creates its member record, beats on it, and prints every event as a line of JSON.
"""

import sys
import threading
from pathlib import Path

import msgspec

from core import effects as fx
from core.events import (
    AnyEvent,
    BeatAnswered,
    Committed,
    OpFailed,
    OpSucceeded,
    ReadBack,
    RecordsChanged,
    SessionEnded,
    SessionOpened,
)
from core.ids import NO_SESSION, BootId, DomainId, Epoch, OpId, RackId, ServiceName, SessionId
from core.records import Change, Lifecycle, MemberRecord, NodeRecord, member_path
from drivers.beats import CoordinationBeats
from drivers.config import Config, load_config
from drivers.zookeeper import Client
from drivers.zookeeper_port import ZooKeeper
from tests.real.zookeeper_ensemble import NoServices, wait_until

PATIENCE_S = 60
"""The machine may be busy with other tests; the limits of the operations themselves are not stretched."""


class Agent:
    """A port with everything it emitted. Use as a context manager; its session outlives it."""

    def __init__(self, config: Config, *, resume: bool = False, start: bool = True) -> None:
        self.config = config
        self.events: list[AnyEvent] = []
        self.bugs = 0
        self.port = ZooKeeper(config, NoServices(), self._died)
        self.beats = CoordinationBeats(self.port)
        self.op = 0
        self.session = NO_SESSION
        if start:
            self.open(self.port.saved_session if resume else NO_SESSION)

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, *_: object) -> None:
        self.port.close()
        assert self.bugs == 0

    def _died(self) -> None:
        self.bugs += 1

    def open(self, resume: SessionId) -> SessionOpened:
        """Open a session and wait for it."""
        count = len(self.of(SessionOpened))
        self.send(fx.OpenSession(resume=resume))
        wait_until(lambda: len(self.of(SessionOpened)) > count, PATIENCE_S, "a session")
        opened: SessionOpened = self.of(SessionOpened)[-1]
        self.session = opened.session
        return opened

    def client(self) -> Client:
        """Its present connection, to break it."""
        client = self.port._link.client
        assert client is not None
        return client

    def of(self, kind: type) -> list:  # type: ignore[type-arg]  # of whatever kind was asked for
        """The events of one kind."""
        return [event for event in list(self.events) if isinstance(event, kind)]

    def send(self, effect: fx.AnyEffect) -> None:
        self.port.submit(effect, self.events.append)  # type: ignore[arg-type]  # only what belongs to this port

    def begin(self, effect_kind: type, **fields: object) -> OpId:
        """Send an effect with the next op."""
        self.op += 1
        self.send(effect_kind(op=OpId(self.op), **fields))
        return OpId(self.op)

    def answer(self, op: OpId) -> OpSucceeded | OpFailed:
        """Wait for the one answer."""
        wait_until(lambda: bool(self.answers(op)), PATIENCE_S, f"the answer of {op}")
        (found,) = self.answers(op)
        return found

    def answers(self, op: OpId) -> list[OpSucceeded | OpFailed]:
        return [e for e in list(self.events) if isinstance(e, OpSucceeded | OpFailed) and e.op == op]

    def commit(self, *writes: fx.Write, ms_max: int = 4_000) -> OpSucceeded | OpFailed:
        return self.answer(self.begin(fx.Commit, session=self.session, writes=writes, ms_max=ms_max))

    def committed(self, *writes: fx.Write) -> Committed:
        """Commit what cannot fail."""
        done = self.commit(*writes)
        assert isinstance(done, OpSucceeded), done
        assert isinstance(done.result, Committed)
        return done.result

    def settled(self, write: fx.Put | fx.Remove | fx.Create | fx.Check) -> int:
        """Commit one write, settling what was not answered by reading back; the transaction (0: not known)."""
        while True:
            done = self.commit(write)
            if isinstance(done, OpSucceeded) and isinstance(done.result, Committed):
                return done.result.zxid
            assert isinstance(done, OpFailed)
            assert done.reason == "unanswered", done
            (now,) = self.read(write.path)
            wanted = write.data if isinstance(write, fx.Put | fx.Create) else None
            if not isinstance(write, fx.Check) and now.data == wanted:
                return now.zxid if wanted is not None else 0

    def read(self, *paths: str) -> tuple[Change, ...]:
        """Read, however often that is not answered."""
        while True:
            done = self.answer(self.begin(fx.Read, session=self.session, paths=paths, ms_max=4_000))
            if isinstance(done, OpSucceeded) and isinstance(done.result, ReadBack):
                return done.result.changes
            assert isinstance(done, OpFailed)
            assert done.reason == "unanswered", done

    def close_session(self, session: SessionId) -> OpSucceeded | OpFailed:
        return self.answer(self.begin(fx.CloseSession, session=session, ms_max=2_000))

    def member(self) -> MemberRecord:
        node = self.config.node
        return MemberRecord(node=node, session=self.session, boot_id=BootId("b"), rack=RackId("r1"),
                            power_domain=DomainId("p1"), weight=100, cores=1, memory_bytes=1)  # fmt: skip

    def register(self) -> str:
        """Create our member record, after the session of whoever left one; its path."""
        path = member_path(RackId("r1"), self.config.node)
        (before,) = self.read(path)
        if before.owner:
            assert isinstance(self.close_session(before.owner), OpSucceeded)
        self.committed(fx.Create(path=path, data=self.member(), ephemeral=True))
        return path

    def beat(self, path: str, every_ms: int = 250) -> None:
        """Ask for coordination evidence from now on."""
        checks = (fx.Check(path=path, version=0),)
        beat = fx.StartBeat(service=ServiceName("db"), epoch=Epoch(1), kind="coordination", every_ms=every_ms,
                            fresh_ms=500, session=self.session, checks=checks)  # fmt: skip
        self.beats.submit(beat, self.events.append)

    def ok_beats(self) -> list[BeatAnswered]:
        return [beat for beat in self.of(BeatAnswered) if beat.outcome == "ok"]


def record(state: Lifecycle = Lifecycle.JOINED, attempts: int = 0, node: str = "x") -> NodeRecord:
    """Some record."""
    return NodeRecord(node=node, rack=RackId("r1"), power_domain=DomainId("p1"), state=state, attempts=attempts)  # type: ignore[arg-type]


class Picture:
    """What mirrors have shown, applied as a machine does it; every step backwards is noted."""

    def __init__(self) -> None:
        self.known: dict[str, Change] = {}
        self.backwards: list[str] = []
        self.told = 0
        self._taken = 0

    def take(self, agent: Agent) -> None:
        """Apply what is new."""
        events = agent.of(RecordsChanged)
        for event in events[self._taken :]:
            self._apply(event)
        self._taken = len(events)

    def _apply(self, event: RecordsChanged) -> None:
        listed = {change.path for change in event.changes}
        if event.resync:
            below = tuple(f"{root}/" for root in event.roots)
            for path in [p for p in self.known if p.startswith(below) and p not in listed]:
                del self.known[path]
        for change in event.changes:
            before = self.known.get(change.path)
            if before is not None and (change.zxid < before.zxid or (change == before and not event.resync)):
                self.backwards.append(f"{before.path}: {before.zxid} then {change.zxid}")
            if change.data is None:
                self.known.pop(change.path, None)
            else:
                self.known[change.path] = change
            self.told += 1


def main(file: str) -> None:
    """Run as an agent until killed."""
    agent = Agent(load_config(Path(file)), start=False)
    said = 0
    enough = threading.Event()
    agent.open(NO_SESSION)
    agent.beat(agent.register())
    while not enough.wait(0.02):
        for event in agent.events[said:]:
            said += 1
            sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
            sys.stdout.flush()
            if isinstance(event, SessionEnded):
                agent.send(fx.OpenSession(resume=NO_SESSION))


if __name__ == "__main__":
    main(sys.argv[1])
