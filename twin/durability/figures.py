"""The figures that durability assumes, beside those of planning: each with its source, each open to change."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from core.errors import InputError
from twin.capacity.assumptions import Assumption, Assumptions, default_assumptions
from twin.failures.components import NODE, PDU, RACK, SERVICE_YEARS, disk
from twin.failures.distributions import YEAR_H, mean_h, survival

_CIDON = "A. Cidon et al.: Copysets, USENIX ATC 2013, section 1: 0.5 % to 1 % of nodes do not survive a power outage"
_OURS = "ours: an assumption"


def _disk_rate() -> float:
    """Failures a year of a disk of mixed age, up to five years old."""
    import numpy as np

    left = float(survival(disk().behaviour.up, np.array([SERVICE_YEARS * YEAR_H]))[0])
    return round(-math.log(left) / SERVICE_YEARS, 5)


def default_figures() -> Assumptions:
    """Return the figures of planning and, after them, those of durability."""
    planning = default_assumptions().figures
    full = msgspec.structs.replace(
        planning["fill_ratio"], value=0.6, source="ours: an empty rack has nothing to lose, and recovers at once"
    )
    ours = {row[0]: _figure(*row[1:]) for row in (*_rates(), *_SHARES)}
    return Assumptions(figures={**planning, "fill_ratio": full, **ours})


Row = tuple[str, float, str, str, float, float, str]
"""Key, value, what it is, unit, smallest and largest value, source."""


def _rates() -> tuple[Row, ...]:
    """Rates of components, as `twin.failures` publishes them."""
    node, pdu, rack = (round(mean_h(part.behaviour.up), 1) for part in (NODE, PDU, RACK))
    per_disk = "failures a year of one disk"
    of_node = "time between outages of one node, of all causes"
    return (
        ("disk_annual_rate", _disk_rate(), per_disk, "1/year", 1e-6, 10.0, disk().behaviour.source),
        ("node_mttf_hours", node, of_node, "h", 1.0, 1e7, NODE.behaviour.source),
        ("pdu_mttf_hours", pdu, "time between outages of one PDU", "h", 1.0, 1e8, PDU.behaviour.source),
        ("rack_mttf_hours", rack, "time between outages of one rack as a whole", "h", 1.0, 1e8, RACK.behaviour.source),
    )


_GONE = "disks behind it that never come back, when"
_BURSTS = "D. Ford et al.: Availability in Globally Distributed Storage Systems, OSDI 2010, section 4"
_RECOVERED = "from a lost disk to all copies made again; 0: computed from Ceph's limits (docs/planning.md)"
_SHARES: tuple[Row, ...] = (
    ("node_lost_ratio", 0.0, f"{_GONE} a node fails", "", 0.0, 1.0, f"{_OURS}: disks fail apart"),
    ("pdu_lost_ratio", 0.01, f"{_GONE} power fails", "", 0.0, 1.0, _CIDON),
    ("rack_lost_ratio", 0.0, f"{_GONE} a rack is away", "", 0.0, 1.0, f"{_OURS}: a rack is away with its switch"),
    ("burst_share", 0.37, "node failures that are part of a burst", "", 0.1, 1.0, _BURSTS),
    ("burst_power_share", 0.1, "bursts that are a loss of power", "", 0.0, 1.0, f"{_OURS}: the others lose no disk"),
    ("burst_lost_ratio", 0.01, f"{_GONE} such a burst strikes", "", 0.0, 1.0, _CIDON),
    ("site_cuts_per_year", 0.0, "outages of power of the whole site", "1/year", 0.0, 1e3, f"{_OURS}: none by default"),
    ("site_cut_hours", 1.0, "how long such an outage is", "h", 0.01, 1e3, _OURS),
    ("recovery_hours", 0.0, _RECOVERED, "h", 0.0, 1e5, "twin plan's recovery of one lost OSD"),
)


def _figure(value: float, what: str, unit: str, low: float, high: float, source: str) -> Assumption:
    return Assumption(value=value, what=what, unit=unit, min=low, max=high, source=source)


def load_figures(pairs: Sequence[str] = (), file: Path | None = None) -> Assumptions:
    """Return the figures changed by a file (``key = value`` lines of TOML) and then by ``key=value`` pairs.

    Raises: InputError for what names no figure, or a value that is not allowed.
    """
    from formats.load import read_toml

    figures = default_figures()
    if file is not None:
        figures = figures.changed_with(read_toml(file, "a file of assumptions"), str(file))
    changes: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise InputError([f"--set {pair[:60]!r}: allowed: key=value, such as recovery_hours=12"])
        changes[key.strip()] = _parsed(text.strip())
    return figures.changed_with(changes, "--set")


def _parsed(text: str) -> int | float | str:
    """A number if it looks like one, else the text."""
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d{1,18}\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", text) and math.isfinite(float(text)):
        return float(text)
    return text
