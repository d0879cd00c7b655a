"""See ``StewardPause``."""

from typing import TYPE_CHECKING, Literal

from core.ids import NO_NODE, NodeId
from core.records import Lifecycle, NodeRecord, PowerRecord, node_path, power_path
from formats.load import Ms
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

_LOOK_MS = 50
_COMMIT_MS = 1
"""The answer to a commit takes longer than this, so a pause comes between the commit and its answer."""
_CALM_MS = 20
"""How often to look while the node is well: its loss is committed, and its BMC asked, long before it is ordered."""


class StewardPause(Fault, frozen=True, kw_only=True):
    """The steward of a node pauses between deciding and acting: its agent stops until the fault is healed.

    ``when``: "caring", ``delay_ms`` after somebody cares for the target; "ordering", when a power order for the target
    has been committed and not yet sent.
    """

    when: Literal["caring", "ordering"] = "caring"
    delay_ms: Ms = 100

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            if self.when == "ordering":
                _watch(world, strike, node, _order(world, node))
            else:
                _look(world, strike, node, self.delay_ms)

    def text(self, strike: Strike) -> str:
        return f"steward of {', '.join(strike.nodes)}"


def _look(world: "World", strike: Strike, ward: NodeId, delay_ms: int) -> None:
    steward = world.steward_of(ward)
    if strike.healed:
        return
    if steward == NO_NODE:
        world.kernel.after(_LOOK_MS, _look, world, strike, ward, delay_ms)
    else:
        world.kernel.after(delay_ms, _pause, world, strike, steward)


def _watch(world: "World", strike: Strike, ward: NodeId, before: PowerRecord) -> None:
    """Pause the author of the next power order in the moment of its commit."""
    if strike.healed:
        return
    order = _order(world, ward)
    if order.generation > before.generation:
        _pause(world, strike, order.by)
    else:
        record = world.record(NodeRecord, node_path(ward))
        well = record is not None and record.state in (Lifecycle.JOINED, Lifecycle.SUSPECT)
        world.kernel.after(_CALM_MS if well else _COMMIT_MS, _watch, world, strike, ward, before)


def _order(world: "World", ward: NodeId) -> PowerRecord:
    record = world.ensemble.data_view(power_path(ward))
    return record if isinstance(record, PowerRecord) else PowerRecord()


def _pause(world: "World", strike: Strike, steward: NodeId) -> None:
    if not strike.healed:
        world.agents[steward].pause()
        strike.undo(world.agents[steward].resume)
