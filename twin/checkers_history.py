"""Checkers of volumes and of what clients saw: judged by what the storage accepted and what was acknowledged."""

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import msgspec

from core.ids import ServiceName, VolumeName
from core.records import Instance
from twin.truth import ClientOp, Truth, VolumeWrite

NEVER_MS = 1 << 62


def single_writer(truth: Truth) -> str:
    """Say which write of an instance the storage accepted after one of a newer instance had written, or ""."""
    current: dict[VolumeName, Instance] = {}
    past: dict[VolumeName, dict[Instance, int]] = {}
    for write in truth.writes:
        before = current.get(write.volume)
        if write.instance == before:
            continue
        seen = past.setdefault(write.volume, {})
        if write.instance in seen or (before is not None and write.instance.epoch < before.epoch):
            return _late(write, before)
        seen[write.instance] = write.at_ms
        current[write.volume] = write.instance
    return ""


def _late(write: VolumeWrite, newer: Instance | None) -> str:
    old, new = write.instance, newer or write.instance
    return (
        f"{write.volume}: at {write.at_ms} ms the storage accepted a write of {old.address} ({old.node}, epoch "
        f"{old.epoch}) after {new.address} ({new.node}, epoch {new.epoch}) had written"
    )


def identity_before_writing(truth: Truth) -> str:
    """Say which instance wrote before it was recorded in the term (rule 2), or ""."""
    for first in truth.first_writes:
        if not first.recorded:
            who = first.instance
            return (
                f"{first.volume}: {who.address} ({who.node}, epoch {who.epoch}) wrote at {first.at_ms} ms, unrecorded"
            )
    return ""


def fence_holds(truth: Truth) -> str:
    """Say which write was accepted of an instance whose fence was confirmed (rule 6), or ""."""
    steps = sorted(
        [(b.at_ms, 0, i) for i, b in enumerate(truth.blocks)] + [(w.at_ms, 1, i) for i, w in enumerate(truth.writes)]
    )
    fenced: dict[tuple[VolumeName, Instance], int] = {}
    for at_ms, kind, index in steps:
        if kind == 0:
            block = truth.blocks[index]
            key = (block.volume, block.instance)
            if block.change == "complete":
                fenced[key] = at_ms
            elif block.change in ("lifted", "expired"):
                fenced.pop(key, None)
        else:
            write = truth.writes[index]
            since_ms = fenced.get((write.volume, write.instance), at_ms)
            if since_ms < at_ms:
                return f"{write.volume}: a write of {write.instance.address} at {at_ms} ms, fenced at {since_ms} ms"
    return ""


def acknowledged_writes_survive(truth: Truth, volumes: dict[ServiceName, VolumeName]) -> str:
    """Say which acknowledged write is not, or no longer, in the volume, or ""."""
    accepted: dict[VolumeName, dict[int, int]] = {}
    last: dict[VolumeName, int] = {}
    for write in truth.writes:
        if write.payload:
            accepted.setdefault(write.volume, {}).setdefault(write.payload, write.at_ms)
            last[write.volume] = write.payload
    for service, ops in _by_service(truth.ops):
        volume = volumes.get(service)
        if volume is None:
            continue
        written = {op.value: op for op in ops if op.kind == "write"}
        final = written.get(last.get(volume, 0))
        for op in written.values():
            if op.outcome != "ok":
                continue
            if op.value not in accepted.get(volume, {}):
                return (
                    f"{service}: write {op.value} was acknowledged at {op.answered_ms} ms but never reached the storage"
                )
            if final is not None and final.answered_ms < op.invoked_ms and final.outcome == "ok":
                when_ms = op.answered_ms
                return f"{service}: write {op.value}, acknowledged at {when_ms} ms, was overwritten by {final.value}"
    return ""


class Zone(msgspec.Struct, frozen=True, order=True):
    """When a value must have been the register's: from the first answer that shows it to the last question for it."""

    low_ms: int
    high_ms: int
    value: int


def linearizable(truth: Truth) -> str:
    """Say which two values of a register cannot be put in one order, or "".

    Source: Gibbons and Korach, Testing Shared Memories, SIAM J. Comput. 26(4), 1997, 4.4 (every value written once).
    """
    for service, ops in _by_service(truth.ops):
        problem = _register(ops)
        if problem:
            return f"{service}: {problem}"
    return ""


def _by_service(ops: Iterable[ClientOp]) -> list[tuple[ServiceName, list[ClientOp]]]:
    found: dict[ServiceName, list[ClientOp]] = {}
    for op in ops:
        found.setdefault(op.service, []).append(op)
    return sorted(found.items())


def _register(ops: Sequence[ClientOp]) -> str:
    writes = {op.value: op for op in ops if op.kind == "write"}
    spans: dict[int, tuple[int, int]] = {0: (-1, -1)}
    for op in writes.values():
        if op.outcome == "ok":
            spans[op.value] = (op.answered_ms, op.invoked_ms)
    for op in ops:
        if op.kind == "read" and op.outcome == "ok":
            write = writes.get(op.value)
            if op.value and (write is None or write.outcome == "failed"):
                return f"read {op.value} at {op.answered_ms} ms, which nobody wrote"
            if write is not None and op.answered_ms < write.invoked_ms:
                return f"read {op.value} at {op.answered_ms} ms, before it was written at {write.invoked_ms} ms"
            first, latest = spans.get(op.value, (NEVER_MS, write.invoked_ms if write else -1))
            spans[op.value] = (min(first, op.answered_ms), max(latest, op.invoked_ms))
    return _conflict(spans)


def _conflict(spans: dict[int, tuple[int, int]]) -> str:
    """Find two values whose times exclude each other; ``spans`` maps a value to (first answer, last question)."""
    forward = sorted(Zone(first, latest, value) for value, (first, latest) in spans.items() if first < latest)
    for one, two in itertools.pairwise(forward):
        if two.low_ms < one.high_ms:
            return f"{one.value} was current until {one.high_ms} ms although {two.value} was from {two.low_ms} ms on"
    lows = [zone.low_ms for zone in forward]
    for value, (first, latest) in sorted(spans.items()):
        if first < latest:
            continue
        index = bisect_left(lows, latest) - 1
        if index >= 0 and first < forward[index].high_ms:
            held = forward[index]
            return f"{value} was written and answered when {held.value} was current ({held.low_ms}-{held.high_ms} ms)"
    return ""
