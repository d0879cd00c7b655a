"""One outage of one machine, and what a set of them says."""

from typing import Literal

import msgspec

Cause = Literal["facilities", "hardware", "human error", "network", "undetermined", "software"]
FaultKind = Literal["node_crash", "power_loss", "link_loss"]

CAUSES: tuple[Cause, ...] = ("facilities", "hardware", "human error", "network", "undetermined", "software")

FAULT_OF: dict[Cause, FaultKind] = {
    "facilities": "power_loss",
    "hardware": "node_crash",
    "human error": "power_loss",
    "network": "link_loss",
    "undetermined": "node_crash",
    "software": "node_crash",
}
"""How each root cause looks to the rest of the rack.

Facilities (outage, UPS, chillers, environment) take the power away. A machine with broken hardware or software stops
but its BMC still says "on"; only a failed power supply takes the power away (``Outage.fault``). Somebody's error is
taken as a machine switched off by mistake. A network failure leaves the machine running and unreachable. Where no
cause was found the record only says that a monitor found the node down, so it is a crash: the case in which the BMC
proves nothing and the core has to wait for the session, which favours nobody.
"""


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """Node ``node`` (counted from 0) was out of service from ``start_ms`` to ``end_ms``, from the first record on."""

    node: int
    start_ms: int
    end_ms: int
    cause: Cause
    detail: str = ""

    @property
    def fault(self) -> FaultKind:
        """The fault kind that shows this outage to the core."""
        if self.cause == "hardware" and "power supply" in self.detail.lower():
            return "power_loss"
        return FAULT_OF[self.cause]


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The outages of one system by start, then node; those of one node never overlap.

    ``records`` counts what was read, ``merged`` the records that fell into another outage of the same node.
    ``started`` is the date of time 0, for a person to read.
    """

    source: str
    nodes: int
    duration_ms: int
    started: str
    records: int
    merged: int
    outages: tuple[Outage, ...]

    def causes(self) -> dict[Cause, int]:
        """Count the outages of each cause, all six listed."""
        return {cause: sum(outage.cause == cause for outage in self.outages) for cause in CAUSES}

    def down_ms(self) -> int:
        """Sum up the time that nodes were out of service, in node-milliseconds."""
        return sum(outage.end_ms - outage.start_ms for outage in self.outages)


def merge(outages: list[Outage]) -> tuple[Outage, ...]:
    """Join outages of one node that overlap or touch; the first one's cause is kept, since it took the node down.

    Of records with the same start the longer one counts as first, then the order of ``CAUSES``. O(n log n).
    """
    joined: list[Outage] = []
    order = {cause: rank for rank, cause in enumerate(CAUSES)}
    for outage in sorted(outages, key=lambda o: (o.node, o.start_ms, -o.end_ms, order[o.cause], o.detail)):
        last = joined[-1] if joined else None
        if last is not None and last.node == outage.node and outage.start_ms <= last.end_ms:
            if outage.end_ms > last.end_ms:
                joined[-1] = msgspec.structs.replace(last, end_ms=outage.end_ms)
        else:
            joined.append(outage)
    joined.sort(key=lambda o: (o.start_ms, o.node))
    return tuple(joined)
