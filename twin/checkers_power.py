"""Checkers of power orders and of the storage's blocklist: nothing late, nothing twice, nothing in a storm."""

from collections.abc import Sequence

from core.ids import BootId, DomainId, NodeId
from core.specs import NodeSpec, Timing
from trial.marks import NoteMark
from twin.truth import PowerAct, Truth

Stated = dict[tuple[NodeId, NodeId], list[NoteMark]]
"""Notes on power orders and of joining, in order of time, by who made them and for which node."""

_FENCES = ("off", "cycle")
_ENDED = ("power_confirmed", "power_fence_confirmed", "power_failed")
_ALIVE = ("up", "frozen")
NEWS_MS = 1_000
"""A steward hears that a node has joined within this time; an order that is sent meanwhile is nobody's fault."""


def power_dated(truth: Truth) -> str:
    """Say which power order was carried out late, or on a node that had come back since (rule 9), or ""."""
    newest: dict[NodeId, int] = {}
    stated = _stated(truth)
    for act in truth.power:
        if act.at_ms > act.deadline_at_ms:
            late_ms = act.at_ms - act.deadline_at_ms
            return f"{act.by} sent '{act.action}' to {act.node} at {act.at_ms} ms, {late_ms} ms after its deadline"
        if act.generation < newest.get(act.node, 0):
            return (
                f"{act.by} sent order {act.generation} to {act.node} at {act.at_ms} ms, after order {newest[act.node]}"
            )
        newest[act.node] = act.generation
        if act.action in _FENCES and act.was == "up":
            back_ms = _came_back(act, stated)
            if back_ms >= 0:
                return f"{act.by} sent '{act.action}' to {act.node} at {act.at_ms} ms; it had come back at {back_ms} ms"
    return ""


def power_committed(truth: Truth) -> str:
    """Say which power order was carried out that nobody had committed, or twice (rule 9), or ""."""
    done: dict[NodeId, int] = {}
    for act in truth.power:
        order = f"{act.by} sent '{act.action}' to {act.node} at {act.at_ms} ms with generation {act.generation}"
        if not act.committed:
            return f"{order}, which was not committed"
        if act.generation == done.get(act.node):
            return f"{order}, which had been carried out before"
        done[act.node] = act.generation
    return ""


def _stated(truth: Truth) -> Stated:
    """List what stewards stated of their power orders, and nodes of their joining."""
    stated: Stated = {}
    for note in truth.notes:
        if note.kind in ("power_ordered", "joined") or note.kind in _ENDED:
            stated.setdefault((note.by, note.node), []).append(note)
    return stated


def _came_back(act: PowerAct, stated: Stated) -> int:
    """When the node joined between the order and its execution, early enough for the news to arrive, or -1."""
    ordered = [n.at_ms for n in stated.get((act.by, act.node), ()) if n.kind == "power_ordered"]
    since = max([at_ms for at_ms in ordered if at_ms <= act.at_ms], default=act.at_ms)
    joined = [n.at_ms for n in stated.get((act.node, act.node), ()) if n.kind == "joined"]
    return max([at_ms for at_ms in joined if since < at_ms < act.at_ms - NEWS_MS], default=-1)


def no_majority_fenced(truth: Truth, nodes: Sequence[NodeSpec], timing: Timing) -> str:
    """Say when a healthy majority that had disappeared within a short time lost its power by order (rule 8), or "".

    A node that has joined again since is no part of it, nor one that never was a member.
    """
    joined: dict[NodeId, int] = {}
    for note in truth.notes:
        if note.kind == "joined":
            joined.setdefault(note.by, note.at_ms)
    fences = [
        act
        for act in truth.power
        if act.action in _FENCES
        and act.was == "up"
        and act.obeyed
        and (not truth.founders or joined.get(act.node, act.at_ms) < act.at_ms)
    ]
    lost_ms = [_lost_ms(truth, act) for act in fences]
    joins = [(note.at_ms, note.by) for note in truth.notes if note.kind == "joined"]
    for index, act in enumerate(fences):
        near = {
            other.node: 0
            for other, gone_ms in zip(fences[: index + 1], lost_ms, strict=False)
            if lost_ms[index] - gone_ms <= timing.brake_hold_ms
            and not any(by == other.node and other.at_ms < at_ms <= act.at_ms for at_ms, by in joins)
        }
        if 2 * len(near) > len(nodes):
            return f"{len(near)} of {len(nodes)} nodes were power-fenced while running, until {act.at_ms} ms"
    return ""


