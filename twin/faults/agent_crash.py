"""See ``AgentCrash``."""

from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class AgentCrash(Fault, frozen=True, kw_only=True):
    """The agent process of a node dies; its services and its supervisor live on.

    With ``restarts`` the supervisor starts it again at once; without, it does not come back while the fault lasts.
    """

    restarts: bool = True

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            agent = world.agents[node]
            agent.crash(restarts=self.restarts)
            if not self.restarts:
                strike.undo(agent.heal)
