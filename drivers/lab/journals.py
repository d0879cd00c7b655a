"""What the agents of a lab wrote down while it ran: the notes of their machines, and how long each phase took."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from core import effects as fx
from core.events import OpFailed, SessionOpened, Started
from core.ids import NodeId
from core.journal import Line, decode_effect, decode_event, read_lines
from drivers.journal_file import segments
from drivers.lab.layout import Layout
from trial.marks import FaultMark, NoteMark
from trial.phases import phases_of


def folder_of(layout: Layout, node: NodeId) -> Path:
    """Where a node's agent keeps its journal."""
    return layout.home(node) / "state" / "journal"


def lines_of(layout: Layout, node: NodeId) -> Iterator[Line]:
    """Every line that a node's agents have written and not thrown away, in order."""
    for path in segments(folder_of(layout, node)):
        with path.open("rb") as file:
            yield from read_lines(file)


class Said:
    """Everything the agents said between two moments, in order of time."""

    def __init__(self, layout: Layout, from_ms: int, to_ms: int) -> None:
        self.notes: list[NoteMark] = []
        self.samples: dict[str, list[int]] = {}
        self._starts: dict[NodeId, list[int]] = {}
        self._lost: list[tuple[int, NodeId]] = []
        for node in layout.nodes:
            lines = [line for line in lines_of(layout, node.id) if from_ms <= line.at_ms <= to_ms]
            self._read(node.id, lines)
            for phase, own in phases_of(lines).items():
                self.samples.setdefault(phase, []).extend(own)
            self._read_log(layout.home(node.id) / "log" / "supervisor.log", from_ms, to_ms)
        self.notes.sort(key=lambda note: (note.at_ms, note.by))

    def counts(self) -> dict[str, int]:
        """How often each note was made, in order of their first time."""
        found: dict[str, int] = {}
        for note in self.notes:
            found[note.kind] = found.get(note.kind, 0) + 1
        return found

    def add_faults(self, faults: Iterable[FaultMark]) -> None:
        """Measure what begins with a fault: an agent's return, the end of a dead node's session."""
        for fault in faults:
            for node in fault.nodes:
                if fault.fault == "agent_crash":
                    later = [at_ms for at_ms in self._starts.get(node, []) if at_ms >= fault.from_ms]
                    self._sample("agent_restart_ms", later[0] - fault.from_ms if later else -1)
                elif fault.fault in ("power_loss", "node_crash"):
                    noticed = [n.at_ms for n in self.notes if n.kind == "lost" and n.node == node]
                    later = [at_ms for at_ms in noticed if at_ms >= fault.from_ms]
                    early = any(n.kind == "early_close" and n.node == node for n in self.notes)
                    self._sample("session_expiry_ms", later[0] - fault.from_ms if later and not early else -1)

    def _sample(self, phase: str, value_ms: int) -> None:
        if value_ms >= 0:
            self.samples.setdefault(phase, []).append(value_ms)

    def _read(self, node: NodeId, lines: list[Line]) -> None:
        broken_ms = -1
        for line in lines:
            if line.kind == "effect":
                effect = decode_effect(line.body)
                if isinstance(effect, fx.Note):
                    self.notes.append(_note(node, line.at_ms, effect))
            elif line.kind == "event":
                event = decode_event(line.body)
                match event:
                    case OpFailed(reason="unanswered") if broken_ms < 0:
                        broken_ms = line.at_ms
                    case SessionOpened(resumed=True) if broken_ms >= 0:
                        self._sample("reconnect_ms", line.at_ms - broken_ms)
                        broken_ms = -1
                    case Started():
                        broken_ms = -1
                        self._starts.setdefault(node, []).append(line.at_ms)
                    case _:
                        pass

    def _read_log(self, path: Path, from_ms: int, to_ms: int) -> None:
        """How long mounts took, from what the supervisor wrote."""
        begun: dict[tuple[str, int], int] = {}
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            return
        for raw in lines:
            try:
                said = msgspec.json.decode(raw, type=_Logged)
            except msgspec.DecodeError:
                continue  # the last words of a process are no record
            key = (said.service, said.epoch)
            if not from_ms <= said.at_ms <= to_ms or said.kind not in _STEPS:
                continue
            since_ms = begun.pop(key, -1)
            if since_ms >= 0 and said.kind != "starting":
                self._sample(_STEPS[said.kind], said.at_ms - since_ms)
            begun[key] = said.at_ms


class _Logged(msgspec.Struct, frozen=True):
    """What is read of a line of a supervisor's log."""

    at_ms: int
    kind: str
    service: str = ""
    epoch: int = 0


_STEPS = {"starting": "", "mounted": "mount_ms"}
"""A service's way up as its supervisor tells it, and what each step measures."""


def _note(by: NodeId, at_ms: int, note: fx.Note) -> NoteMark:
    return NoteMark(
        at_ms=at_ms,
        by=by,
        kind=note.kind,
        service=note.service,
        node=note.node,
        epoch=note.epoch,
        detail=note.detail,
    )
