"""See ``NetbootFailing``."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class NetbootFailing(Fault, frozen=True, kw_only=True):
    """A node does not get through its network boot: no address is offered, or the transfer times out.

    ``how``: "no_dhcp" or "tftp_timeout".
    """

    how: Literal["no_dhcp", "tftp_timeout"] = "no_dhcp"

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            world.netboot.fail(node, self.how)
            strike.undo(partial(world.netboot.fail, node, "ok"))
