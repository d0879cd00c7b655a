"""See ``UpgradeNodeLost``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from core.ids import NO_NODE, NodeId
from core.records import UPGRADE, UpgradeRecord
from core.ring import Ring
from trial.targets import TargetKind
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World

_LOOK_MS = 100


class UpgradeNodeLost(Fault, frozen=True, kw_only=True):
    """The node whose turn it is in an upgrade, or the one that carries the upgrade on, loses its power, BMC alive.

    It waits for the moment: the node whose turn it is has begun to drain (``drains``), has left to restart
    (``restarts``), or is up again (``returns``).
    """

    STRIKES: ClassVar[TargetKind] = "none"

    who: Literal["turn", "owner"] = "turn"
    when: Literal["drains", "restarts", "returns"] = "restarts"

    def apply(self, world: "World", strike: Strike) -> None:
        _Watch(world, strike, self).look()

    def text(self, strike: Strike) -> str:
        return f"{'the node whose turn it is' if self.who == 'turn' else 'who carries it on'}, when it {self.when}"


class _Watch:
    """Looks for the moment, strikes once."""

    def __init__(self, world: "World", strike: Strike, fault: UpgradeNodeLost) -> None:
        self._world, self._strike, self._fault = world, strike, fault
        self._left = False

    def look(self) -> None:
        """Look until the moment has come, or the fault is healed."""
        world = self._world
        if self._strike.healed:
            return
        turn = self._turn()
        if turn == NO_NODE or not self._is_moment(turn):
            world.kernel.after(_LOOK_MS, self.look)
            return
        node = turn if self._fault.who == "turn" else self._owner()
        if node != NO_NODE:
            world.power.node_power_off(node)
            self._strike.undo(partial(world.power.node_power_on, node))

    def _turn(self) -> NodeId:
        record = self._world.record(UpgradeRecord, UPGRADE)
        return record.current[0].node if record is not None and record.current else NO_NODE

    def _is_moment(self, turn: NodeId) -> bool:
        up = self._world.power.chassis[turn].state == "up"
        self._left = self._left or not up
        match self._fault.when:
            case "drains":
                return True
            case "restarts":
                return not up
            case "returns":
                return self._left and up

    def _owner(self) -> NodeId:
        """The member that owns the duty, as every member computes it."""
        ring = Ring()
        ring.load((), self._world.members())
        return ring.owner_of_key("upgrade")
