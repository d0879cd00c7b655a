"""Where hosts write the canonical journal, and the digest over all of it."""

import hashlib
from collections.abc import Callable

import msgspec

from core.effects import AnyEffect
from core.events import AnyEvent, RecordsChanged
from core.ids import NodeId
from core.journal import Kind, Opening

BATCH = 512
"""Lines that are encoded at once; records are frozen, so encoding may wait."""

SHARED_MIN = 4
"""An event of so many changes that many nodes are told in turn is encoded once."""

Line = tuple[int, NodeId, int, Kind, AnyEvent | AnyEffect | Opening | msgspec.Raw]


class Recorder:
    """Collects lines in order; encodes, digests and passes them on in batches.

    The bytes are those of ``core.journal.write_line``. With ``keep`` the journal stays in memory (``lines``); ``sink``
    gets every batch (a file's ``write``, say).
    """

    def __init__(self, *, keep: bool = False, sink: Callable[[bytes], object] | None = None) -> None:
        self._encoder = msgspec.json.Encoder()
        self._hash = hashlib.blake2b(digest_size=16)
        self._batch: list[Line] = []
        self._kept: list[bytes] | None = [] if keep else None
        self._sink = sink
        self._shared: tuple[AnyEvent | None, msgspec.Raw] = (None, msgspec.Raw())
        self.count = 0

    def write(
        self, at_ms: int, node: NodeId, incarnation: int, kind: Kind, body: AnyEvent | AnyEffect | Opening
    ) -> None:
        """Add one line."""
        batch = self._batch
        batch.append((at_ms, node, incarnation, kind, body))
        if len(batch) >= BATCH:
            self.flush()

    def step(self, at_ms: int, node: NodeId, incarnation: int, event: AnyEvent, effects: tuple[AnyEffect, ...]) -> None:
        """Add the lines of one step: its event and its effects."""
        batch = self._batch
        told: AnyEvent | msgspec.Raw = event
        if type(event) is RecordsChanged and len(event.changes) >= SHARED_MIN:
            if event is not self._shared[0]:
                self._shared = event, msgspec.Raw(self._encoder.encode(event))
            told = self._shared[1]
        batch.append((at_ms, node, incarnation, "event", told))
        for effect in effects:
            batch.append((at_ms, node, incarnation, "effect", effect))
        if len(batch) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Encode what is waiting."""
        if not self._batch:
            return
        chunk = self._encoder.encode_lines(self._batch)
        self.count += len(self._batch)
        self._batch.clear()
        self._hash.update(chunk)
        if self._kept is not None:
            self._kept.append(chunk)
        if self._sink is not None:
            self._sink(chunk)

    def digest(self) -> str:
        """Hex digest of all lines so far."""
        self.flush()
        return self._hash.hexdigest()

    def lines(self) -> list[bytes]:
        """All lines, each with its newline; empty unless kept."""
        self.flush()
        return b"".join(self._kept or []).splitlines(keepends=True)
