"""How far each emulated machine of a lab has come, from the rack's records, its notes, and what machines print.

Nothing is asked of the machines themselves: what is seen here an operator would see as well.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from core.identity import same_machine
from core.ids import NO_NODE, NodeId
from core.records import Change, Lifecycle, MachineRecord, MemberRecord, NodeRecord, member_path, node_path
from drivers.clock import now_ms
from drivers.lab import qemu
from drivers.lab.layout import Guest, Layout
from drivers.lab.observer import Observer

Stage = Literal["found", "powered", "script", "kernel", "image", "admitted", "joined"]
STAGES: tuple[Stage, ...] = ("found", "powered", "script", "kernel", "image", "admitted", "joined")
WORDS: dict[Stage, str] = {
    "found": "found",
    "powered": "switched on",
    "script": "has its boot script",
    "kernel": "runs the kernel",
    "image": "has its root image",
    "admitted": "has its certificate",
    "joined": "joined",
}
NOTED: dict[str, Stage] = {"script": "script", "kernel": "kernel", "image": "image"}
"""Stages that the boot service tells of; the others are seen in records."""
IMAGE_WORDS = b"moxie: fetched root image"
CONSOLE_BYTES_MAX = 1 << 20
LOG_BYTES_MAX = 4 << 20


class Course(msgspec.Struct, kw_only=True):
    """One machine on its way into the rack. ``at``: when each stage was first seen, on this machine's clock."""

    guest: Guest
    node: NodeId = NO_NODE
    at: dict[Stage, int] = {}
    state: str = ""
    reason: str = ""
    boot_id: str = ""

    @property
    def stage(self) -> Stage | None:
        """The last stage that it reached."""
        reached = [stage for stage in STAGES if stage in self.at]
        return reached[-1] if reached else None


