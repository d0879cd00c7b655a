"""What every fault of the twin has in common: what it struck, and how that is healed; its keys are ``trial.fault``'s.

A fault is one file: a frozen record of its keys, the first line of its docstring (for the docs), ``apply``, and a line
in ``FAULTS``. ``apply`` does the harm and says with ``strike.undo`` how it is healed.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec

import trial.fault
from core.ids import DomainId, NodeId
from twin.world.quirks import QuirkName, Quirks, Says

if TYPE_CHECKING:
    from twin.world.world import World

Undo = Callable[[], object]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
"""How often a rare behaviour occurs before it is over."""


class Strike:
    """One occurrence of a fault: what it struck, and how that is healed."""

    def __init__(
        self,
        nodes: tuple[NodeId, ...] = (),
        pdus: tuple[DomainId, ...] = (),
        switches: tuple[str, ...] = (),
    ) -> None:
        self.nodes = nodes
        self.pdus = pdus
        self.switches = switches
        self.healed = False
        self._undo: list[Undo] = []

    def undo(self, step: Undo) -> None:
        """Remember a step of the healing; steps run in reverse order."""
        self._undo.append(step)

    def arm(
        self,
        quirks: Quirks,
        name: QuirkName,
        count: int = 1,
        ms: int = 0,
        says: Says = "unanswered",
        act: Callable[[], None] | None = None,
    ) -> None:
        """Let the next ``count`` occurrences of something be rare (``Quirks.arm``); what is left is healed."""
        self.undo(partial(quirks.disarm, quirks.arm(name, count, ms, says, act)))

    def heal(self) -> None:
        """Heal everything, once."""
        self.healed = True
        while self._undo:
            self._undo.pop()()


class Fault(trial.fault.Fault, frozen=True, kw_only=True):
    """One ``[[fault]]`` of a scenario, and the harm it does to a simulated rack."""

    def aim(self, world: "World") -> tuple[NodeId, ...]:
        """The nodes that a fault without a target picks itself."""
        return ()

    def apply(self, world: "World", strike: Strike) -> None:
        """Do the harm."""
        raise NotImplementedError

    def text(self, strike: Strike) -> str:
        """Say in words what was struck, for the timeline."""
        where = strike.switches or strike.pdus or strike.nodes
        return ", ".join(where) or "the whole rack"
