"""The part of ``rack status`` about machines: those that were found and left alone, failed boots, images."""

from collections.abc import Iterator, Sequence
from typing import Any

from core.identity import forms
from core.ids import NodeId
from core.records import Lifecycle, MachineRecord, NodeRecord
from drivers.rack_state import RackState
from formats.paint import Paint, harmless

CONSOLE_LINES_MAX = 12
CONSOLE_WIDTH = 110

Row = Sequence[str]


def machine_rows(rack: RackState, paint: Paint) -> list[Row]:
    """The machines that were found and are no nodes, or have a problem, or are retired: BMC, identity, node, why."""
    rows: list[Row] = []
    for record in rack.machines:
        if record.node and not record.problem and not record.retired:
            continue
        said = [record.problem] if record.problem else []
        said += ["retired: it never boots here again"] if record.retired else []
        said += ["not named yet"] if not said else []
        node = paint.node(record.node) if record.node else "–"
        rows.append((record.bmc or "–", identity(record), node, record.access or "–", paint.bad("; ".join(said))))
    return rows


def identity(record: MachineRecord) -> str:
    """A machine's GUID as a person reads one, in the order of its BMC."""
    return next(iter(forms(record.guid)), "–")


def upgrade_lines(rack: RackState, paint: Paint) -> list[str]:
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
    lines = [paint.bad(said) if record.state == "halted" else paint.strong(said)]
    if record.reason:
        lines.append(paint.bad(f"  {harmless(record.reason)}"))
    if record.state == "halted":
        lines.append(paint.dim("  'rack upgrade resume' goes on, 'rack upgrade status' says more"))
    return lines


def quarantine_lines(rack: RackState, paint: Paint) -> list[str]:
    """Why nodes were given up, and what they wrote last."""
    lines: list[str] = []
    for node, life in sorted(rack.lives.items()):
        if life.state is not Lifecycle.QUARANTINED:
            continue
        lines.append(paint.bad(f"  {node}: {harmless(life.reason) or 'no reason is on record'}"))
        tail = _last_lines(life)
        lines += [paint.dim(f"    │ {line}") for line in tail]
    return [paint.dim("QUARANTINED"), *lines] if lines else []


def _last_lines(life: NodeRecord) -> Iterator[str]:
    lines = [harmless(line).rstrip() for line in life.console.splitlines()]
    for line in [line for line in lines if line][-CONSOLE_LINES_MAX:]:
        yield line if len(line) <= CONSOLE_WIDTH else line[: CONSOLE_WIDTH - 1] + "…"


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
