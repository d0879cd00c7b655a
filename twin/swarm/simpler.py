"""Simpler surroundings of a campaign's faults: fewer nodes, fewer services, default settings, less time.

Every step takes a tape that fails and a predicate, and returns the simplest tape it finds that still fails; it only
ever asks about simpler ones.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from core.errors import InputError
from formats.synthetic import SyntheticRack
from twin.scenario import Scenario
from twin.swarm.tape import Table, Tape, to_scenario

T = TypeVar("T")
Fails = Callable[[Tape], bool]
"""Whether a tape still fails the same way."""

ROUND_MS = 10_000
SIZES = (3, 4, 5, 8, 12)
"""Sizes that a smaller rack is tried at, before single nodes are left out."""
_SETTINGS = ("start", "heal_ms", "settle_ms", "timing", "clients", "expect")
_BARE = Tape(why="", seed=0, rack="", catalog="", duration_ms=0)
_DEFAULTS = {key: getattr(_BARE, key) for key in _SETTINGS}
_WORD = re.compile(r"[A-Za-z0-9_.-]+")


def first(candidates: Iterable[Tape], fails: Fails, otherwise: Tape) -> Tape:
    """Return the first candidate that fails."""
    return next((candidate for candidate in candidates if fails(candidate)), otherwise)


def fewer_nodes(tape: Tape, fails: Fails, fewest: int = 3) -> Tape:
    """Leave out nodes, those that faults name last; then number the nodes of a made-up rack anew."""
    scenario = _scenario(tape)
    if scenario is None:
        return tape
    everyone = [str(node) for node in scenario.rack.node_ids]
    words = {word for fault in tape.fault for value in fault.values() for word in _WORD.findall(str(value))}
    order = [node for node in everyone if node in words] + [node for node in everyone if node not in words]
    sizes = [size for size in SIZES if fewest <= size < len(everyone)]
    tape = first((_with_nodes(tape, everyone, order[:size]) for size in sizes), fails, tape)
    for node in reversed(everyone):
        kept = [other for other in tape.nodes or everyone if other != node]
        if fewest <= len(kept) < len(tape.nodes or everyone):
            tape = first([_with_nodes(tape, everyone, kept)], fails, tape)
    return first(_renumbered(tape, everyone), fails, tape)


def _with_nodes(tape: Tape, everyone: Sequence[str], kept: Sequence[str]) -> Tape:
    return replace(tape, nodes=tuple(node for node in everyone if node in kept))


def _renumbered(tape: Tape, everyone: Sequence[str]) -> list[Tape]:
    """A made-up rack of just the nodes that are left, called n1, n2 and so on."""
    if not isinstance(tape.rack, SyntheticRack) or not tape.nodes:
        return []
    width = len(str(len(tape.nodes)))
    names = {node: f"n{index + 1:0{width}}" for index, node in enumerate(tape.nodes)}
    faults = tuple({key: _renamed(value, names) for key, value in fault.items()} for fault in tape.fault)
    plugged = sum(1 for node in tape.nodes if node in everyone[: tape.rack.nodes])
    rack = replace(tape.rack, nodes=max(plugged, 1), spares=len(tape.nodes) - plugged)
    return [replace(tape, rack=rack, nodes=(), fault=faults)]


def _renamed(value: object, names: dict[str, str]) -> object:
    if isinstance(value, str):
        return _WORD.sub(lambda found: names.get(found.group(), found.group()), value)
    return type(value)(_renamed(one, names) for one in value) if isinstance(value, list | tuple) else value


def plain_rack(tape: Tape, fails: Fails) -> Tape:
    """Give a made-up rack the ordinary cabling, disks and sizes: all at once, else one by one."""
    if not isinstance(tape.rack, SyntheticRack):
        return tape
    plain = SyntheticRack(nodes=tape.rack.nodes)
    tape = first([replace(tape, rack=plain)], fails, tape)
    for key in SyntheticRack.__struct_fields__[1:]:
        rack = replace(tape.rack, **{key: getattr(plain, key)}) if isinstance(tape.rack, SyntheticRack) else tape.rack
        tape = first([replace(tape, rack=rack)], fails, tape)
    return tape


def fewer_services(tape: Tape, fails: Fails) -> Tape:
    """Leave out services: all but one and what it needs, else one after the other with what needs it."""
    scenario = _scenario(tape)
    if scenario is None:
        return tape
    needs = {str(s.spec.name): tuple(map(str, s.spec.needs)) for s in scenario.catalog.services}
    alone = sorted((_with_needs(name, needs) for name in needs), key=len)
    tape = first((_with_services(tape, names) for names in alone if len(names) < len(needs)), fails, tape)
    for name in reversed(list(needs)):
        now = tape.services or tuple(needs)
        kept = [other for other in now if name not in _with_needs(other, needs)]
        if kept and len(kept) < len(now):
            tape = first([_with_services(tape, kept)], fails, tape)
    return tape


def _with_needs(name: str, needs: dict[str, tuple[str, ...]]) -> list[str]:
    """A service and all that it needs, in the catalog's order."""
    found = {name}
    for _ in needs:
        found |= {need for service in found for need in needs.get(service, ())}
    return [service for service in needs if service in found]


def _with_services(tape: Tape, kept: Sequence[str]) -> Tape:
    """The tape with these services only; nothing is expected of any other."""
    expect: Table = {}
    for key, value in tape.expect.items():
        rest = {name: one for name, one in value.items() if name in kept} if isinstance(value, dict) else value
        if rest != {}:
            expect[key] = rest
    return replace(tape, services=tuple(kept), expect=expect)


def plain_settings(tape: Tape, fails: Fails) -> Tape:
    """Default timers, clients and phases, and no expectation but the one that is not met: all at once, else singly."""
    tape = first([replace(tape, **_DEFAULTS)], fails, tape)
    for key, value in _DEFAULTS.items():
        tape = first([replace(tape, **{key: value})], fails, tape)
    for key in tape.timing:
        tape = first([replace(tape, timing=_without(tape.timing, key))], fails, tape)
    for key in tape.expect:
        tape = first([replace(tape, expect=_without(tape.expect, key))], fails, tape)
    return tape


def _without(table: Mapping[str, T], left_out: str) -> dict[str, T]:
    return {key: value for key, value in table.items() if key != left_out}


def shorter(tape: Tape, fails: Fails) -> Tape:
    """End the fault phase sooner: soon after the last fault struck or was healed, in whole tens of seconds."""
    ends = [_ms(fault, "at_ms") for fault in tape.fault]
    over = [at_ms + _ms(fault, "for_ms") for at_ms, fault in zip(ends, tape.fault, strict=True)]
    last_ms, over_ms = max(ends, default=0), max(over, default=0)
    after = [last_ms, over_ms, over_ms + 20_000, over_ms + 60_000, (last_ms + tape.duration_ms) // 2, tape.duration_ms]
    times = sorted({(at_ms // ROUND_MS + 1) * ROUND_MS for at_ms in after} | {tape.duration_ms // ROUND_MS * ROUND_MS})
    return first(
        (replace(tape, duration_ms=at_ms) for at_ms in times if last_ms < at_ms < tape.duration_ms), fails, tape
    )


def _ms(fault: Table, key: str) -> int:
    value = fault.get(key, 0)
    return value if isinstance(value, int) else 0


def _scenario(tape: Tape) -> Scenario | None:
    try:
        return to_scenario(tape)
    except InputError:
        return None