def _lost_ms(truth: Truth, act: PowerAct) -> int:
    """When the node that was fenced had been declared lost; the fence itself, if nobody did."""
    told = [note.at_ms for note in truth.notes if note.kind == "lost" and note.node == act.node]
    return max([at_ms for at_ms in told if at_ms <= act.at_ms], default=act.at_ms)


def brake_respected(truth: Truth, timing: Timing) -> str:
    """Say which node power-fenced while its own brake was engaged (rule 8), or "". Orders under way may finish."""
    for by in dict.fromkeys(act.by for act in truth.power):
        engaged = [n for n in truth.notes if n.by == by and n.kind in ("brake_engaged", "brake_released", "joined")]
        for act in truth.power:
            if act.by != by or act.action not in _FENCES or act.was == "off":
                continue
            before = [n for n in engaged if n.at_ms <= act.at_ms]
            if before and before[-1].kind == "brake_engaged" and act.at_ms - before[-1].at_ms > timing.power_ms_max:
                return f"{by} sent '{act.action}' to {act.node} at {act.at_ms} ms, braked since {before[-1].at_ms} ms"
    return ""


def one_fence_per_domain(truth: Truth, nodes: Sequence[NodeSpec]) -> str:
    """Say when two power fences were under way in one power domain (rule 8), or ""."""
    domain_of = {node.id: node.power_domain for node in nodes}
    under_way: dict[DomainId, tuple[int, PowerAct]] = {}
    stated = _stated(truth)
    for act in truth.power:
        if act.action not in _FENCES or act.was == "off":
            continue
        from_ms, to_ms = _under_way(act, stated)
        before = under_way.get(domain_of[act.node])
        if before is not None and from_ms < before[0] and before[1].node != act.node:
            return (
                f"{before[1].node} and {act.node} were power-fenced at once in {domain_of[act.node]} at {act.at_ms} ms"
            )
        if before is None or to_ms >= before[0]:
            under_way[domain_of[act.node]] = (to_ms, act)
    return ""


def _under_way(act: PowerAct, stated: Stated) -> tuple[int, int]:
    """From the commit of the order to its end, as its steward stated them."""
    mine = stated.get((act.by, act.node), [])
    begun = [n.at_ms for n in mine if n.kind == "power_ordered" and n.at_ms <= act.at_ms]
    ended = [n.at_ms for n in mine if n.kind in _ENDED and n.at_ms >= act.at_ms]
    over_ms = max(act.at_ms, act.deadline_at_ms)  # after it nobody acts on the order any more, whoever still lives
    return max(begun, default=act.at_ms), min([*ended, over_ms]) if ended else act.at_ms


def blocked_kept(truth: Truth) -> str:
    """Say which fenced instance could write again while its boot was alive (rule 6), or ""."""
    life: dict[NodeId, tuple[str, BootId]] = {}
    steps = sorted(
        [(c.at_ms, 0, i) for i, c in enumerate(truth.nodes) if c.axis == "power"]
        + [(b.at_ms, 1, i) for i, b in enumerate(truth.blocks)]
    )
    for at_ms, kind, index in steps:
        if kind == 0:
            change = truth.nodes[index]
            life[change.node] = (change.state, change.boot_id)
            continue
        block = truth.blocks[index]
        state, boot_id = life.get(block.instance.node, ("off", BootId("")))
        if block.change in ("lifted", "expired") and boot_id == block.instance.boot_id and state in _ALIVE:
            who = block.instance.address
            return f"{block.volume}: the block of {who} was {block.change} at {at_ms} ms, its boot alive"
    return ""
