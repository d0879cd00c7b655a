"""How the components of a site fail: one renewal process for each, and bursts that strike several nodes at once.

Rates are per component: of one disk, one node, one PDU, one rack. A site's rate follows from how many there are.
"""

from typing import Literal

import msgspec

from twin.durability.durations import Duration, Life

Kind = Literal["disk", "node", "pdu", "rack"]


class Component(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one component of a kind fails.

    ``life``: from repair to failure. ``down``: how long what hangs on it is then away. ``lost_ratio``: the chance that
    a disk behind it never comes back with its data (a failed disk: 1). ``source``: where the figures are from.
    """

    life: Life
    down: Duration
    lost_ratio: float
    source: str


class Burst(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that strikes several nodes of a site at once.

    ``every``: between two bursts, of the whole site. A burst has a ``place``: the site, or one of its racks, or one of
    its zones of ``zone_racks`` racks, each as often as the others. How many nodes of it are struck:

    * ``nodes``: so many, as (number, weight), at most all of the place;
    * ``ratios``, instead: each node for itself, with a chance drawn from (chance, weight).

    ``rack_ratio``: the share of a site's bursts that stay in one rack, in larger racks more often.
    ``down``, ``lost_ratio``: as for a component.
    """

    name: str
    every: Life
    place: Literal["site", "zone", "rack"] = "site"
    zone_racks: int = 1
    nodes: tuple[tuple[int, float], ...] = ()
    ratios: tuple[tuple[float, float], ...] = ()
    rack_ratio: float = 0.0
    down: Duration
    lost_ratio: float
    source: str


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a site fails, and how long lost copies take to be made again.

    ``recovery``: from the loss of a disk until every placement group on it has all its copies again. None where a kind
    of component never fails or does not exist.
    """

    disk: Component
    node: Component | None = None
    pdu: Component | None = None
    rack: Component | None = None
    bursts: tuple[Burst, ...] = ()
    recovery: Duration

    @property
    def components(self) -> tuple[tuple[Kind, Component], ...]:
        """What there is, kind by kind, from the disk upwards."""
        kinds: tuple[tuple[Kind, Component | None], ...] = (
            ("disk", self.disk),
            ("node", self.node),
            ("pdu", self.pdu),
            ("rack", self.rack),
        )
        return tuple((kind, component) for kind, component in kinds if component is not None)
