"""A coordination service of one dictionary for one machine: enough to give it members, changes and answers."""

from collections import deque

from core import effects as fx
from core import events as ev
from core.ids import NO_SESSION, BootId, NodeId, SessionId
from core.records import AnyRecord, Change, Instance

OWN_SESSION = SessionId(1)
OWN_BOOT = BootId("boot")


class Memory:
    """Records by path, and the answers to the effects of the machine on ``node``; everything succeeds at once."""

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.beats: dict[tuple[str, str], fx.StartBeat] = {}
        self._asked_ms: dict[tuple[str, str], int] = {}
        self.records: dict[str, Change] = {}
        self.timers: dict[str, int] = {}
        self.zxid = 0
        self._tree: list[str] = []
        self._names: list[str] = []
        self._one: list[str] = []
        self.out: deque[ev.AnyEvent] = deque()

    def put(self, path: str, data: AnyRecord | None, at_ms: int, owner: SessionId = NO_SESSION) -> int:
        """Write a record, or remove it with None; tell the machine if it mirrors the path. Returns the new version."""
        self.zxid += 1
        before = self.records.get(path)
        version = before.version + 1 if before is not None else 0
        change = Change(path=path, zxid=self.zxid, version=version, data=data, owner=owner)
        if data is None:
            self.records.pop(path, None)
        else:
            self.records[path] = change
        if self._mirrored(path, created=before is None or data is None):
            self.out.append(ev.RecordsChanged(at_ms=at_ms, changes=(change,)))
        return version

    def take(self, effect: fx.AnyEffect, at_ms: int) -> None:
        """Answer one effect."""
        if isinstance(effect, fx.SetTimer):
            self.timers[effect.timer] = effect.at_ms
        elif isinstance(effect, fx.CancelTimer):
            self.timers.pop(effect.timer, None)
        elif isinstance(effect, fx.OpenSession):
            self.out.append(ev.SessionOpened(at_ms=at_ms, session=OWN_SESSION, resumed=False))
        elif isinstance(effect, fx.Mirror):
            self._mirror(effect, at_ms)
        elif isinstance(effect, fx.StartBeat | fx.StopBeat):
            self._beat(effect, at_ms)
        else:
            op = getattr(effect, "op", None)
            if op is not None:
                self.out.append(ev.OpSucceeded(at_ms=at_ms, op=op, result=self._result(effect, at_ms)))

    def _beat(self, effect: fx.StartBeat | fx.StopBeat, at_ms: int) -> None:
        key = (effect.service, effect.kind)
        self.beats.pop(key, None)
        if isinstance(effect, fx.StartBeat):
            self.beats[key] = effect
            self._asked_ms[key] = at_ms

    def answered(self, at_ms: int) -> list[ev.BeatAnswered]:
        """List the answers of the standing beats that are due."""
        due = [(key, beat) for key, beat in self.beats.items() if self._asked_ms[key] + beat.every_ms <= at_ms]
        for key, _ in due:
            self._asked_ms[key] = at_ms
        return [
            ev.BeatAnswered(
                at_ms=at_ms, service=beat.service, epoch=beat.epoch, kind=beat.kind, asked_ms=at_ms - 2, outcome="ok"
            )
            for _, beat in due
        ]

    def due(self, at_ms: int) -> list[str]:
        """Take the timers that are due, by time and name."""
        due = sorted((when, name) for name, when in self.timers.items() if when <= at_ms)
        for _, name in due:
            del self.timers[name]
        return [name for _, name in due]

    def _result(self, effect: fx.AnyEffect, at_ms: int) -> ev.Result:
        if isinstance(effect, fx.Commit):
            versions = tuple(self._write(write, at_ms) for write in effect.writes)
            return ev.Committed(zxid=self.zxid, versions=versions)
        if isinstance(effect, fx.Read):
            return ev.ReadBack(changes=tuple(self._read(path) for path in effect.paths))
        if isinstance(effect, fx.OpenVolume):
            instance = Instance(node=self.node, boot_id=OWN_BOOT, epoch=effect.epoch, address=f"10.0.0.1:0/{effect.op}")
            return ev.VolumeOpened(instance=instance)
        if isinstance(effect, fx.StopService):
            return ev.Stopped(clean=True)
        if isinstance(effect, fx.ReadPower | fx.PowerOrder):
            return ev.PowerSeen(on=True)
        return ev.Done()

    def _write(self, write: fx.Write, at_ms: int) -> int:
        if isinstance(write, fx.Check):
            return write.version
        if isinstance(write, fx.Remove):
            self.put(write.path, None, at_ms)
            return 0
        ephemeral = isinstance(write, fx.Create) and write.ephemeral
        return self.put(write.path, write.data, at_ms, OWN_SESSION if ephemeral else NO_SESSION)

    def _read(self, path: str) -> Change:
        return self.records.get(path) or Change(path=path, zxid=self.zxid)

    def _mirror(self, effect: fx.Mirror, at_ms: int) -> None:
        {"tree": self._tree, "names": self._names, "one": self._one}[effect.depth].append(effect.path)
        held = [change for path, change in self.records.items() if self._below(effect, path)]
        self.out.append(ev.RecordsChanged(at_ms=at_ms, changes=tuple(held), resync=True, roots=(effect.path,)))

    def _below(self, effect: fx.Mirror, path: str) -> bool:
        if effect.depth == "one":
            return path == effect.path
        return path.startswith(effect.path + "/")

    def _mirrored(self, path: str, created: bool) -> bool:
        if path in self._one or any(path.startswith(root + "/") for root in self._tree):
            return True
        return created and path.rpartition("/")[0] in self._names
