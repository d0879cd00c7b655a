"""``rack upgrade``: begin, halt and resume a change of the image that nodes run, and show how far it is.

The record is all there is to it: the rack's members carry it on by themselves, whether anybody watches or not.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from core.errors import InputError
from core.ids import NO_IMAGE, ImageId, NodeId
from core.records import UPGRADE, AnyRecord, Change, Lifecycle, MemberRecord, UpgradeRecord
from drivers.rack_state import RackState

ATTEMPTS_MAX = 20
TURN_S = 180.0
"""What a node takes, until one has been seen: assumed for a server whose firmware tests itself for a minute or two."""
PARALLEL_MAX = 100


class Records(Protocol):
    """Reading and writing shared records, as ``drivers.zookeeper_operator.Operator`` does."""

    def read(self, path: str) -> Change: ...

    def put(self, path: str, record: AnyRecord, version: int) -> bool: ...

    def create(self, path: str, record: AnyRecord) -> bool: ...


# -- wishes ------------------------------------------------------------------------------------------------------------


def begin(records: Records, members: Mapping[NodeId, MemberRecord], image: ImageId, parallel: int) -> str:
    """Begin an upgrade of every node to ``image``; what was begun, in words.

    Raises: InputError if one is under way, or no member was booted from an image.
    """
    running = Counter(member.image for member in members.values() if member.image)
    if not running:
        raise InputError([f"rack upgrade start {image}: no member was booted from an image; 'rack status' lists them"])
    left = [(count, name) for name, count in running.items() if name != image]
    if not left:
        raise InputError([f"rack upgrade start {image}: every node that was booted from an image runs it already"])
    previous = max(left)[1]
    new = UpgradeRecord(image=image, previous=previous, parallel=parallel)

    def change(old: UpgradeRecord | None) -> UpgradeRecord:
        if old is not None and old.state == "running":
            allowed = "'rack upgrade halt' first" if old.image != image else "'rack upgrade status' shows how far it is"
            raise InputError([f"rack upgrade start {image}: an upgrade to {old.image} is under way; {allowed}"])
        if old is not None and old.current:
            waits = ", ".join(turn.node for turn in old.current)
            raise InputError(
                [f"rack upgrade start {image}: {waits} is still taken back from the last one; wait for it"]
            )
        return new

    _change(records, change)
    others = [f"{count} run {name}" for count, name in sorted(left) if name != previous]
    more = f" ({', '.join(others)}: they are taken along)" if others else ""
    return f"upgrade of {sum(count for count, _ in left)} nodes from {previous} to {image} has begun{more}"


def set_state(records: Records, wish: Literal["halt", "resume"]) -> str:
    """Halt or resume the upgrade; what came of it, in words.

    Raises: InputError if there is nothing to halt or resume.
    """
    said = ""

    def change(old: UpgradeRecord | None) -> UpgradeRecord | None:
        nonlocal said
        if old is None:
            raise InputError([f"rack upgrade {wish}: no upgrade was ever begun; 'rack upgrade start' begins one"])
        if old.state == "done":
            raise InputError([f"rack upgrade {wish}: the upgrade to {old.image} is done"])
        if wish == "halt":
            said = f"the upgrade to {old.image} is halted: {old.reason or 'by the operator'}"
            return None if old.state == "halted" else _replace(old, "halted", "by the operator")
        said = f"the upgrade to {old.image} goes on"
        return None if old.state == "running" else _replace(old, "running", "")

    _change(records, change)
    return said


def _replace(old: UpgradeRecord, state: Literal["running", "halted"], reason: str) -> UpgradeRecord:
    return msgspec.structs.replace(old, state=state, reason=reason)


def _change(records: Records, change: Callable[[UpgradeRecord | None], UpgradeRecord | None]) -> None:
    """Change the record by compare-and-set. Raises: InputError if it changes again and again meanwhile."""
    for _ in range(ATTEMPTS_MAX):
        found = records.read(UPGRADE)
        new = change(found.data if isinstance(found.data, UpgradeRecord) else None)
        if new is None:
            return
        if records.create(UPGRADE, new) if found.data is None else records.put(UPGRADE, new, found.version):
            return
    raise InputError([f"rack upgrade: its record changed {ATTEMPTS_MAX} times meanwhile; try again"])


# -- how far it is -----------------------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One node of an upgrade: what it runs, and what it is about, in words."""

    node: NodeId
    domain: str
    image: ImageId
    step: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """An upgrade at one moment. ``rounds``: turns that are still to come, the present ones counted."""

    record: UpgradeRecord
    rows: tuple[Row, ...]
    done: int
    total: int
    rounds: int

    @property
    def over(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.record.state == "done" or (self.record.state == "halted" and not self.record.current)


def progress(rack: RackState) -> Progress | None:
    """How far the upgrade is; None if none was ever begun."""
    record = rack.upgrade
    if record is None:
        return None
    members, lives = rack.members, rack.lives
    turns = {turn.node: turn.boot_id for turn in record.current}
    nodes = sorted({*(node for node, member in members.items() if member.image), *turns, *record.done})
    rows = []
    for node in nodes:
        member, life = members.get(node), lives.get(node)
        domain = member.power_domain if member is not None else life.power_domain if life is not None else ""
        image = member.image if member is not None else NO_IMAGE
        state = life.state if life is not None else None
        rows.append(Row(node=node, domain=domain, image=image, step=_step(record, node, member, state)))
    left = Counter(row.domain for row in rows if row.node not in record.done and row.image != record.image)
    rounds = sum(-(-count // max(1, record.parallel)) for count in left.values())
    done = sum(1 for row in rows if row.node in record.done or (row.image == record.image and row.node not in turns))
    return Progress(record=record, rows=tuple(rows), done=done, total=len(rows), rounds=rounds)


def _step(record: UpgradeRecord, node: NodeId, member: MemberRecord | None, state: Lifecycle | None) -> str:
    """What a node is about, in words."""
    turn = next((turn for turn in record.current if turn.node == node), None)
    if turn is None:
        if member is not None and member.image == record.image:
            return "done"
        where = "is away" if member is None else "waits for its turn" if record.state == "running" else ""
        return f"{where}, is to be done again" if node in record.done else where
    if record.state == "halted":
        return "is taken back" if member is None or member.image == record.image else "goes back into service"
    if member is None:
        return "restarts into the new image"
    if member.boot_id == turn.boot_id:
        return "gives its services away" if state is Lifecycle.DRAINING else "stages the image"
    if member.image != record.image:
        return "came back with its old image"
    return "passes the health gate" if member.storage_ok else "is back, and does not reach the storage"


class Pace:
    """What a turn takes: as assumed until one was seen from its begin to its end, then as seen."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._rounds = -1
        self._since_s: float | None = None
        self._seen: list[float] = []

    def saw(self, progress: Progress) -> None:
        """Take one look at an upgrade."""
        now_s, fewer = self._now_s(), self._rounds - progress.rounds
        if self._rounds < 0:
            self._since_s = now_s if not progress.done and not progress.record.current else None
        elif fewer > 0:
            if self._since_s is not None:
                self._seen.append((now_s - self._since_s) / fewer)
            self._since_s = now_s
        self._rounds = progress.rounds

    @property
    def turn_s(self) -> float:
        """What a turn takes, in seconds."""
        return sum(self._seen) / len(self._seen) if self._seen else TURN_S

    @property
    def measured(self) -> bool:
        """Whether that was seen, not assumed."""
        return bool(self._seen)


def headline(progress: Progress, pace: Pace | None = None) -> str:
    """One sentence about an upgrade."""
    record = progress.record
    said = f"upgrade to {record.image} from {record.previous}: {progress.done} of {progress.total} nodes"
    match record.state:
        case "done":
            return f"{said}, done"
        case "halted":
            return f"{said}, HALTED: {record.reason or 'nobody said why'}"
        case "running":
            if pace is None or not progress.rounds:
                return f"{said}, running"
            how = "as seen" if pace.measured else "assumed"
            left_s = progress.rounds * pace.turn_s
            return f"{said}, running; about {span(left_s)} left ({span(pace.turn_s)} a turn, {how})"


def span(seconds: float) -> str:
    """A duration for a person."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6_000
        else f"{seconds / 3_600:.1f} h"
    )


def table(progress: Progress) -> Sequence[tuple[str, str, str, str]]:
    """The rows for a person, heads first."""
    rows = [(row.node, row.domain, row.image or "–", row.step) for row in progress.rows]
    return [("NODE", "POWER DOMAIN", "IMAGE", "STEP"), *rows]