class Watch:
    """Looks again and again; ``look`` says what is new."""

    def __init__(self, layout: Layout, observer: Observer) -> None:
        """Watch from now on: what was written before does not count."""
        self._observer = observer
        self.courses: dict[str, Course] = {}
        self._logs = [Tail(layout.home(node.id) / "log" / "supervisor.log", LOG_BYTES_MAX) for node in layout.nodes]
        self._consoles: dict[str, Tail] = {}
        self.take(layout)

    def take(self, layout: Layout) -> None:
        """Watch the machines of this layout; those that are watched already keep what is known of them."""
        self._layout = layout
        for guest in layout.guests:
            if guest.uuid not in self.courses:
                self.courses[guest.uuid] = Course(guest=guest, at={})
                self._consoles[guest.uuid] = Tail(layout.case(guest) / "console.log", CONSOLE_BYTES_MAX)

    def again(self, course: Course) -> None:
        """Forget what a machine has done since it was found: it is to do it once more."""
        course.at = {stage: at for stage, at in course.at.items() if stage == "found"}

    def look(self) -> list[str]:
        """Look at everything once; what is new, one sentence each."""
        records = self._observer.records()
        said = [line for course in self.courses.values() for line in self._records_say(course, records)]
        said += [line for tail in self._logs for line in self._notes_say(tail)]
        said += [line for course in self.courses.values() for line in self._console_says(course)]
        return said

    @property
    def joined(self) -> bool:
        """Whether every machine is a member."""
        return all("joined" in course.at for course in self.courses.values())

    def course_of(self, node: NodeId) -> Course | None:
        """The machine that is this node."""
        return next((course for course in self.courses.values() if course.node == node), None)

    # -- what is seen -------------------------------------------------------------------------------------------------

    def _records_say(self, course: Course, records: dict[str, Change]) -> Iterator[str]:
        if qemu.pid_of(self._layout, course.guest):
            yield from self._reached(course, "powered")
        machine = machine_in(records, course.guest)
        if machine is None:
            return
        course.node = machine.node
        yield from self._reached(course, "found", f" at {machine.bmc}: {machine.problem or machine.node}")
        change = records.get(node_path(machine.node))
        if change is None or not isinstance(change.data, NodeRecord):
            return
        record = change.data
        if (record.state, record.reason) != (course.state, course.reason):
            course.state, course.reason = record.state, record.reason
            reason = f" – {record.reason}" if record.reason else ""
            if record.state not in (Lifecycle.DISCOVERED, Lifecycle.JOINED) or reason:
                yield f"{self._name(course)}: {record.state}{reason}"
        member = records.get(member_path(record.rack, record.node))
        if isinstance(getattr(member, "data", None), MemberRecord) and record.state is Lifecycle.JOINED:
            if "admitted" in course.at or "powered" in course.at:
                course.boot_id = record.boot_id
                yield from self._reached(course, "joined")

    def _notes_say(self, tail: "Tail") -> Iterator[str]:
        for line in tail.lines():
            note = _note(line)
            if note is None:
                continue
            course = self.course_of(NodeId(note.about))
            if note.note == "boot_seen" and course is not None:
                stage = NOTED.get(note.detail.partition(":")[0].strip())
                if stage is not None:
                    yield from self._reached(course, stage, at_ms=note.at_ms)
            elif note.note == "join_admitted" and course is not None:
                yield from self._reached(course, "admitted", at_ms=note.at_ms)
            elif note.note in ("join_refused", "boot_failed", "quarantined"):
                yield f"{note.about or 'somebody'}: {note.note.replace('_', ' ')}: {note.detail}"

    def _console_says(self, course: Course) -> Iterator[str]:
        """What a machine prints says how far it is where the node that serves it shows us no notes."""
        for line in self._consoles[course.guest.uuid].lines():
            if "powered" in course.at and "joined" not in course.at:
                yield from self._reached(course, "kernel")
                if IMAGE_WORDS in line:
                    yield from self._reached(course, "image")

    def _reached(self, course: Course, stage: Stage, more: str = "", at_ms: int = 0) -> Iterator[str]:
        if stage in course.at:
            return
        course.at[stage] = at_ms or now_ms()
        begun = course.at.get("powered")
        took = f" in {(course.at[stage] - begun) / 1_000:.0f} s" if stage == "joined" and begun is not None else ""
        yield f"{self._name(course)} {WORDS[stage]}{took}{more}"

    def _name(self, course: Course) -> str:
        return course.node or course.guest.name


class Tail:
    """The lines that a file gets from now on."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._at = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def lines(self) -> list[bytes]:
        """What was added since the last look; of more than ``bytes_max`` the end."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                if size < self._at:
                    self._at, self._rest = 0, b""
                self._at = max(self._at, size - self._bytes_max)
                file.seek(self._at)
                data = self._rest + file.read(self._bytes_max)
                self._at = file.tell()
        except OSError:
            return []
        *lines, self._rest = data.split(b"\n")
        self._rest = self._rest[-self._bytes_max :]
        return lines


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an agent's log that is a note."""

    at_ms: int
    kind: str
    note: str = ""
    about: str = ""
    detail: str = ""


def _note(line: bytes) -> _Note | None:
    if b'"note"' not in line:
        return None
    try:
        found = msgspec.json.decode(line, type=_Note)
    except msgspec.DecodeError:
        return None
    return found if found.kind == "note" else None


def machine_in(records: dict[str, Change], guest: Guest) -> MachineRecord | None:
    """What the rack has on record of a machine."""
    for _, change in sorted(records.items()):
        if isinstance(change.data, MachineRecord) and same_machine(change.data.guid, guest.uuid):
            return change.data
    return None


def course_text(courses: list[Course], from_ms: int) -> str:
    """A table of who reached what when, in seconds from ``from_ms``."""
    head = ("machine", "node", *STAGES)
    rows = [head]
    for course in courses:
        times = [f"{(course.at[s] - from_ms) / 1_000:.1f}" if s in course.at else "-" for s in STAGES]
        rows.append((course.guest.name, course.node or "-", *times))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "".join(
        "  ".join(word.ljust(w) for word, w in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )
