"""Looking at agents: the view that each shows over HTTP, and by how far its node's clock is ahead of ours."""

import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path

import msgspec

from core.ids import NodeId
from core.view import NodeView
from drivers.clock import wall_ms
from drivers.metrics import REVOCABLE
from drivers.rack_state import Heard

ANSWER_S = 2.0
VIEW_BYTES_MAX = 8 << 20
THREADS_MAX = 16
PATH = "/view"

_decoder = msgspec.json.Decoder(NodeView)


def views(addresses: Mapping[NodeId, str]) -> dict[NodeId, Heard]:
    """Ask every agent at once, at most ``THREADS_MAX`` at a time."""
    if not addresses:
        return {}
    with ThreadPoolExecutor(min(THREADS_MAX, len(addresses)), "view") as pool:
        return dict(zip(addresses, pool.map(view_at, addresses.values()), strict=True))


def view_at(address: str) -> Heard:
    """The view of the agent at ``ADDRESS:PORT``; its ``error`` in words if there is none."""
    connection = http.client.HTTPConnection(address, timeout=ANSWER_S)
    try:
        asked = wall_ms()
        connection.request("GET", PATH)
        answer = connection.getresponse()
        body = answer.read(VIEW_BYTES_MAX + 1)
        ahead = _ahead(answer.getheader("Date", ""), asked, wall_ms())
        if answer.status != http.client.OK:
            return Heard(error=f"it answers {answer.status} {answer.reason} ({address})", ahead_ms=ahead)
        revocable = answer.getheader(REVOCABLE) == "yes"
        return Heard(view=_decoder.decode(body), ahead_ms=ahead, revocable=revocable)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        return Heard(error=f"{spoken(error)} ({address})")
    finally:
        connection.close()


def view_in(run_dir: Path) -> Heard:
    """The view that the agent of this machine left last in its folder."""
    path = run_dir / "view.json"
    try:
        return Heard(view=_decoder.decode(path.read_bytes()))
    except (OSError, msgspec.DecodeError) as error:
        return Heard(error=f"{spoken(error)} ({path})")


def _ahead(date: str, asked_ms: int, answered_ms: int) -> int | None:
    """The other clock less ours; the header has whole seconds, so what may be rounding or the way there counts as 0."""
    try:
        theirs = int(parsedate_to_datetime(date).timestamp() * 1000)
    except (ValueError, TypeError):
        return None
    if theirs > answered_ms:
        return theirs - answered_ms
    return min(0, theirs + 999 - asked_ms)


def spoken(error: Exception) -> str:
    """Say an error of a connection in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
