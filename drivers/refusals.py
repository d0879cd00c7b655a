"""Who was refused a boot or a certificate lately, for ``rack status``: in words, with when, how often, and by whom.

Agents show refusals as sentences, ``REASON as NODE: machine UUID with CARD from ADDRESS at TIME``; the same ones are
counted together. A sentence that is none of that form is shown as it is.
"""

import calendar
import re
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from core.gate import Refusal
from core.ids import NodeId
from core.view import NodeView

WORDS: dict[Refusal, str] = {
    "unknown_machine": "nobody expects this machine",
    "window_closed": "it came when its time to boot was over",
    "wrong_mac": "it has another network card than is on record",
    "asked_twice": "two machines claim to be this one, or it booted twice: neither gets more",
    "unknown_token": "nobody was ever given its token",
    "token_spent": "its token was used before",
    "token_void": "its token was stolen, claimed twice or replaced: it counts no more",
    "wrong_machine": "it uses what belongs to another machine: a token or a network card",
    "wrong_image": "it runs another image than it was given",
    "retired": "it was taken out of the rack for good",
    "bad_request": "what it sent is no request",
}
ROWS_MAX = 20
TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
_FORM = re.compile(
    r"(?P<reason>[a-z_]+)(?: as (?P<node>\S+))?: (?P<detail>.*?)(?: from (?P<address>[0-9a-fA-F.:]+))?"
    r"(?P<more>; (?P<kept>\d+) more were refused)?(?: at (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ))?"
)
HEAD = ("REFUSED", "TIMES", "AS", "BY", "WHY", "FROM", "WHO")
Row = Sequence[str]


class Heard(msgspec.Struct, kw_only=True):
    """Equal refusals. ``at``: when the last one was, "" if that is not known."""

    by: NodeId
    reason: str
    node: str
    detail: str
    address: str
    at: str = ""
    times: int = 0


def stamped(detail: str, at: str) -> str:
    """What is told of a refusal, with the time of day: who reads it later does not know this node's clock."""
    return f"{detail} at {at}"


def heard(views: Mapping[NodeId, NodeView]) -> list[Heard]:
    """What the agents show, equal ones together, the latest last."""
    found: dict[tuple[str, ...], Heard] = {}
    for by, view in sorted(views.items()):
        for said in view.refusals:
            one = _read(by, said)
            known = found.pop(key := (by, one.reason, one.node, one.detail, one.address), one)
            known.at, known.times = max(known.at, one.at), known.times + 1
            found[key] = known
    return sorted(found.values(), key=lambda one: one.at)


def rows(views: Mapping[NodeId, NodeView], at: str) -> list[Row]:
    """The table, the latest last; ``at``: the time of the look."""
    known = heard(views)
    shown = [
        (_ago(one.at, at), str(one.times), one.node or "–", one.by, _why(one.reason), one.address or "–", one.detail)
        for one in known[-ROWS_MAX:]
    ]
    more = len(known) - ROWS_MAX
    return [*([("earlier", str(more), "", "", "more of them", "", "")] if more > 0 else []), *shown]


def _read(by: NodeId, said: str) -> Heard:
    found = _FORM.fullmatch(said)
    if found is None:
        return Heard(by=by, reason="", node="", detail=said, address="")
    detail = found["detail"].removeprefix("machine ") + (found["more"] or "")
    return Heard(
        by=by,
        reason=found["reason"],
        node=found["node"] or "",
        detail=detail,
        address=found["address"] or "",
        at=found["at"] or "",
    )


def _why(reason: str) -> str:
    words: Iterable[str] = (f"{said} ({name})" for name, said in WORDS.items() if name == reason)
    return next(iter(words), reason)


def _ago(then: str, now: str) -> str:
    """How long before ``now`` that was."""
    try:
        began, looked = (calendar.timegm(time.strptime(text, TIME_FORM)) for text in (then, now))
    except ValueError:
        return "lately"
    seconds = max(0, looked - began)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
