"""Availability of services that run in one place, over years of outages of the nodes they run on."""

from collections.abc import Sequence

import msgspec
import numpy as np

from core.ensemble import plan
from core.errors import InputError
from core.hashing import digest
from core.ids import DomainId, NodeId, RackId, ServiceName
from core.placement import Placement
from core.specs import NodeSpec, ServiceSpec
from twin.failures.bulk import uniforms
from twin.failures.distributions import Floats
from twin.failures.renewal import Ints, Outages, joined_ends
from twin.years.site import Site, spans_of
from twin.years.timeline import Timeline

VOTERS = 5
CANDIDATES = 4
"""So many nodes are asked for at once before the unfit ones are told. Source: ours."""
FAILOVERS_MAX = 1_000_000


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """How long a failover takes from the loss to serving elsewhere: quantiles in milliseconds, straight in between."""

    shares: tuple[float, ...]
    quantiles_ms: tuple[float, ...]
    source: str

    def at(self, uniform: Floats) -> Ints:
        """The times at shares of the distribution, in whole milliseconds."""
        return np.rint(np.interp(uniform, self.shares, self.quantiles_ms)).astype(np.int64)


class SingletonYears(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One singleton's years. ``away_ms``: sum of the times not served; ``start_ms``, ``end_ms``: each of them, joined.

    ``waited``: failovers that found no node up or no majority of voters, and so took as long as those were missing.
    """

    service: str
    failovers: int
    waited: int
    away_ms: int
    longest_ms: int
    start_ms: Ints
    end_ms: Ints


def singleton_years(
    site: Site,
    timeline: Timeline,
    services: Sequence[ServiceSpec],
    failover: Failover,
    seed: int,
    nodes: Sequence[NodeSpec] | None = None,
) -> list[SingletonYears]:
    """Follow each singleton from holder to holder.

    A holder is lost when its node goes down. The next one is the first node up in the order of the core's own placement
    (``core.placement``), and serves after a time drawn from ``failover``; a node that comes back gets nothing back. A
    majority of up to five voters, spread over power domains as the core spreads them, must be up: while it is not, no
    singleton is served, since no holder can prove that it still is one. ``nodes``: the site's nodes as the core knows
    them, in the order of their numbers, where a rack file says so. Cost: O(failovers x services).

    Raises: InputError if the site has no node.
    """
    if not site.nodes:
        raise InputError(["nodes: there is none; needed: one for a singleton to run on"])
    specs = list(nodes) if nodes is not None else specs_of(site)
    numbers = {spec.id: number for number, spec in enumerate(specs)}
    placement = Placement()
    for spec in specs:
        placement.set_node(spec)
    for service in services:
        placement.set_service(service)
    down = timeline.node_down
    first = spans_of(down.component, site.nodes)
    quorum = _without_majority(voters_of(specs), numbers, down, first, timeline.duration_ms)
    follower = _Follower(placement, specs, numbers, down, first, quorum, timeline.duration_ms)
    return [follower.follow(service.name, failover, seed) for service in services if service.run == "singleton"]


def specs_of(site: Site) -> list[NodeSpec]:
    """The nodes as the core sees them, in the order of their numbers."""
    return [
        NodeSpec(id=NodeId(f"n{node}"), rack=RackId(f"r{rack}"), power_domain=DomainId(f"p{pdu}"))
        for node, (rack, pdu) in enumerate(zip(site.rack_of.tolist(), site.pdu_of.tolist(), strict=True))
    ]


def voters_of(specs: Sequence[NodeSpec]) -> tuple[NodeId, ...]:
    """The voters that the core's own rule chooses, out of the first few of each power domain in that rule's order."""
    ranked: dict[DomainId, list[NodeId]] = {}
    for spec in sorted(specs, key=lambda spec: (digest(f"voter/{spec.id}"), spec.id)):
        ranked.setdefault(spec.power_domain, []).append(spec.id)
    alive = {node: domain for domain, nodes in ranked.items() for node in nodes[: VOTERS + 1]}
    alive[specs[0].id] = specs[0].power_domain
    voters: tuple[NodeId, ...] = (specs[0].id,)
    for _ in range(2):
        voters += plan(voters, alive, (), VOTERS).joining
    return voters


def _without_majority(
    voters: Sequence[NodeId],
    numbers: dict[NodeId, int],
    down: Outages,
    first: "np.ndarray[tuple[int], np.dtype[np.intp]]",
    duration_ms: int,
) -> list[tuple[int, int]]:
    """When too few voters are up, by start; cut off at the end."""
    events: list[tuple[int, int]] = []
    for voter in voters:
        number = numbers[voter]
        spans = slice(int(first[number]), int(first[number + 1]))
        for start, end in zip(down.start_ms[spans].tolist(), down.end_ms[spans].tolist(), strict=True):
            events += [(start, 1), (min(end, duration_ms), -1)]
    found: list[tuple[int, int]] = []
    missing, since = 0, 0
    for at_ms, change in sorted(events):
        was = 2 * missing >= len(voters)
        missing += change
        now = 2 * missing >= len(voters)
        if now and not was:
            since = at_ms
        elif was and not now:
            found.append((since, at_ms))
    return found


class _Follower:
    """What is needed to follow one singleton after the other through the same years."""

    def __init__(
        self,
        placement: Placement,
        specs: Sequence[NodeSpec],
        numbers: dict[NodeId, int],
        down: Outages,
        first: "np.ndarray[tuple[int], np.dtype[np.intp]]",
        quorum: list[tuple[int, int]],
        duration_ms: int,
    ) -> None:
        self._placement, self._specs, self._numbers = placement, specs, numbers
        self._down, self._first, self._quorum, self._duration_ms = down, first, quorum, duration_ms

    def follow(self, service: ServiceName, failover: Failover, seed: int) -> SingletonYears:
        """Follow one singleton to the end."""
        away = list(self._quorum)
        now_ms, moves, waited = 0, 0, 0
        holder = self._next(service, 0)
        if holder is None:
            holder, now_ms = self._soonest(0)
            away.append((0, min(now_ms, self._duration_ms)))
        for _ in range(FAILOVERS_MAX):
            lost_ms = self._lost(holder, now_ms)
            if lost_ms >= self._duration_ms:
                break
            can_ms = self._majority(lost_ms)
            found = self._next(service, can_ms)
            holder, free_ms = self._soonest(can_ms) if found is None else (found, can_ms)
            waited += free_ms > lost_ms
            uniform = uniforms(seed, f"failover.{service}", moves, 1)
            now_ms = free_ms + int(failover.at(uniform)[0])
            away.append((lost_ms, min(now_ms, self._duration_ms)))
            moves += 1
        return self._told(service, moves, waited, sorted(away))

    def _told(self, service: str, moves: int, waited: int, away: list[tuple[int, int]]) -> SingletonYears:
        spans = np.asarray(away, dtype=np.int64).reshape(-1, 2)
        start_ms, end_ms = spans[:, 0], spans[:, 1]
        if len(spans):
            keep, end_ms = joined_ends(np.zeros(len(spans), np.int64), start_ms, end_ms)
            start_ms = start_ms[keep]
        return SingletonYears(
            service=service,
            failovers=moves,
            waited=waited,
            away_ms=int((end_ms - start_ms).sum()),
            longest_ms=int((end_ms - start_ms).max(initial=0)),
            start_ms=start_ms,
            end_ms=end_ms,
        )

    def _lost(self, node: int, from_ms: int) -> int:
        """When a node is down next, ``from_ms`` if it is down then; the end of all time if never."""
        low, high = int(self._first[node]), int(self._first[node + 1])
        at = low + int(np.searchsorted(self._down.end_ms[low:high], from_ms, side="right"))
        return max(from_ms, int(self._down.start_ms[at])) if at < high else self._duration_ms

    def _up(self, node: int, at_ms: int) -> int:
        """When a node is up from ``at_ms`` on: then, or when its outage ends."""
        low, high = int(self._first[node]), int(self._first[node + 1])
        at = low + int(np.searchsorted(self._down.end_ms[low:high], at_ms, side="right"))
        return int(self._down.end_ms[at]) if at < high and self._down.start_ms[at] <= at_ms else at_ms

    def _next(self, service: ServiceName, at_ms: int) -> int | None:
        """The best node that is up, by the core's placement; None if no node is."""
        for count in (CANDIDATES, len(self._specs)):
            for node in self._placement.candidates(service, count):
                if self._up(self._numbers[node], at_ms) == at_ms:
                    return self._numbers[node]
        return None

    def _soonest(self, at_ms: int) -> tuple[int, int]:
        """The node that is up first again, and when."""
        up_ms, node = min((self._up(node, at_ms), node) for node in range(len(self._specs)))
        return node, up_ms

    def _majority(self, at_ms: int) -> int:
        """When a majority of voters is up from ``at_ms`` on."""
        return next((end for start, end in self._quorum if start <= at_ms < end), at_ms)
