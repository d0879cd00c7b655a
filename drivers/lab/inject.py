"""Faults of a scenario on the lab: struck at their times, repeated, healed; all healed when the heal phase begins."""

from collections.abc import Sequence
from functools import partial

from core.ids import DomainId
from drivers.clock import now_ms
from drivers.lab.fault import LabFault, Strike
from drivers.lab.rack import LabRack
from drivers.lab.situation import LabSituation
from trial import targets
from trial.fault import Planned
from trial.marks import FaultMark, Marks


class Injector:
    """Everything that goes wrong in one run. ``arm`` once, ``heal_all`` after the fault phase."""

    def __init__(self, rack: LabRack, plan: Sequence[Planned[LabFault]], marks: Marks, seed: int) -> None:
        self._rack = rack
        self._plan = plan
        self._marks = marks
        self._situation = LabSituation(rack, seed)
        self._active: list[tuple[Strike, FaultMark]] = []
        self._count = 0
        self._to_come = 0
        self._over = False
        self.last_ms = now_ms()

    def arm(self, begin_ms: int, plan: Sequence[Planned[LabFault]] | None = None) -> None:
        """Schedule every fault with its repetitions, or those of ``plan``; ``begin_ms``: when its clock began."""
        for planned in self._plan if plan is None else plan:
            self._to_come += 1
            self._rack.timeline.at(begin_ms + planned.fault.at_ms, partial(self._strike, planned, planned.fault.times))

    @property
    def pending(self) -> bool:
        """Whether anything will still strike, or be healed by itself."""
        return self._to_come > 0 or self._rack.busy

    def heal_all(self) -> None:
        """Heal what is still broken, the latest first; nothing strikes any more."""
        self._over = True
        for strike, mark in reversed(self._active):
            self._heal(strike, mark)
        self._active.clear()

    def _strike(self, planned: Planned[LabFault], times: int) -> None:
        self._to_come -= 1
        if self._over:
            return
        fault = planned.fault
        if times > 1:
            self._to_come += 1
            self._rack.timeline.after(fault.every_ms, partial(self._strike, planned, times - 1))
        self._count += 1
        strike = Strike(
            f"{planned.kind}-{self._count}",
            nodes=targets.resolve(planned.terms, self._situation) if planned.terms else fault.aim(self._rack),
            pdus=self._pdus(planned.terms) if planned.kind == "power_loss" else (),
            switches=targets.named(planned.terms, "switch") if fault.STRIKES == "switches" else (),
        )
        self.last_ms = now_ms()
        if fault.STRIKES == "nodes" and fault.target and not strike.nodes:
            nobody = f"{fault.target}: nobody at the moment"
            self._marks.fault_ends(self._marks.fault_begins(planned.kind, nobody, (), now_ms()), now_ms())
            return
        mark = self._marks.fault_begins(planned.kind, fault.text(strike), strike.nodes, now_ms())
        self._active.append((strike, mark))
        fault.apply(self._rack, strike)
        if fault.for_ms:
            self._to_come += 1
            self._rack.timeline.after(fault.for_ms, partial(self._over_now, strike, mark))

    def _over_now(self, strike: Strike, mark: FaultMark) -> None:
        self._to_come -= 1
        self._heal(strike, mark)

    def _heal(self, strike: Strike, mark: FaultMark) -> None:
        if not strike.healed:
            strike.heal()
            self.last_ms = now_ms()
            self._marks.fault_ends(mark, now_ms())
            self._active = [(other, its) for other, its in self._active if other is not strike]

    def _pdus(self, terms: Sequence[targets.Target]) -> tuple[DomainId, ...]:
        """The whole power domains that a target names: PDUs, all of a rack's, or all."""
        nodes = self._rack.layout.nodes
        found: set[DomainId] = set()
        for term in terms:
            found |= {
                node.power_domain
                for node in nodes
                if term.kind == "all" or term.name == {"pdu": node.power_domain, "rack": node.rack}.get(term.kind)
            }
        return tuple(sorted(found))
