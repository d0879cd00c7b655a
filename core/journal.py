"""The canonical journal: one line per event and per effect, the same from every host.

A line is a JSON array ``[at_ms, node, incarnation, kind, body]``. ``at_ms`` is the writer's time line (the twin's
clock, or the host's), ``incarnation`` counts the agent processes of that node, ``kind`` is ``open`` (what the machine
was made from), ``snapshot`` (its state, at the start of a rotated journal), ``event`` or ``effect``.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from core.effects import AnyEffect
from core.events import AnyEvent
from core.ids import NodeId
from core.specs import NodeSpec, ServiceSpec, Timing

Kind = Literal["open", "snapshot", "event", "effect"]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """All that a machine is made from; the first body of each agent process in a journal.

    ``networks``: names of the management networks in which new machines are looked for; none: nobody looks.
    ``taken``: numbers that no found machine may be given.
    """

    node: NodeSpec
    timing: Timing
    services: tuple[ServiceSpec, ...]
    inventory: tuple[NodeSpec, ...] = ()
    networks: tuple[str, ...] = ()
    taken: tuple[int, ...] = ()


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line of a journal; ``body`` is undecoded JSON of the type that ``kind`` says."""

    at_ms: int
    node: NodeId
    incarnation: int
    kind: Kind
    body: msgspec.Raw


_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(Line)
_event_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_effect_decoder: msgspec.json.Decoder[AnyEffect] = msgspec.json.Decoder(AnyEffect)
_opening_decoder = msgspec.json.Decoder(Opening)


def encode(body: AnyEvent | AnyEffect | Opening) -> bytes:
    """Canonical bytes of a body: field order as declared, no spaces."""
    return _encoder.encode(body)


def write_line(at_ms: int, node: NodeId, incarnation: int, kind: Kind, body: bytes) -> bytes:
    """One line with its newline."""
    return _encoder.encode(Line(at_ms, node, incarnation, kind, msgspec.Raw(body))) + b"\n"


def read_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """Decode lines; the last one may be cut off (a crash) and is then left out.

    Raises: msgspec.DecodeError for any other broken line.
    """
    held: bytes | None = None
    for raw in lines:
        if held is not None:
            yield _line_decoder.decode(held)
        held = raw
    if held is not None:
        if held.endswith(b"\n"):
            yield _line_decoder.decode(held)


def decode_event(body: msgspec.Raw) -> AnyEvent:
    return _event_decoder.decode(body)


def decode_effect(body: msgspec.Raw) -> AnyEffect:
    return _effect_decoder.decode(body)


def decode_opening(body: msgspec.Raw) -> Opening:
    return _opening_decoder.decode(body)
