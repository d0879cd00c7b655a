"""The figures that durability assumes, beside those of planning: each with its source, each open to change."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

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
    ours = {
        "disk_annual_rate": _figure(
            _disk_rate(), "failures a year of one disk", "1/year", 1e-6, 10.0, disk().behaviour.source
        ),
        "node_mttf_hours": _figure(
            round(mean_h(NODE.behaviour.up), 1),
            "time between outages of one node, of all causes",
            "h",
            1.0,
            1e7,
            NODE.behaviour.source,
        ),
        "pdu_mttf_hours": _figure(
            round(mean_h(PDU.behaviour.up), 1), "time between outages of one PDU", "h", 1.0, 1e8, PDU.behaviour.source
        ),
        "rack_mttf_hours": _figure(
            round(mean_h(RACK.behaviour.up), 1),
            "time between outages of one rack as a whole",
            "h",
            1.0,
            1e8,
            RACK.behaviour.source,
        ),
        "node_lost_ratio": _figure(
            0.0,
            "disks behind a failed node that never come back",
            "",
            0.0,
            1.0,
            f"{_OURS}: failures of disks are apart",
        ),
        "pdu_lost_ratio": _figure(0.01, "the same, when power fails", "", 0.0, 1.0, _CIDON),
        "rack_lost_ratio": _figure(
            0.0, "the same, when a rack is away", "", 0.0, 1.0, f"{_OURS}: a rack is away with its switch"
        ),
        "burst_share": _figure(
            0.37,
            "node failures that are part of a burst",
            "",
            0.1,
            0.95,
            "D. Ford et al.: Availability in Globally Distributed Storage Systems, OSDI 2010, section 4",
        ),
        "burst_power_share": _figure(
            0.1, "bursts that are a loss of power", "", 0.0, 1.0, f"{_OURS}: one in ten; the others lose no disk"
        ),
        "burst_lost_ratio": _figure(
            0.01, "disks behind a node struck by such a burst that never come back", "", 0.0, 1.0, _CIDON
        ),
        "site_cuts_per_year": _figure(
            0.0, "outages of power of the whole site", "1/year", 0.0, 1_000.0, f"{_OURS}: none, unless you know better"
        ),
        "site_cut_hours": _figure(1.0, "how long such an outage is", "h", 0.01, 1_000.0, _OURS),
        "recovery_hours": _figure(
            0.0,
            "from a lost disk to all copies made again; 0: computed from Ceph's limits (docs/planning.md)",
            "h",
            0.0,
            100_000.0,
            "twin plan's recovery of one lost OSD",
        ),
    }
    return Assumptions(figures={**default_assumptions().figures, **ours})


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
