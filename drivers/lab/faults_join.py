"""Faults of joining: strangers on the boot network, and machines that are not who they should be.

They need a rack whose machines are found (``[boots] discover = true``): where nobody asks to boot nobody is refused.
"""

import uuid
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from core.ids import NodeId
from drivers.lab import power
from drivers.lab.fault import Count, LabFault, Strike
from drivers.lab.odd import Odd, Oddity
from drivers.lab.stranger import Attack
from trial.targets import TargetKind

if TYPE_CHECKING:
    from drivers.lab.rack import LabRack


class JoinFault(LabFault, frozen=True, kw_only=True):
    """A fault of joining: what is the matter where nobody may join by asking."""


def _order(rack: "LabRack", strike: Strike, attack: Attack, node: NodeId) -> None:
    """Have the stranger do something; what he still waits for when the fault is healed he forgets."""
    rack.strangers.order(strike.tag, attack, node)
    strike.undo(partial(rack.strangers.order, strike.tag, attack, node, forget=True))


def _be(rack: "LabRack", strike: Strike, node: NodeId, what: Oddity, text: str, count: int = 0) -> None:
    """Make something odd about a machine at its next boots."""
    odd = Odd(rack.layout.home(node))
    odd.set(what, text, count)
    strike.undo(partial(odd.clear, what))


class RogueMachine(JoinFault, frozen=True, kw_only=True):
    """A machine that nobody expects asks boot servers for a script, and then for a certificate with a made-up token."""

    STRIKES: ClassVar[TargetKind] = "none"

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        rack.strangers.order(strike.tag, "rogue")


class TokenStolen(JoinFault, frozen=True, kw_only=True):
    """A thief on the boot network reads the next boot script of a node and is faster with its token; once."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            _order(rack, strike, "thief", node)


class MacClone(JoinFault, frozen=True, kw_only=True):
    """A machine with a copy of a node's network card address asks for a script too, right after the node's next; once.

    ``uuid_too``: it shows the node's UUID as well, which it has heard.
    """

    uuid_too: bool = False

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            _order(rack, strike, "twin" if self.uuid_too else "clone", node)


class TokenReplayed(JoinFault, frozen=True, kw_only=True):
    """Somebody shows the token once more that a node has joined with, under that machine's own name."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.strangers.order(strike.tag, "replay", node)


class WindowExpired(JoinFault, frozen=True, kw_only=True):
    """A node hangs in its boot loader, the next ``count`` times, and asks for its script when its window has closed."""

    count: Count = 1

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            _be(rack, strike, node, "late_ms", str(rack.boot_ms_max), self.count)


class ImageSwapped(JoinFault, frozen=True, kw_only=True):
    """A node runs another image than its boot server told it to, the next ``count`` boots, and says so as it joins."""

    count: Count = 1

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            _be(rack, strike, node, "image", "another", self.count)


class WrongUuid(JoinFault, frozen=True, kw_only=True):
    """The board of a node was swapped: at its next boots it shows a UUID that is not the one of its BMC's record.

    ``card_too``: the network card came with the board, so that nothing of it is known any more.
    """

    card_too: bool = False

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            _be(rack, strike, node, "uuid", str(uuid.uuid5(uuid.NAMESPACE_DNS, f"another board in {node}")))
            if self.card_too:
                _be(rack, strike, node, "mac", _other_card(rack, node))


class CardSwapped(JoinFault, frozen=True, kw_only=True):
    """The network card of a node was swapped: the right machine boots with an address that nobody has on record."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            _be(rack, strike, node, "mac", _other_card(rack, node))


class RetiredReturns(JoinFault, frozen=True, kw_only=True):
    """Somebody plugs a retired machine in again and switches it on: it asks to boot, and starts what is on its disk."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.strangers.order(strike.tag, "return", node)
            power.reset(rack.layout, node)
            strike.undo(partial(power.power_off, rack.layout, node))


def _other_card(rack: "LabRack", node: NodeId) -> str:
    return f"02:98:00:00:77:{rack.layout.get(node).number:02x}"
