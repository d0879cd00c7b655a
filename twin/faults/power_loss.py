"""See ``PowerLoss``."""

from functools import partial
from typing import TYPE_CHECKING

from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class PowerLoss(Fault, frozen=True, kw_only=True):
    """Power goes away: of single nodes, of a PDU, of a rack, or of everything.

    ``pdu:P``, ``rack:R`` and ``all`` switch off whole PDUs, so the BMCs die as well; a node alone loses its main rail
    while its BMC lives on standby power and can prove it, unless ``bmc_too``.
    """

    bmc_too: bool = False

    def apply(self, world: "World", strike: Strike) -> None:
        power = world.power
        for pdu in strike.pdus:
            power.pdu_off(pdu)
            strike.undo(partial(power.pdu_on, pdu))
        for node in strike.nodes:
            if world.specs[node].power_domain not in strike.pdus:
                power.node_power_off(node, standby_too=self.bmc_too)
                strike.undo(partial(power.node_power_on, node))
