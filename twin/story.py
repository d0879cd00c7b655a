"""What happened in a run, as a person would tell it: bands, holdings, fault marks and incidents.

The report and the terminal timeline are drawn from this alone, so they need neither the world nor the journal.
"""

from typing import Literal

import msgspec

BandKind = Literal["off", "booting", "up", "joined", "suspect", "lost", "frozen", "quarantined", "maintenance"]
Level = Literal["fault", "heal", "bad", "good", "info", "detail"]

BANDS: dict[BandKind, str] = {
    "off": "no power",
    "booting": "powered, not yet up",
    "up": "up, not a member",
    "joined": "member of the rack",
    "suspect": "its peers no longer hear it",
    "lost": "its session ended",
    "frozen": "frozen: powered, executes nothing",
    "quarantined": "left to the operator",
    "maintenance": "runs nothing that must move",
}


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """One node was in one condition from ``from_ms`` to ``to_ms``."""

    node: str
    kind: BandKind
    from_ms: int
    to_ms: int


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """One node held (``serving`` False: claimed, fencing, starting) or served a singleton."""

    service: str
    node: str
    epoch: int
    serving: bool
    from_ms: int
    to_ms: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. ``nodes`` are those it hit; empty: the rack as a whole. ``to_ms`` is when it was healed."""

    fault: str
    text: str
    nodes: tuple[str, ...]
    from_ms: int
    to_ms: int


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline."""

    at_ms: int
    level: Level
    node: str
    service: str
    kind: str
    text: str


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; every list is in order of time, ``nodes`` in order of the rack.

    ``heal_ms`` is when the faults were removed, ``end_ms`` when the run ended.
    """

    title: str
    why: str
    nodes: tuple[str, ...]
    heal_ms: int
    end_ms: int
    bands: tuple[Band, ...]
    holds: tuple[Hold, ...]
    marks: tuple[Mark, ...]
    incidents: tuple[Incident, ...]
