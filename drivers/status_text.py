"""A rack's state as a table for a person at a terminal."""

from collections.abc import Iterable, Sequence

from core.ids import NodeId
from core.records import Instance, Lifecycle, MemberRecord
from core.specs import ServiceSpec
from drivers import refusals
from drivers.rack_state import RackState
from drivers.status_machines import AS_ABOVE, machine_rows, quarantine_lines, upgrade_lines
from formats.columns import INDENT, Row, columns, in_order, wrapped
from formats.paint import Paint, harmless

NODES_MAX = 60
"""Nodes that a table lists; of a larger rack only those that are not simply joined, and a count of the others."""
SAID_MAX = 40

_GOOD = (Lifecycle.JOINED,)
_BAD = (Lifecycle.LOST, Lifecycle.SUSPECT, Lifecycle.QUARANTINED, Lifecycle.RECOVERING)


def status_text(rack: RackState, paint: Paint, room: int = 0) -> str:
    """Write the whole table; it ends with a newline. ``room``: columns of the terminal, 0: as many as it takes."""
    parts = [
        _headline(rack, paint, room),
        upgrade_lines(rack, paint, room),
        _nodes(rack, paint, room),
        columns(("FOUND AT", "MACHINE", "NODE", "ACCESS", "REMARKS"), machine_rows(rack, paint), paint, room, AS_ABOVE),
        columns(("SINGLETON", "HOLDER", "EPOCH", "STATE", "FOR", "REMARKS"), _singleton_rows(rack, paint), paint, room),
        columns(("COPIES", "RUNNING", "ON"), _copy_rows(rack, paint), paint, room),
        columns(("POWER", "IN FLIGHT"), _power_rows(rack, paint), paint, room),
        _listed("storage", rack.storage, paint.plain, paint, room),
        _listed("fences", _fences(rack), paint.bad, paint, room),
        quarantine_lines(rack, paint, room),
        _listed("not as the inventory says", rack.problems, paint.bad, paint, room),
        columns(refusals.HEAD, refusals.rows(rack.views, rack.at), paint, room),
        _listed("pending", rack.pending(), paint.plain, paint, room),
        _listed("not reached", rack.not_reached(), paint.bad, paint, room),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def short_time(ms: int) -> str:
    """Show a duration for a person, in its largest fitting unit."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= 2 * size or unit == "s":
            return f"{ms // size} {unit}"
    return ""


# -- parts -------------------------------------------------------------------------------------------------------------


def _headline(rack: RackState, paint: Paint, room: int) -> list[str]:
    lives, members, cluster = rack.lives, rack.members, rack.cluster
    known = sorted({*rack.nodes, *lives})
    joined = [node for node in known if node in members]
    said = [f"{len(joined)} of {len(known)} nodes are members"]
    ensemble = rack.ensemble
    if ensemble is not None:
        said.append(f"ensemble of {len(ensemble.voters)}, configuration {ensemble.config:#x}")
        said.append(f"led by {rack.leader}" if rack.leader else "no server says that it leads")
    if cluster is not None and (cluster.joining or cluster.leaving):
        change = [f"{' '.join(cluster.joining)} joining"] if cluster.joining else []
        change += [f"{' '.join(cluster.leaving)} leaving"] if cluster.leaving else []
        said.append(f"its change under way: {', '.join(change)}")
    brakes = [node for node, view in sorted(rack.views.items()) if view.brake]
    text = "; ".join(said)
    if room and len(text) + 2 + len(rack.at) > room:
        lines = [*wrapped(paint.strong(text), room, 0, INDENT), " " * INDENT + paint.dim(rack.at)]
    else:
        lines = [f"{paint.strong(text)}  {paint.dim(rack.at)}"]
    if brakes:
        storm = f"storm brake: {' '.join(brakes)} saw too many members disappear and fence nobody"
        lines += wrapped(paint.bad(storm), room, 0, INDENT)
    return lines


def _nodes(rack: RackState, paint: Paint, room: int) -> list[str]:
    """The table of nodes; with what they booted where any of them booted an image."""
    head = ("NODE", "STATE", "SESSION", "BOOTS", "ENSEMBLE", "IMAGE", "REMARKS")
    rows = _node_rows(rack, paint)
    if not any(row[5] for row in rows):
        return columns((*head[:5], head[6]), [(*row[:5], row[6]) for row in rows], paint, room)
    return columns(head, rows, paint, room)


def _node_rows(rack: RackState, paint: Paint) -> list[Row]:
    lives, members, power = rack.lives, rack.members, rack.power
    ensemble, left_out = rack.ensemble, 0
    rows: list[Row] = []
    known = sorted({*rack.nodes, *lives}, key=in_order)
    for node in known:
        life, member = lives.get(node), members.get(node)
        state = life.state if life is not None else None
        voter = ensemble is not None and node in ensemble.voters
        remarks = _remarks(rack, node, member)
        if life is not None and life.reason:
            remarks.append("why: see below" if state is Lifecycle.QUARANTINED else life.reason)
        order = power.get(node)
        if order is not None and order.action and member is None:
            remarks.append(f"{order.action} ordered by {order.by}, generation {order.generation}")
        if len(known) > NODES_MAX and state is Lifecycle.JOINED and not voter and not remarks:
            left_out += 1
            continue
        mark = ("leader" if node == rack.leader else "voter") if voter else ""
        session = f"{member.session:#x}" if member is not None else "–"
        boots = str(life.attempts) if life is not None else "–"
        image = member.image if member is not None else ""
        rows.append((paint.node(node), _state(state, paint), session, boots, mark, image, "; ".join(remarks)))
    if left_out:
        rows.append((paint.dim(f"{left_out} more"), "joined", "", "", "", "", ""))
    return rows


def _state(state: Lifecycle | None, paint: Paint) -> str:
    if state is None:
        return paint.dim("unknown")
    return paint.good(state) if state in _GOOD else paint.bad(state) if state in _BAD else state


def _remarks(rack: RackState, node: NodeId, member: MemberRecord | None) -> list[str]:
    if member is None:
        return []
    said = [] if member.fit else ["takes nothing new"]
    said += [f"unfit for {' '.join(member.unfit)}"] if member.unfit else []
    volumes = any(spec.volume for spec in rack.services)
    said += [] if member.storage_ok or not volumes else ["cannot write to the storage"]
    if rack.ensemble is not None and node in rack.ensemble.voters and not member.server:
        said.append("its ZooKeeper server has not caught up")
    return said


def _singleton_rows(rack: RackState, paint: Paint) -> list[Row]:
    rows: list[Row] = []
    for spec in rack.services:
        if spec.run != "singleton":
            continue
        term, lease = rack.term(spec.name), rack.lease(spec.name)
        epoch = str(term.epoch) if term is not None else "–"
        if lease is None:
            state, holder, since = paint.bad("nobody holds it"), "–", "–"
        else:
            holder = paint.node(lease.node)
            shown = rack.shown(lease.node, spec.name)
            serving = shown.serving if shown is not None else term is not None and term.serving
            state = paint.good("serving") if serving else shown.state if shown is not None else "not seen serving"
            since = _since(rack, lease.node, spec)
        said = []
        if term is not None:
            said += [f"{len(term.unfenced)} to be fenced"] if term.unfenced else []
            said += [f"{len(term.blocked)} kept blocked"] if term.blocked else []
        rows.append((spec.name, holder, epoch, state, since, "; ".join(said)))
    return rows


def _since(rack: RackState, node: NodeId, spec: ServiceSpec) -> str:
    """How long the holder may have admitted clients, by its own clock."""
    view, shown = rack.views.get(node), rack.shown(node, spec.name)
    if view is None or shown is None or not shown.serving or shown.admit_at_ms < 0:
        return "–"
    return short_time(max(0, view.at_ms - shown.admit_at_ms))


def _copy_rows(rack: RackState, paint: Paint) -> list[Row]:
    rows: list[Row] = []
    members = rack.members
    for spec in rack.services:
        if spec.run == "singleton":
            continue
        running = [node for node in rack.running(spec.name) if node in members]
        wanted = len(members) if spec.run == "everywhere" else spec.count
        count = f"{len(running)} of {wanted}"
        missing = [node for node in sorted(members, key=in_order) if node not in running]
        where = "everywhere" if spec.run == "everywhere" and not missing else _some(running)
        if spec.run == "everywhere" and missing:
            where = f"all but {_some(missing)}" if running else "nowhere seen"
        rows.append((spec.name, paint.good(count) if len(running) >= wanted else paint.bad(count), where))
    return rows


def _some(nodes: Sequence[str], most: int = 12) -> str:
    return " ".join(nodes[:most]) + (f" and {len(nodes) - most} more" if len(nodes) > most else "")


def _power_rows(rack: RackState, paint: Paint) -> list[Row]:
    rows: list[Row] = []
    for domain, record in rack.domains.items():
        for slot in record.slots:
            order = rack.power.get(slot.node)
            action = order.action if order is not None and order.generation == slot.generation else "an order"
            kind = paint.bad("fence") if slot.fence else "boot"
            rows.append((domain, f"{slot.node}: {action}, generation {slot.generation} ({kind})"))
    return rows


def _fences(rack: RackState) -> tuple[str, ...]:
    """Client instances that are still to be fenced, and those that must stay blocked."""
    said = []
    for spec in rack.services:
        term = rack.term(spec.name) if spec.run == "singleton" else None
        if term is not None:
            said += [f"{spec.name}: {_named(one)} is to be fenced" for one in term.unfenced]
            said += [f"{spec.name}: {_named(one)} stays blocked until {one.node} boots" for one in term.blocked]
    return tuple(said)


def _named(instance: Instance) -> str:
    return f"the opening {instance.address} of {instance.node} at epoch {instance.epoch}"


def _listed(head: str, said: Iterable[str], colour: Paint.Colour, paint: Paint, room: int) -> list[str]:
    lines = list(said)
    if not lines:
        return []
    more = [paint.dim(f"  and {len(lines) - SAID_MAX} more")] if len(lines) > SAID_MAX else []
    shown = [part for line in lines[:SAID_MAX] for part in wrapped(colour(harmless(line)), room, 2, INDENT)]
    return [paint.dim(head.upper()), *shown, *more]
