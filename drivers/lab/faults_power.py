"""Faults of power, operating systems and BMCs: plugs pulled, kernels dead, BMCs killed, stopped, slow and lying."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from core.ids import NodeId
from drivers.lab import power
from drivers.lab.fault import LabFault, Strike
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.load import Ms, PositiveMs
from formats.problems import Problems

if TYPE_CHECKING:
    from drivers.lab.rack import LabRack

LOOK_MS = 50


class PowerLoss(LabFault, frozen=True, kw_only=True):
    """Power goes away: the node's process 1 is killed with its cables down, with ``bmc_too`` its BMC as well.

    ``pdu:P``, ``rack:R`` and ``all`` switch off whole power domains, BMCs included. Power that returns boots what ran.
    """

    bmc_too: bool = False

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        fed = [n.id for n in rack.layout.nodes if n.plugged and n.power_domain in strike.pdus]
        whole = dict.fromkeys(fed, True)
        for node, bmc_too in (whole | {n: self.bmc_too for n in strike.nodes if n not in whole}).items():
            was_on = power.has_power(rack.layout, node)
            strike.undo(partial(rack.feed, node, was_on))
            rack.cut_power(node, bmc_too)


class NodeCrash(LabFault, frozen=True, kw_only=True):
    """The operating system of a node dies: power stays on, nothing runs any more, its BMC lives."""

    reboots: bool = False
    reboot_ms: Ms = 10_000

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            power.crash(rack.layout, node)
            if self.reboots:
                rack.timeline.after(self.reboot_ms, partial(_reset, rack, node))


def _reset(rack: "LabRack", node: NodeId) -> None:
    """The kernel's own restart after a panic, unless somebody was faster."""
    if power.has_power(rack.layout, node) and not power.init_of(rack.layout, node):
        power.power_on(rack.layout, node)


class NodeCrashRepeated(LabFault, frozen=True, kw_only=True):
    """A node's operating system dies, and again ``after_up_ms`` after each boot; healing lifts its quarantine."""

    after_up_ms: PositiveMs = 20_000

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            strike.undo(partial(rack.operator.unquarantine, node))
            power.crash(rack.layout, node)
            _await_boot(rack, strike, node, self.after_up_ms)


def _await_boot(rack: "LabRack", strike: Strike, node: NodeId, after_up_ms: int) -> None:
    if strike.healed:
        return
    if power.init_of(rack.layout, node):
        rack.timeline.after(after_up_ms, partial(_crash_again, rack, strike, node, after_up_ms))
    else:
        rack.timeline.after(LOOK_MS, partial(_await_boot, rack, strike, node, after_up_ms))


def _crash_again(rack: "LabRack", strike: Strike, node: NodeId, after_up_ms: int) -> None:
    if not strike.healed:
        power.crash(rack.layout, node)
        _await_boot(rack, strike, node, after_up_ms)


class NewNode(LabFault, frozen=True, kw_only=True):
    """A bare server is cabled and left switched off: its BMC starts; the rack must find and take it up by itself."""

    in_place_of: str | None = None

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        spare = [str(server.spec.id) for server in rack.nodes if not server.plugged]
        if self.target not in spare:
            allowed = f"allowed: one that the rack file marks plugged = false: {', '.join(spare) or 'there is none'}"
            problems.add(f"{key}.target", self.target, allowed, spare)
        if self.in_place_of is not None:
            allowed = "not on the lab, whose nodes keep their places; see rack lab machine replace"
            problems.add(f"{key}.in_place_of", self.in_place_of, allowed)

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.feed(node, boots=False)


class BmcDead(LabFault, frozen=True, kw_only=True):
    """The BMC of a node is killed: it answers nothing and obeys nothing."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.bmc_stop(node)
            strike.undo(partial(rack.bmc_start, node))


class BmcHung(LabFault, frozen=True, kw_only=True):
    """The BMC of a node is stopped in its tracks: callers wait until they give up."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.bmc_freeze(node)
            strike.undo(partial(rack.bmc_thaw, node))


class BmcLying(LabFault, frozen=True, kw_only=True):
    """The BMC of a node lies about its power.

    ``says``: "off" (whatever the node does; orders are confirmed and not carried out), "on", or "contrary".
    """

    says: Literal["off", "on", "contrary"] = "off"

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            if self.says == "contrary":
                rack.chassis_break(strike, node, "contrary", 1)
            else:
                rack.chassis_break(strike, node, "lie", int(self.says == "on"))


class BmcSlow(LabFault, frozen=True, kw_only=True):
    """The BMC of a node takes ``delay_ms`` longer for every answer."""

    delay_ms: PositiveMs = 5_000

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.chassis_break(strike, node, "slow_ms", self.delay_ms)
