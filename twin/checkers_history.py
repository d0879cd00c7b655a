"""Checkers of volumes: judged by what the storage accepted, and by what was acknowledged to clients.

What they watch comes in all the time: ``twin.volumes`` and ``twin.survival`` judge it as it does.
"""

from twin.truth import Truth


def identity_before_writing(truth: Truth) -> str:
    """Say which instance wrote before it was recorded in the term (rule 2), or ""."""
    for first in truth.first_writes:
        if not first.recorded:
            who = first.instance
            return (
                f"{first.volume}: {who.address} ({who.node}, epoch {who.epoch}) wrote at {first.at_ms} ms, unrecorded"
            )
    return ""


def fenced_before_opening(truth: Truth) -> str:
    """Say who asked to open a volume that an instance of an earlier epoch could still write to (rule 3), or ""."""
    for opening in truth.openings:
        if opening.open:
            old = opening.open[0]
            return (
                f"{opening.volume}: {opening.node} opened it at {opening.at_ms} ms for epoch {opening.epoch}, while "
                f"{old.address} ({old.node}, epoch {old.epoch}) was neither closed nor fenced"
            )
    return ""


def acknowledged_writes_survive(truth: Truth) -> str:
    """Say which acknowledged write is not, or no longer, in the volume, or ""."""
    for service, survival in truth.survival.items():
        problem = survival.problem()
        if problem:
            return f"{service}: {problem}"
    return ""
