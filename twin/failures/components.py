"""What can fail in a site, and how: disk, node, top-of-rack switch, rack, power distribution unit."""

import math
from typing import Literal

import msgspec

from twin.failures.distributions import YEAR_H, Distribution, Exponential, Lognormal
from twin.failures.likelihood import Family
from twin.failures.published import (
    BACKBLAZE,
    DEAN,
    DRIVES,
    FORD,
    FORD_DISK_MTTF_H,
    FORD_NODE_MTTF_H,
    FORD_RACK_MTTF_H,
    GILL,
    Behaviour,
    Model,
    fta,
)

ComponentKind = Literal["disk", "node", "switch", "rack", "pdu"]

REPLACEMENT = Lognormal(math.log(48.0), 0.8)
"""Hours until a failed disk is replaced: 48 in the middle, 6 days at the 95th percentile.

Source: ours: the next working day and a weekend; measure your own, it is a matter of staff.
"""

SERVICE_YEARS = 5.0
"""So old disks get before they are replaced anyway. Source: ours; the survival of the drive models ends there."""

NODE_DOWN = Lognormal(math.log(0.25) - 1.2816 * 1.42, 1.42)
"""Hours that a node is away: 10 % longer than 15 minutes, spread as LANL's repairs.

Source: Ford et al., OSDI 2010 (at most 10 % of unavailability events last longer than 15 minutes; their bound is taken
as it is); sigma of the lognormal fit of Lanl05 in the Failure Trace Archive.
"""

_HOURS_1_TO_6 = Lognormal(math.log(math.sqrt(6.0)), math.log(6.0) / 2.0 / 1.6449)
"""90 % between 1 and 6 hours."""


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of component. ``behaviour.down`` of a disk is the time until its replacement; its data are gone.

    ``ages_years``: how old the components are when one starts to watch, evenly from 0 up to that; with 0 the site has
    been running for ever. A fit of lifetimes says nothing about ages that nobody has seen, so what wears needs this.
    """

    kind: ComponentKind
    behaviour: Behaviour
    ages_years: float = 0.0


def disk(annual_rate: float | None = None, model: str = "toshiba mg07aca14ta") -> Component:
    """A disk of a drive model (``DRIVES``) with its wear, up to five years old, or with a constant rate a year.

    Raises: KeyError for a model that is not there.
    """
    if annual_rate is not None:
        up: Distribution = Exponential(YEAR_H / annual_rate)
        source = f"{annual_rate:.2%} a year, as given"
    else:
        found: Model = DRIVES[model]
        up, source = found.lifetime, f"{model}: {BACKBLAZE}"
    ages_years = 0.0 if annual_rate is not None else SERVICE_YEARS
    return Component(kind="disk", behaviour=Behaviour(up=up, down=REPLACEMENT, source=source), ages_years=ages_years)


def ford_disk(longest: bool = False) -> Component:
    """A disk at one end of the published range of 10 to 50 years."""
    up = Exponential(FORD_DISK_MTTF_H[1 if longest else 0])
    return Component(kind="disk", behaviour=Behaviour(up=up, down=REPLACEMENT, source=FORD))


NODE = Component(
    kind="node", behaviour=Behaviour(up=Exponential(FORD_NODE_MTTF_H), down=NODE_DOWN, source=f"{FORD}: 4.3 months")
)
"""A node: 4.3 months, of all causes, also of its rack's and of bursts. Its disks are away with it and come back."""


def fitted_node(data_set: str, family: Family = "weibull") -> Component:
    """A node as one data set of the Failure Trace Archive has them. Raises: KeyError for an unknown set."""
    return Component(kind="node", behaviour=fta(data_set, family))


RACK = Component(
    kind="rack",
    behaviour=Behaviour(
        up=Exponential(FORD_RACK_MTTF_H), down=_HOURS_1_TO_6, source=f"{FORD}: 10.2 years; repairs of 1-6 hours: {DEAN}"
    ),
)
"""A rack as a whole, whatever the reason: also its switch, so do not add that to it."""

SWITCH = Component(
    kind="switch",
    behaviour=Behaviour(
        up=Exponential(YEAR_H / -math.log1p(-0.05)),
        down=_HOURS_1_TO_6,
        source=f"{GILL}: about 5 % of top-of-rack switches fail in a year; repairs as a rack's",
    ),
)
"""A top-of-rack switch on its own, for racks whose other reasons are modelled one by one."""

PDU = Component(
    kind="pdu",
    behaviour=Behaviour(
        up=Exponential(3.0 * YEAR_H),
        down=Lognormal(math.log(6.0), 0.5),
        source=f"{DEAN}: about one a year in a cluster, 500-1,000 machines, about 6 hours; a cluster of 1,800 to 2,500 "
        "machines has about three",
    ),
)
"""A power distribution unit that feeds several racks."""

COMPONENTS: dict[ComponentKind, Component] = {
    "disk": disk(),
    "node": NODE,
    "switch": SWITCH,
    "rack": RACK,
    "pdu": PDU,
}
