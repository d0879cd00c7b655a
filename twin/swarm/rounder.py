"""Simpler faults of a campaign: struck once, at round times, without optional keys, with fewer targets.

Steps as in ``twin.swarm.simpler``.
"""

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from twin.swarm.simpler import Fails, first
from twin.swarm.tape import Table, Tape

GRAINS_MS = (10_000, 5_000, 1_000, 100)
"""Times are rounded to the first of these that still fails."""
START_MS = 30_000
"""A warm rack has settled by then: the first fault comes later."""
GAPS_MS = (10_000, 30_000, 60_000)
"""Times between two faults that are tried if there is more."""
_KEPT = ("kind", "at_ms", "for_ms", "target")
Change = Callable[[Table], Table]


def earlier(tape: Tape, fails: Fails) -> Tape:
    """Let each fault, with all after it and the end, come sooner after the one before it."""
    for index in range(len(tape.fault)):
        at_ms = _ms(tape.fault[index], "at_ms")
        before_ms = _ms(tape.fault[index - 1], "at_ms") if index else START_MS
        sooner = [at_ms - before_ms - gap_ms for gap_ms in GAPS_MS]
        tape = first((_moved(tape, index, by_ms) for by_ms in sooner if by_ms > 0), fails, tape)
    return tape


def _moved(tape: Tape, start: int, by_ms: int) -> Tape:
    """The tape with every fault from this one on, and the end, earlier."""
    later = tuple({**fault, "at_ms": _ms(fault, "at_ms") - by_ms} for fault in tape.fault[start:])
    return replace(tape, fault=(*tape.fault[:start], *later), duration_ms=tape.duration_ms - by_ms)


def plain_faults(tape: Tape, fails: Fails) -> Tape:
    """Leave out what need not be said: repetitions, keys that have a default, a healing that the end comes before."""
    tape = _all_or_each(tape, fails, lambda fault: _never_healed(fault, tape.duration_ms))
    tape = _all_or_each(tape, fails, lambda fault: {key: fault[key] for key in fault if key in _KEPT})
    for key in sorted({key for fault in tape.fault for key in fault if key not in _KEPT}):
        tape = _all_or_each(tape, fails, partial(_without, key=key))
    return tape


def _without(fault: Table, key: str) -> Table:
    return {name: value for name, value in fault.items() if name != key}


def _never_healed(fault: Table, duration_ms: int) -> Table:
    over_ms = _ms(fault, "at_ms") + _ms(fault, "for_ms")
    return {key: fault[key] for key in fault if key != "for_ms" or over_ms < duration_ms}


def fewer_targets(tape: Tape, fails: Fails) -> Tape:
    """Let a fault of several targets strike one of them only."""
    for index, fault in enumerate(tape.fault):
        target = str(fault.get("target", ""))
        if "," in target and "(" not in target:
            single = [_changed(tape, index, {**fault, "target": name.strip()}) for name in target.split(",")]
            tape = first(single, fails, tape)
    return tape


def rounder(tape: Tape, fails: Fails) -> Tape:
    """Round the times at which faults strike, and how long they last: all at once if possible, else one by one."""
    for key in ("at_ms", "for_ms"):
        for grain_ms in GRAINS_MS:
            tape = _all(tape, fails, partial(_rounded, key=key, grain_ms=grain_ms))
        for index in range(len(tape.fault)):
            tape = _round_one(tape, fails, index, key)
    return tape


def _round_one(tape: Tape, fails: Fails, index: int, key: str) -> Tape:
    fault = tape.fault[index]
    candidates = [_rounded(fault, key, grain_ms) for grain_ms in GRAINS_MS if _ms(fault, key) % grain_ms]
    return first([_changed(tape, index, one) for one in candidates if one != fault], fails, tape)


def _rounded(fault: Table, key: str, grain_ms: int) -> Table:
    """The fault with a time rounded to the grain; one that is rounder already, or would be 0, stays."""
    at_ms = _ms(fault, key)
    to_ms = (at_ms + grain_ms // 2) // grain_ms * grain_ms
    return {**fault, key: to_ms} if to_ms > 0 else fault


def _all_or_each(tape: Tape, fails: Fails, change: Change) -> Tape:
    tape = _all(tape, fails, change)
    for index, fault in enumerate(tape.fault):
        changed = change(fault)
        if changed != fault:
            tape = first([_changed(tape, index, changed)], fails, tape)
    return tape


def _all(tape: Tape, fails: Fails, change: Change) -> Tape:
    changed = _in_order([change(fault) for fault in tape.fault])
    return first([replace(tape, fault=changed)], fails, tape) if changed != tape.fault else tape


def _changed(tape: Tape, index: int, fault: Table) -> Tape:
    return replace(tape, fault=_in_order([*tape.fault[:index], fault, *tape.fault[index + 1 :]]))


def _in_order(faults: list[Table]) -> tuple[Table, ...]:
    return tuple(sorted(faults, key=lambda fault: _ms(fault, "at_ms")))


def _ms(fault: Table, key: str) -> int:
    value = fault.get(key, 0)
    return value if isinstance(value, int) else 0
