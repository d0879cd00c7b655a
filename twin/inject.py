"""Faults of a scenario in a world: struck at their times, repeated, healed; all healed when the heal phase begins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.ids import DomainId, NodeId
from trial import targets
from trial.fault import Planned
from trial.marks import FaultMark
from twin.faults.base import Fault, Strike
from twin.world.quirks import QUIRKS

if TYPE_CHECKING:
    from twin.world.world import World


class Injector:
    """Everything that goes wrong in one run. ``arm`` once before the run, ``heal_all`` after the fault phase."""

    def __init__(self, world: "World", plan: Sequence[Planned[Fault]]) -> None:
        self._world = world
        self._plan = plan
        self._situation = WorldSituation(world)
        self._active: list[tuple[Strike, FaultMark]] = []
        self._over = False

    def arm(self) -> None:
        """Schedule every fault with its repetitions."""
        for planned in self._plan:
            self._world.kernel.at(planned.fault.at_ms, self._strike, planned, planned.fault.times)

    def heal_all(self) -> None:
        """Heal what is still broken, the latest first; nothing strikes any more."""
        self._over = True
        for strike, mark in reversed(self._active):
            self._heal(strike, mark)
        self._active.clear()

    @property
    def active(self) -> tuple[FaultMark, ...]:
        """The faults that are not healed yet, in order of their begin."""
        return tuple(mark for strike, mark in self._active if not strike.healed)

    def _strike(self, planned: Planned[Fault], times: int) -> None:
        if self._over:
            return
        fault = planned.fault
        if times > 1:
            self._world.kernel.after(fault.every_ms, self._strike, planned, times - 1)
        terms = tuple(_as_called(term, self._world) for term in planned.terms)
        strike = Strike(
            nodes=targets.resolve(terms, self._situation) if planned.terms else fault.aim(self._world),
            pdus=_pdus(planned.terms, self._world) if planned.kind == "power_loss" else (),
            switches=targets.named(planned.terms, "switch") if fault.STRIKES == "switches" else (),
        )
        if fault.STRIKES == "nodes" and fault.target and not strike.nodes:
            mark = self._world.fault_begins(planned.kind, f"{fault.target}: nobody at the moment", ())
            self._world.fault_ends(mark)
            return
        mark = self._world.fault_begins(planned.kind, fault.text(strike), strike.nodes)
        mark.waits = planned.kind in QUIRKS
        fault.apply(self._world, strike)
        self._active.append((strike, mark))
        if fault.for_ms:
            self._world.kernel.after(fault.for_ms, self._heal, strike, mark)

    def _heal(self, strike: Strike, mark: FaultMark) -> None:
        if not strike.healed:
            strike.heal()
            self._world.fault_ends(mark)
            self._active = [(other, its) for other, its in self._active if other is not strike]


class WorldSituation:
    """What targets ask of a world (``trial.targets.Situation``)."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._stream = world.streams.get("fault-targets")

    @property
    def nodes(self) -> Sequence[NodeId]:
        return self._world.nodes

    def nodes_of(self, kind: str, name: str) -> Sequence[NodeId]:
        """The nodes of a rack, PDU or switch."""
        rack = self._world.rack
        match kind:
            case "rack":
                found = rack.nodes_of_rack(name)
            case "pdu":
                found = rack.nodes_of_pdu(name)
            case _:
                found = rack.nodes_of_switch(name)
        return tuple(self._world.called(node) for node in found)

    def is_up(self, node: NodeId) -> bool:
        return self._world.power.chassis[node].state == "up"

    def holder_of(self, service: str) -> NodeId:
        return self._world.holder_of(service)

    def standby_of(self, service: str) -> NodeId:
        return self._world.standby_of(service)

    def steward_of(self, node: NodeId) -> NodeId:
        return self._world.steward_of(node)

    def leader(self) -> NodeId:
        return self._world.ensemble.leader or NodeId("")

    def voters(self) -> Sequence[NodeId]:
        return self._world.ensemble.voters

    def choose(self, count: int) -> int:
        return self._stream.integers(0, count)


def _as_called(term: targets.Target, world: "World") -> targets.Target:
    """The same target with the names that its servers go by now."""
    inner = tuple(_as_called(one, world) for one in term.inner)
    if term.kind == "node":
        return targets.Target(kind="node", name=world.called(NodeId(term.name)), inner=inner)
    if term.kind == "steward-of":
        return targets.Target(kind=term.kind, name=world.called(NodeId(term.name)), inner=inner)
    return targets.Target(kind=term.kind, name=term.name, inner=inner) if inner else term


def _pdus(terms: Sequence[targets.Target], world: "World") -> tuple[DomainId, ...]:
    """The whole power domains that a target names: PDUs, all of a rack's, or all."""
    found: list[str] = []
    for term in terms:
        if term.kind == "pdu":
            found.append(term.name)
        elif term.kind == "rack":
            found += world.rack.pdus_of_rack(term.name)
        elif term.kind == "all":
            found += [pdu.id for pdu in world.rack.pdus]
    return tuple(pdu.id for pdu in world.rack.pdus if pdu.id in found)
