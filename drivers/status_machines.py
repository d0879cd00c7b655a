"""The part of ``rack status`` about machines: those that were found and left alone, failed boots, images."""

from collections.abc import Iterator
from typing import Any

from core.identity import forms
from core.ids import NodeId
from core.records import Lifecycle, MachineRecord, NodeRecord
from drivers.rack_state import RackState
from formats.columns import INDENT, Row, in_order, wrapped
from formats.paint import Paint, harmless

CONSOLE_LINES_MAX = 12
CONSOLE_WIDTH = 110
CONSOLES_MAX = 5
"""So many consoles are shown: when a whole rack does not boot, they all say the same."""
ROWS_MAX = 40
AS_ABOVE = "as above"

BESIDE = "    │ "


def machine_rows(rack: RackState, paint: Paint) -> list[Row]:
    """The machines that were found and are no nodes, or have a problem, or are retired: BMC, identity, node, why.

    What the one before said as well is not said again: one forgotten password is the same for a whole rack.
    """
    rows: list[Row] = []
    before = ""
    left_out = 0
    for record in rack.machines:
        if record.node and not record.problem and not record.retired:
            continue
        said = [record.problem] if record.problem else []
        said += ["retired: it never boots here again"] if record.retired else []
        said += ["not named yet"] if not said else []
        if len(rows) >= ROWS_MAX:
            left_out += 1
            continue
        node, why = paint.node(record.node) if record.node else "–", "; ".join(said)
        shown = paint.dim(AS_ABOVE) if why == before and len(why) > len(AS_ABOVE) else paint.bad(why)
        rows.append((record.bmc or "–", identity(record), node, record.access or "–", shown))
        before = why
    if left_out:
        rows.append((paint.dim(f"{left_out} more"), "", "", "", paint.dim("rack status --json has them all")))
    return rows


def identity(record: MachineRecord) -> str:
    """A machine's GUID as a person reads one, in the order of its BMC."""
    return next(iter(forms(record.guid)), "–")


def upgrade_lines(rack: RackState, paint: Paint, room: int = 0) -> list[str]:
    """How far a change of the image has come."""
    record = rack.upgrade
    if record is None:
        return []
    of = len([node for node, life in rack.lives.items() if life.state is not Lifecycle.RETIRED])
    said = f"upgrade to image {record.image}: {record.state}, {len(record.done)} of {of} nodes run it and are well"
    if record.previous:
        said += f"; before: {record.previous}"
    if record.current:
        said += f"; now: {' '.join(turn.node for turn in record.current)}"
    lines = wrapped(paint.bad(said) if record.state == "halted" else paint.strong(said), room, 0, INDENT)
    if record.reason:
        lines += wrapped(paint.bad(harmless(record.reason)), room, 2, INDENT)
    if record.state == "halted":
        lines.append(paint.dim("  'rack upgrade resume' goes on, 'rack upgrade status' says more"))
    return lines


def quarantine_lines(rack: RackState, paint: Paint, room: int = 0) -> list[str]:
    """Why nodes were given up, and what they wrote last."""
    lines: list[str] = []
    given_up = [node for node, life in rack.lives.items() if life.state is Lifecycle.QUARANTINED]
    for number, node in enumerate(sorted(given_up, key=in_order)):
        life = rack.lives[node]
        why = f"{node}: {harmless(life.reason) or 'no reason is on record'}"
        lines += wrapped(paint.bad(why), room, 2, INDENT)
        if number >= CONSOLES_MAX:
            continue
        tail = _last_lines(life, min(room - len(BESIDE), CONSOLE_WIDTH) if room else CONSOLE_WIDTH)
        lines += [paint.dim(f"{BESIDE}{line}") for line in tail]
    if len(given_up) > CONSOLES_MAX:
        lines.append(paint.dim("  the consoles of the others are in rack status --json"))
    return [paint.dim("QUARANTINED"), *lines] if lines else []


def _last_lines(life: NodeRecord, width: int) -> Iterator[str]:
    lines = [harmless(line).rstrip() for line in life.console.splitlines()]
    for line in [line for line in lines if line][-CONSOLE_LINES_MAX:]:
        yield line if len(line) <= width else line[: width - 1] + "…"


# -- JSON --------------------------------------------------------------------------------------------------------------


def machines_plain(rack: RackState) -> dict[str, Any]:
    """The parts of ``rack status --json`` that are about machines."""
    upgrade = rack.upgrade
    return {
        "machines": [
            {
                "guid": record.guid,
                "uuids": forms(record.guid),
                "bmc": record.bmc,
                "node": record.node,
                "number": record.number,
                "access": record.access,
                "problem": record.problem,
                "retired": record.retired,
            }
            for record in rack.machines
        ],
        "machine_problems": rack.problems,
        "refusals": {node: view.refusals for node, view in sorted(rack.views.items()) if view.refusals},
        "images": images(rack),
        "upgrade": upgrade,
    }


def images(rack: RackState) -> dict[NodeId, str]:
    """What each member booted; nothing of those that were installed by hand."""
    return {node: member.image for node, member in sorted(rack.members.items()) if member.image}
