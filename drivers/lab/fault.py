"""What every fault of the lab has in common: what it struck, and how that is healed; its keys are ``trial.fault``'s.

The keys of each kind are those of the twin's fault of that name, so that one scenario file means the same in both
worlds; a test compares them. ``apply`` does the harm to real processes, cables and BMCs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec

import trial.fault
from core.ids import DomainId, NodeId

if TYPE_CHECKING:
    from drivers.lab.rack import LabRack

Undo = Callable[[], object]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
"""How often something odd happens before it is over."""


class Strike:
    """One occurrence of a fault: what it struck, and how that is healed. ``tag`` names its rules in the switch."""

    def __init__(
        self,
        tag: str,
        nodes: tuple[NodeId, ...] = (),
        pdus: tuple[DomainId, ...] = (),
        switches: tuple[str, ...] = (),
    ) -> None:
        self.tag = tag
        self.nodes = nodes
        self.pdus = pdus
        self.switches = switches
        self.healed = False
        self._undo: list[Undo] = []

    def undo(self, step: Undo) -> None:
        """Remember a step of the healing; steps run in reverse order."""
        self._undo.append(step)

    def heal(self) -> None:
        """Heal everything, once."""
        self.healed = True
        while self._undo:
            self._undo.pop()()


class LabFault(trial.fault.Fault, frozen=True, kw_only=True):
    """One ``[[fault]]`` of a scenario, and the harm it does to the lab."""

    def aim(self, rack: "LabRack") -> tuple[NodeId, ...]:
        """The nodes that a fault without a target picks itself."""
        return ()

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        """Do the harm."""
        raise NotImplementedError

    def text(self, strike: Strike) -> str:
        """Say in words what was struck, for the timeline."""
        where = strike.switches or strike.pdus or strike.nodes
        return ", ".join(where) or "the whole rack"
