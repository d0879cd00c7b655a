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
from core.identity import plain_mac
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
_WHO = re.compile(r"with (?P<mac>[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5})")
HEAD = ("REFUSED", "TIMES", "AS", "BY", "WHY", "FROM", "WHO")
Row = Sequence[str]


class Heard(msgspec.Struct, kw_only=True):
    """Equal refusals. ``at``: when the last one was, "" if that is not known; ``who``: who it was, each once."""

    reason: str
    node: str
    card: str
    address: str
    by: list[NodeId] = []
    who: list[str] = []
    at: str = ""
    times: int = 0


def stamped(detail: str, at: str) -> str:
    """What is told of a refusal, with the time of day: who reads it later does not know this node's clock."""
    return f"{detail} at {at}"


def heard(views: Mapping[NodeId, NodeView]) -> list[Heard]:
    """What the agents show, equal ones together, the latest last: of one card, from one address, for one reason."""
    found: dict[tuple[str, ...], Heard] = {}
    for by, view in sorted(views.items()):
        for said in view.refusals:
            one, who = _read(said)
            known = found.setdefault((one.reason, one.node, one.card, one.address or who), one)
            known.at, known.times = max(known.at, one.at), known.times + 1
            known.by += [by] if by not in known.by else []
            known.who += [who] if who not in known.who else []
    return sorted(found.values(), key=lambda one: one.at)


def rows(views: Mapping[NodeId, NodeView], at: str) -> list[Row]:
    """The table, the latest last; ``at``: the time of the look."""
    known = heard(views)
    shown = [_row(one, at) for one in known[-ROWS_MAX:]]
    more = len(known) - ROWS_MAX
    return [*([("earlier", str(more), "", "", "more of them", "", "")] if more > 0 else []), *shown]


def _row(one: Heard, at: str) -> Row:
    others = len(one.who) - 1
    more = f", and {others} {'other UUIDs' if one.card else 'more'}" if others else ""
    why, address = _why(one.reason), one.address or "–"
    return _ago(one.at, at), str(one.times), one.node or "–", " ".join(one.by), why, address, one.who[-1] + more


def _read(said: str) -> tuple[Heard, str]:
    """A refusal, and who it was: UUID and card as people write them, if it was somebody who said so."""
    found = _FORM.fullmatch(said)
    if found is None:
        return Heard(reason="", node="", card="", address="", by=[], who=[]), said
    reason, node, address, at = (found[key] or "" for key in ("reason", "node", "address", "at"))
    who, card = found["detail"].removeprefix("machine "), ""
    if machine := _WHO.search(who):
        card = plain_mac(machine["mac"])
        who = who.replace(machine["mac"], card)
    who += found["more"] or ""
    return Heard(reason=reason, node=node, card=card, address=address, at=at, by=[], who=[]), who


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
