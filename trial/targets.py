"""Symbolic targets of faults: read and checked when a scenario is loaded, resolved when the fault strikes.

    n3                      a node                    all                 every node
    rack:r1  pdu:p1         its nodes                 one  one(T)         one of them, drawn from the seed
    switch:s1               its nodes                 others(T)           every node but those
    holder-of:S             who holds S               minority  minority(T)   T and others, just under half
    standby-of:S            who would take S next     majority  majority(T)   T and others, just over half
    steward-of:N            who cares for node N      leader follower follower(T)   by their ZooKeeper servers
    voter                   all ZooKeeper voters      A,B                 both

``minority`` never holds half or more of the ZooKeeper voters either, ``majority`` always does.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from core.ids import NodeId
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems, nearest, one_of

TargetKind = Literal["nodes", "pdus", "switches", "none"]
"""What a fault strikes: nodes, whole power domains, switches, or nothing in particular (the storage, all)."""

PLAIN = ("all", "one", "leader", "follower", "voter", "minority", "majority")
NAMED = ("holder-of", "standby-of", "steward-of", "rack", "pdu", "switch")
NESTED = ("one", "follower", "minority", "majority", "others")

DEPTH_MAX = 8
LENGTH_MAX = 2_000


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One term: ``kind`` is "node" or one of PLAIN, NAMED, NESTED; ``inner`` what stands in its brackets."""

    kind: str
    name: str = ""
    inner: tuple["Target", ...] = ()


class Situation(Protocol):
    """What must be known of a rack at one moment to resolve a target. All sequences in order of ids."""

    @property
    def nodes(self) -> Sequence[NodeId]: ...

    def nodes_of(self, kind: str, name: str) -> Sequence[NodeId]:
        """The nodes of a rack, PDU or switch."""
        ...

    def is_up(self, node: NodeId) -> bool: ...

    def holder_of(self, service: str) -> NodeId: ...

    def standby_of(self, service: str) -> NodeId: ...

    def steward_of(self, node: NodeId) -> NodeId: ...

    def leader(self) -> NodeId: ...

    def voters(self) -> Sequence[NodeId]: ...

    def choose(self, count: int) -> int:
        """An index below ``count``, drawn from the seed."""
        ...


class _Syntax(Exception):
    """A target that cannot be read; the message says why."""


def parse(text: str) -> tuple[Target, ...]:
    """Read a target.

    Raises: ValueError with a sentence saying what is wrong.
    """
    if len(text) > LENGTH_MAX:
        raise ValueError(f"is longer than {LENGTH_MAX} characters")
    try:
        return _terms(text, 0)
    except _Syntax as error:
        raise ValueError(str(error)) from None


