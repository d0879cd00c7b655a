"""The lab's stranger as its faults see him: where he is plugged in, what he is told to do, and what came of it."""

import sys
from collections.abc import Iterable

import msgspec

from core.view import NodeView
from drivers.clock import now_ms
from drivers.lab.layout import DATA_NET, LabFailure, Layout
from drivers.lab.shell import batch, call, inside
from drivers.lab.stranger import INTERFACE, MAC, Attack, Order, Outcome
from drivers.lab.timeline import Timeline
from trial.verdict import Check

HOST = 245
PORT = "strange"
READY_MS_MAX = 20_000
LOOK_MS = 1_000


class Strangers:
    """``begin`` plugs him in; ``look`` is called again and again so that nothing is missed that was shown."""

    def __init__(self, layout: Layout, timeline: Timeline) -> None:
        self._layout = layout
        self._timeline = timeline
        self._folder = layout.folder / "stranger"
        self._orders = 0
        self.shown: dict[str, None] = {}

    @property
    def netns(self) -> str:
        """His namespace."""
        return f"{self._layout.name}-{PORT}"

    def begin(self) -> None:
        """Plug him into the boot network, which is a hub from now on, and wait until he hears. Raises: LabFailure."""
        layout, netns = self._layout, self.netns
        (self._folder / "orders").mkdir(parents=True)
        call(("ip", "netns", "add", netns))
        words = f"link add name {PORT} type veth peer name {INTERFACE} netns {netns} address {MAC}"
        hub = "link set br-data type bridge ageing_time 0"
        batch(layout.infra, (words, f"link set {PORT} master br-data up", hub))
        address = f"addr add {DATA_NET}.{HOST}/24 dev {INTERFACE}"
        batch(netns, ("link set lo up", address, f"link set {INTERFACE} up"))
        log = self._folder / "log"
        argv = inside(netns, (layout.python or sys.executable, "-m", "drivers.lab.stranger", str(self._folder)))
        apart = ("setsid", "--fork", "sh", "-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1 </dev/null', "sh", str(log))
        call((*apart, *argv))
        end_ms = now_ms() + READY_MS_MAX
        while not (self._folder / "ready").exists():
            if now_ms() > end_ms:
                said = log.read_text(encoding="utf-8", errors="replace")[-500:] if log.exists() else ""
                raise LabFailure(f"nobody listens in {netns}: {said}")
            self._timeline.run_until(now_ms() + 50)

    def order(self, tag: str, attack: Attack, node: str = "", forget: bool = False) -> None:
        """Tell him to do something, or to forget what he was told under this tag."""
        self._orders += 1
        place = self._folder / "orders"
        fresh = place / f"{self._orders:06d}.new"
        fresh.write_bytes(msgspec.json.encode(Order(tag=tag, attack=attack, node=node, forget=forget)))
        fresh.replace(fresh.with_suffix(".json"))

    def outcomes(self) -> list[Outcome]:
        """Everything that he got so far."""
        try:
            lines = (self._folder / "outcomes.jsonl").read_bytes().splitlines()
        except OSError:
            return []
        return [msgspec.json.decode(line, type=Outcome) for line in lines]

    def look(self, views: Iterable[NodeView]) -> None:
        """Remember whom ``rack status`` shows as refused at this moment."""
        for view in views:
            self.shown.update(dict.fromkeys(view.refusals))

    def over(self) -> bool:
        """Whether he has done everything, and an operator was shown all of it that must be shown."""
        return not any((self._folder / "orders").iterdir()) and not self._hidden(self.outcomes())

    def checks(self) -> tuple[Check, ...]:
        """He got nothing, and everything that he was refused was shown to the operator."""
        outcomes = self.outcomes()
        got = [one for one in outcomes if one.got]
        hidden = self._hidden(outcomes)
        first = f"{got[0].attack} got {_article(got[0].what)} as {got[0].node or 'nobody'}" if got else ""
        unseen = f"{hidden[0].attack} was refused ({hidden[0].refused}) and nobody was told" if hidden else ""
        return (
            Check(name="strangers_get_nothing", ok=not got, detail=first),
            Check(name="refusals_are_shown", ok=not hidden, detail=unseen),
        )

    def _hidden(self, outcomes: list[Outcome]) -> list[Outcome]:
        return [one for one in outcomes if one.refused and not self._is_shown(one)]

    def _is_shown(self, outcome: Outcome) -> bool:
        """A card that nobody has on record yet is refused in nobody's name."""
        about = (f"{outcome.refused} as {outcome.node}:", f"{outcome.refused}:")
        return any(said.startswith(about) for said in self.shown)


def _article(what: str) -> str:
    return f"an {what}" if what == "address" else f"a {what}"
