"""Checkers of volumes: judged by what the storage accepted, and by what was acknowledged to clients."""

from core.ids import ServiceName, VolumeName
from core.records import Instance
from trial.history import by_service
from twin.truth import Truth, VolumeWrite


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
    for service, ops in by_service(truth.ops):
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
