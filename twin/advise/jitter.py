"""How late answers come on a rack, read from the journals of its agents."""

import itertools
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.events import BeatAnswered
from core.ids import NodeId, ServiceName
from core.journal import Line, decode_event

MS_PER_HOUR = 3_600_000

Chain = tuple[NodeId, int, ServiceName, str]


class Lateness(msgspec.Struct, frozen=True, kw_only=True):
    """How much later than one period after the question before it an answer came; ``hours`` of watching in all.

    ``late_ms``: int64 array, shape (answers,). A question that was not answered is part of the next one's lateness.
    """

    hours: float
    late_ms: NDArray[np.int64]


class Jitter(msgspec.Struct, frozen=True, kw_only=True):
    """Lateness of the coordination service and of the storage, as holders of singletons saw them."""

    coordination: Lateness
    storage: Lateness


class _Series:
    """The answers of one kind of beat."""

    def __init__(self) -> None:
        self.late_ms: list[int] = []
        self.watched_ms = 0

    def add(self, asked_before_ms: int, answered_before_ms: int, event: BeatAnswered, every_ms: int) -> None:
        self.late_ms.append(max(0, event.at_ms - asked_before_ms - every_ms))
        self.watched_ms += max(0, event.at_ms - answered_before_ms)

    def lateness(self) -> Lateness:
        return Lateness(hours=self.watched_ms / MS_PER_HOUR, late_ms=np.array(self.late_ms, np.int64))


def jitter_of(lines: Iterable[Line]) -> Jitter:
    """Read the lateness of every answered beat in journals of protocol fidelity, or of a real rack.

    The period of a beat is taken from its own questions: the median distance of two that were answered. Each agent,
    service and kind of beat is a chain of its own; a refused beat ends its chain.
    """
    chains: dict[Chain, list[BeatAnswered]] = {}
    for line in lines:
        if line.kind != "event":
            continue
        event = decode_event(line.body)
        if isinstance(event, BeatAnswered) and event.outcome == "ok":
            chains.setdefault((line.node, line.incarnation, event.service, f"{event.kind} {event.epoch}"), []).append(
                event
            )
    found = {"coordination": _Series(), "storage": _Series()}
    for chain in chains.values():
        asked = np.array(sorted({event.asked_ms for event in chain}), np.int64)
        if len(asked) < 3:
            continue
        every_ms = int(np.median(np.diff(asked)))
        for before, event in itertools.pairwise(chain):
            if event.asked_ms > before.asked_ms:
                found[event.kind].add(before.asked_ms, before.at_ms, event, every_ms)
    return Jitter(coordination=found["coordination"].lateness(), storage=found["storage"].lateness())
