"""What every fault has in common: its keys in a scenario, and what it struck.

A fault is one file: a frozen record of its keys, the first line of its docstring (for the docs), ``apply``, and a line
in ``FAULTS``. ``apply`` does the harm and says with ``strike.undo`` how it is healed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from core.ids import DomainId, NodeId
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.load import Ms, PositiveMs
from formats.problems import Problems
from twin.targets import TargetKind

if TYPE_CHECKING:
    from twin.world.world import World

Undo = Callable[[], object]


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

    def heal(self) -> None:
        """Heal everything, once."""
        self.healed = True
        while self._undo:
            self._undo.pop()()


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[fault]]`` of a scenario.

    It strikes at ``at_ms`` and is healed ``for_ms`` later (0: when the heal phase begins). With ``times`` it strikes
    again every ``every_ms``; symbolic targets are resolved anew each time.
    """

    STRIKES: ClassVar[TargetKind] = "nodes"
    TARGET_NEEDED: ClassVar[bool] = True

    at_ms: Ms
    for_ms: Ms = 0
    every_ms: PositiveMs = 60_000
    times: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    target: str = ""

    def aim(self, world: "World") -> tuple[NodeId, ...]:
        """The nodes that a fault without a target picks itself."""
        return ()

    def apply(self, world: "World", strike: Strike) -> None:
        """Do the harm."""
        raise NotImplementedError

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        """Note what is wrong with the keys of this kind of fault; ``key`` is the fault's path in its file."""

    def text(self, strike: Strike) -> str:
        """Say in words what was struck, for the timeline."""
        where = strike.switches or strike.pdus or strike.nodes
        return ", ".join(where) or "the whole rack"