def check(text: str, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> tuple[Target, ...]:
    """Read a target and note every name in it that the rack or the catalog does not have."""
    try:
        terms = parse(text)
    except ValueError as error:
        problems.add(key, text, f'{error}; allowed: for example "n3", "holder-of:mariadb", "pdu:p1", "others(leader)"')
        return ()
    for term in _flat(terms):
        _check_term(term, text, rack, catalog, key, problems)
    return terms


def resolve(terms: Sequence[Target], situation: Situation) -> tuple[NodeId, ...]:
    """The nodes a target means now, in order of ids; none if nobody holds, leads or fits at the moment."""
    found: set[NodeId] = set()
    for term in terms:
        found.update(_resolve(term, situation))
    return tuple(node for node in situation.nodes if node in found)


def named(terms: Sequence[Target], kind: str) -> tuple[str, ...]:
    """The names of all terms of one kind, for faults that strike PDUs or switches themselves."""
    return tuple(term.name for term in _flat(terms) if term.kind == kind)


def _flat(terms: Sequence[Target]) -> list[Target]:
    found = []
    for term in terms:
        found.append(term)
        found += _flat(term.inner)
    return found


def _terms(text: str, depth: int) -> tuple[Target, ...]:
    if depth > DEPTH_MAX:
        raise _Syntax(f"brackets nest deeper than {DEPTH_MAX}")
    return tuple(_term(part.strip(), depth) for part in _split(text))


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, level, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "(":
            level += 1
        elif letter == ")":
            level -= 1
            if level < 0:
                break
        elif letter == "," and level == 0:
            parts.append(text[start:at])
            start = at + 1
    if level != 0:
        raise _Syntax("brackets do not match")
    return [*parts, text[start:]]


def _term(text: str, depth: int) -> Target:
    if not text:
        raise _Syntax("a name is missing")
    if text.endswith(")"):
        kind, _, rest = text[:-1].partition("(")
        if kind not in NESTED:
            raise _Syntax(f"no such target with brackets; allowed: {one_of(NESTED)}")
        return Target(kind=kind, inner=_terms(rest, depth + 1))
    if "(" in text or ")" in text:
        raise _Syntax("brackets do not match")
    if text in PLAIN:
        return Target(kind=text)
    kind, colon, name = text.partition(":")
    if not colon:
        return Target(kind="node", name=text)
    if kind not in NAMED:
        raise _Syntax(f"no such kind of target; allowed before a colon: {one_of(NAMED)}")
    return Target(kind=kind, name=name)


def _check_term(term: Target, text: str, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
    if not term.name and term.kind not in (*NAMED, "node"):
        return
    what, names = _known(term.kind, rack, catalog)
    if term.name in names:
        return
    more = [*names, *PLAIN] if term.kind == "node" else names
    words = f'"{term.name[:60]}" is no {what}; allowed: {one_of(names)}'
    if term.kind == "node":
        words += f"; or {one_of(PLAIN)}, " + ", ".join(f"{kind}:NAME" for kind in NAMED) + ", others(...)"
    problems.add(key, text, words + nearest(term.name, more))


def _known(kind: str, rack: RackFile, catalog: Catalog) -> tuple[str, list[str]]:
    match kind:
        case "holder-of" | "standby-of":
            return "singleton", [str(name) for name in catalog.singletons]
        case "rack":
            return "rack", [str(name) for name in rack.racks]
        case "pdu":
            return "PDU", [str(pdu.id) for pdu in rack.pdus]
        case "switch":
            return "switch", [switch.id for switch in rack.switches]
        case _:
            return "node", [str(node) for node in rack.node_ids]


def _resolve(term: Target, situation: Situation) -> Sequence[NodeId]:
    match term.kind:
        case "node":
            return (NodeId(term.name),)
        case "rack" | "pdu" | "switch":
            return situation.nodes_of(term.kind, term.name)
        case "holder-of":
            return (situation.holder_of(term.name),)
        case "standby-of":
            return (situation.standby_of(term.name),)
        case "steward-of":
            return (situation.steward_of(NodeId(term.name)),)
        case "leader":
            return (situation.leader(),)
        case "voter":
            return situation.voters()
        case _:
            return _resolve_set(term, situation)


def _resolve_set(term: Target, situation: Situation) -> Sequence[NodeId]:
    """The terms that choose among nodes, with or without brackets."""
    inner = resolve(term.inner, situation)
    up = [node for node in situation.nodes if situation.is_up(node)]
    match term.kind:
        case "one":
            among = [node for node in inner if situation.is_up(node)] if term.inner else up
            return (among[situation.choose(len(among))],) if among else ()
        case "others":
            return [node for node in situation.nodes if node not in inner]
        case "follower":
            leader = situation.leader()
            among = [node for node in situation.voters() if node != leader and (not term.inner or node in inner)]
            return (among[situation.choose(len(among))],) if among else ()
        case "minority":
            return _minority(inner, up, situation)
        case "majority":
            return _majority(inner, up, situation)
        case _:
            return situation.nodes


def _minority(inner: Sequence[NodeId], up: Sequence[NodeId], situation: Situation) -> list[NodeId]:
    """``inner`` filled up, the leader last, as long as it stays under half of the nodes and of the voters."""
    voters, leader = situation.voters(), situation.leader()
    chosen = list(inner)
    for node in [*(n for n in up if n != leader), leader]:
        votes = sum(1 for n in [*chosen, node] if n in voters)
        small = 2 * (len(chosen) + 1) < len(up) and (node not in voters or 2 * votes < len(voters))
        if small and node in up and node not in chosen:
            chosen.append(node)
    return chosen


def _majority(inner: Sequence[NodeId], up: Sequence[NodeId], situation: Situation) -> list[NodeId]:
    """``inner`` filled up, the leader first, until it is over half of the nodes and of the voters."""
    voters, leader = situation.voters(), situation.leader()
    chosen = list(inner)
    for node in [leader, *(n for n in up if n in voters), *up]:
        votes = sum(1 for n in chosen if n in voters)
        short = 2 * len(chosen) <= len(up) or (node in voters and 2 * votes <= len(voters))
        if short and node in up and node not in chosen:
            chosen.append(node)
    return chosen
