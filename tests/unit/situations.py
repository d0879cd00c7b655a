"""Situations that the directed tests of the rules start from: real machines in the small world."""

from typing import Any

from core import effects as fx
from core import events as ev
from core.records import (
    Lifecycle,
    NodeRecord,
    TermRecord,
    member_path,
    node_path,
    term_path,
)
from tests.property.dumb_world import DumbWorld, node_spec

R1 = node_spec(1).rack


def term(world: DumbWorld, service: str) -> TermRecord:
    found = world.zk.tree[term_path(service)].data  # type: ignore[arg-type]
    assert isinstance(found, TermRecord)
    return found


def node_record(world: DumbWorld, index: int) -> NodeRecord:
    found = world.zk.tree[node_path(world.options.node_spec(index).id)].data
    assert isinstance(found, NodeRecord)
    return found


def drain(world: DumbWorld, index: int) -> None:
    """Ask as an operator for a node to be drained."""
    record = node_record(world, index)
    changed = NodeRecord(
        node=record.node,
        rack=record.rack,
        power_domain=record.power_domain,
        state=Lifecycle.DRAINING,
        boot_id=record.boot_id,
    )
    world.write_record(node_path(record.node), changed)


def strike(world: DumbWorld, kind: str, index: int) -> None:
    assert world.strike(kind, index), f"{kind} could not strike"


def served_elsewhere(world: DumbWorld, service: str, index: int) -> Any:
    return lambda: any(world.serves(node, service) for i, node in enumerate(world.nodes) if i != index)


def machine_state(world: DumbWorld, index: int) -> Any:
    return world.brains.machine(world.nodes[index].brain).view()


def fence_of(world: DumbWorld, since: int) -> Any:
    return [e for e in world.effects(fx.PowerOrder, since) if e[2].action != "on"]


def lose(world: DumbWorld, index: int) -> None:
    """A node freezes for good: lost, not off."""
    strike(world, "freeze", index)
    world.until(lambda: member_path(R1, world.options.node_spec(index).id) not in world.zk.tree)


def found_name(name: str) -> Any:
    return name


def beat(world: DumbWorld, kind: str, asked_ms: int, outcome: str = "ok", service: str = "db") -> ev.BeatAnswered:
    epoch = term(world, service).epoch
    return ev.BeatAnswered(
        at_ms=world.now,
        service=service,
        epoch=epoch,
        kind=kind,
        asked_ms=asked_ms,
        outcome=outcome,  # type: ignore[arg-type]
    )
