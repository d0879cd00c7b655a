"""When a node is given up and left to the operator, and what is told of why (design 2.2)."""

import msgspec

from core import effects as fx
from core.boots import WORDS
from core.brain import Brain
from core.events import ConsoleSeen, OpFailed, OpSucceeded
from core.ids import BootId
from core.lifecycle import TRANSITIONS, after
from core.records import NodeRecord, node_path
from core.state import Subject, Ward

ME = Subject.WARD
TROUBLES_MAX = 8
"""So often is the BMC of a machine asked in vain that was found and never ran here: with the waits, some minutes."""
CONSOLE_CHARS = 2_000


def is_hopeless(b: Brain, ward: Ward, record: NodeRecord) -> bool:
    """Whether a node was tried often enough.

    One that ran here before is never given up for its BMC: where the mains fail, all do, and they come back.
    """
    if (record.state, "fails_too_often") not in TRANSITIONS:
        return False
    if record.attempts >= b.timing.boot_attempts_max:
        return True
    return _is_new(b, record) and ward.failures >= TROUBLES_MAX


def is_strange(b: Brain, record: NodeRecord) -> bool:
    """Whether a machine that runs is none of ours: found, not listed, and never switched on by this rack.

    Whatever runs there is somebody's. A listed one is ours by the operator's word.
    """
    listed = any(spec.id == record.node for spec in b.opening.inventory)
    return _is_new(b, record) and not listed and record.attempts == 0


def _is_new(b: Brain, record: NodeRecord) -> bool:
    return bool(b.opening.networks) and record.boot_id == BootId("")


def give_up(b: Brain, ward: Ward, record: NodeRecord) -> bool:
    """Quarantine a ward, with the tail of its console if it has one to read; True once that is written."""
    troubled = record.attempts < b.timing.boot_attempts_max
    if ward.console is None and not troubled:
        ward.step = "console"
        ward.op = b.op(ME, ward.node, "console")
        b.emit(fx.ReadConsole(op=ward.op, node=ward.node, ms_max=b.timing.console_ms_max))
        return False
    new = msgspec.structs.replace(
        record,
        state=after(record.state, "fails_too_often"),
        reason=_reason(b, ward, record),
        console=ward.console or "",
    )
    put = fx.Put(path=node_path(ward.node), data=new, version=ward.version)
    ward.op = b.commit(ME, ward.node, "quarantine", (put,))
    return True


def on_written(b: Brain, ward: Ward, event: OpSucceeded | OpFailed) -> None:
    """Say that a node was given up once that is true; who lost the race says nothing."""
    if isinstance(event, OpSucceeded) and ward.record is not None:
        b.note("quarantined", node=ward.node, detail=_reason(b, ward, ward.record))


def _reason(b: Brain, ward: Ward, record: NodeRecord) -> str:
    if record.attempts < b.timing.boot_attempts_max:
        return f"{ward.trouble} (asked {ward.failures} times)"
    said = f"{record.attempts} boots were ordered and it did not stay up"
    return f"{said}; the last time {WORDS[ward.stage]}" if record.guid else said


def on_console(b: Brain, ward: Ward, event: OpSucceeded | OpFailed) -> None:
    """Take what the console showed, or do without."""
    result = event.result if isinstance(event, OpSucceeded) else None
    ward.console = result.tail[-CONSOLE_CHARS:] if isinstance(result, ConsoleSeen) else ""
    b.timer_in(f"ward/{ward.node}", 0)
