"""The power of the other machines: ``core.ports.PowerPort`` over IPMI and Redfish (rules 9 and 10).

One call at a time per BMC and few at once. An answer comes at its question's limit at the latest, whatever the BMC or
the library does; silence is never "off", and an order is sent neither after its date nor after a newer one.
"""

import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, assert_never

from core import effects as fx
from core.events import ConsoleSeen, OpFailed, OpSucceeded, PowerSeen, Result, Scanned
from core.ids import NodeId
from core.ports import Emit, PowerEffect
from drivers.bmc import REASONS, Bmc, BmcFailure, Limit, order, read
from drivers.calls import CallCounts, Calls
from drivers.config import BmcTable, Machine

if TYPE_CHECKING:  # both are loaded only where they are used
    from drivers.console import Consoles
    from drivers.scan import Scans

GRACE_MS = 100
"""How long before the limit of its question a call gives up by itself, so that its own words are the answer."""

SEND_MS = 50
"""An order is not sent later than this before its date: a command takes 4 to 17 ms and must not arrive late."""


class Power:
    """The BMCs of ``machines``.

    ``on_off`` is called with a node that a reading has just proved off, after the answer and in a thread of this port;
    it must be quick. ``bmc_of`` makes the driver of one machine, None where it has no BMC. ``scans`` (made
    at the first look) and ``consoles``: how others are found, and what machines wrote; without them, both fail.
    """

    def __init__(
        self,
        machines: Mapping[NodeId, Machine],
        now_ms: Callable[[], int],
        on_off: Callable[[NodeId], None] | None = None,
        bmc_of: Callable[[Machine], Bmc | None] | None = None,
        scans: "Callable[[], Scans] | None" = None,
        consoles: "Consoles | None" = None,
    ) -> None:
        self._machines = machines
        self._now_ms = now_ms
        self._on_off = on_off
        self._bmc_of = bmc_of if bmc_of is not None else open_bmc
        self._scans = cache(scans) if scans is not None else None
        self._consoles = consoles
        self._bmcs: dict[NodeId, tuple[BmcTable, Bmc | None]] = {}
        self._generations: dict[NodeId, int] = {}
        self._lock = threading.Lock()
        self._calls = Calls(now_ms)
        self._errands = Calls(now_ms)  # of their own: no look and no console keeps a power call waiting

    def submit(self, effect: PowerEffect, emit: Emit) -> None:
        """Begin one request; its answer comes through ``emit``, from another thread or at once."""
        answer = _Answer(effect, emit, self._now_ms)
        try:
            match effect:
                case fx.ReadPower():
                    self._begin_call(effect, answer, self._now_ms() + effect.ms_max)
                case fx.PowerOrder():
                    self._watch_console(effect)
                    self._begin_call(effect, answer, effect.deadline_ms)
                case fx.Scan():
                    self._begin_scan(effect, answer)
                case fx.ReadConsole():
                    self._begin_reading(effect, answer)
                case _:
                    assert_never(effect)
        except BmcFailure as failure:
            answer.fail(failure)

    def seen_up(self, node: NodeId) -> None:
        """A node has joined: what it writes on its console from now on is nobody's business."""
        if self._consoles is not None:
            self._consoles.end(node)

    def close(self) -> None:
        """End what watches consoles."""
        if self._consoles is not None:
            self._consoles.close()

    # -- finding, and consoles -----------------------------------------------------------------------------------------

    def _begin_scan(self, effect: fx.Scan, answer: "_Answer") -> None:
        scans, limit_at_ms = self._scans, self._now_ms() + effect.ms_max

        def run() -> None:
            made = scans() if scans is not None else None
            network = made.network(effect.network) if made is not None else None
            if made is None or network is None:
                answer.fail(BmcFailure("unreachable", f"no [[network]] of the inventory is called {effect.network}"))
                return
            try:
                sightings = made.look(network, limit_at_ms - GRACE_MS)
                answer.succeed(Scanned(seen=tuple(one.seen for one in sightings if one.seen is not None)))
            except OSError as error:
                answer.fail(BmcFailure("unreachable", f"network {network.name} cannot be looked at: {error}"))

        self._begin_errand(f"scan {effect.network}", limit_at_ms, run, answer)

    def _watch_console(self, order: fx.PowerOrder) -> None:
        machine = self._machines.get(order.node)
        if self._consoles is not None and machine is not None and order.action != "off":
            self._consoles.begin(order.node, machine.bmc)

    def _begin_reading(self, effect: fx.ReadConsole, answer: "_Answer") -> None:
        consoles, machine, limit_at_ms = self._consoles, self._machines.get(effect.node), self._now_ms() + effect.ms_max
        if consoles is None or machine is None:
            raise BmcFailure("unreachable", f"nobody watches the console of {effect.node}")

        def run() -> None:
            try:
                answer.succeed(ConsoleSeen(tail=consoles.tail(effect.node, machine.bmc, limit_at_ms - GRACE_MS)))
            except BmcFailure as failure:
                answer.fail(failure)

        self._begin_errand(f"console {effect.node}", limit_at_ms, run, answer)

    def _begin_errand(self, key: str, limit_at_ms: int, run: Callable[[], None], answer: "_Answer") -> None:
        def give_up() -> None:
            answer.fail(BmcFailure("silent", f"{key}: not done within its limit"))

        if not self._errands.begin(key, limit_at_ms, run, give_up):
            raise BmcFailure("unreachable", f"{key}: too many wait already")

    # -- power ---------------------------------------------------------------------------------------------------------

    def _begin_call(self, effect: fx.ReadPower | fx.PowerOrder, answer: "_Answer", limit_at_ms: int) -> None:
        bmc = self._bmc(effect.node)
        if isinstance(effect, fx.PowerOrder):
            self._date(effect, answer)

        def run() -> None:
            self._ask(effect, bmc, answer, limit_at_ms)

        def give_up() -> None:
            answer.fail(BmcFailure("silent", f"the BMC of {effect.node} gave no answer within the limit"))

        if not self._calls.begin(effect.node, limit_at_ms, run, give_up):
            raise BmcFailure("unreachable", f"too many questions wait for the BMC of {effect.node}")

    def counts(self) -> CallCounts:
        """Return how many calls wait, run, and run on beyond their limit."""
        calls, errands = self._calls.counts(), self._errands.counts()
        return CallCounts(
            waiting=calls.waiting + errands.waiting,
            running=calls.running + errands.running,
            slow=calls.slow + errands.slow,
        )

    def _bmc(self, node: NodeId) -> Bmc:
        """Return the driver of a node's BMC, made at its first use and when its entry has changed.

        Raises: BmcFailure where there is none.
        """
        with self._lock:
            machine = self._machines.get(node)
            if machine is None:
                raise BmcFailure("unreachable", f"{node} is not in the inventory")
            table, bmc = self._bmcs.get(node, (None, None))
            if table != machine.bmc:
                bmc = self._bmc_of(machine)
                self._bmcs[node] = machine.bmc, bmc
        if bmc is None:
            raise BmcFailure("unreachable", f"{node} has no BMC in the inventory")
        return bmc

    def _date(self, effect: fx.PowerOrder, answer: "_Answer") -> None:
        """Take an order's generation for its node. Raises: BmcFailure if it must not be sent (any more)."""
        if self._now_ms() + SEND_MS >= effect.deadline_ms:
            raise BmcFailure("late", "too late to send: the deadline of the order")
        if answer.given:
            raise BmcFailure("late", "too late to send: the order was answered")
        with self._lock:
            newest = max(self._generations.get(effect.node, 0), effect.generation)
            self._generations[effect.node] = newest
        if effect.generation < newest:
            raise BmcFailure("late", f"generation {newest} was ordered for {effect.node}, this is {effect.generation}")

    def _ask(self, effect: fx.ReadPower | fx.PowerOrder, bmc: Bmc, answer: "_Answer", limit_at_ms: int) -> None:
        limit = Limit(self._now_ms, limit_at_ms - GRACE_MS)
        proved_off = False

        def seen_off() -> None:
            nonlocal proved_off
            proved_off = True

        try:
            match effect:
                case fx.ReadPower():
                    on = read(bmc, limit)
                    proved_off = not on
                case fx.PowerOrder():
                    on = order(bmc, effect.action, limit, lambda: self._date(effect, answer), seen_off)
            answer.succeed(PowerSeen(on=on))
        except BmcFailure as failure:
            answer.fail(failure)
        if proved_off and self._on_off is not None:
            self._on_off(effect.node)


class _Answer:
    """The one answer to one effect; whoever comes first decides it."""

    def __init__(self, effect: PowerEffect, emit: Emit, now_ms: Callable[[], int]) -> None:
        self._op = effect.op
        self._emit = emit
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self.given = False

    def succeed(self, result: Result) -> None:
        if self._first():
            self._emit(OpSucceeded(at_ms=self._now_ms(), op=self._op, result=result))

    def fail(self, failure: BmcFailure) -> None:
        if self._first():
            reason, retryable = REASONS[failure.kind]
            at_ms, detail = self._now_ms(), failure.detail
            self._emit(OpFailed(at_ms=at_ms, op=self._op, reason=reason, retryable=retryable, detail=detail))

    def _first(self) -> bool:
        with self._lock:
            first, self.given = not self.given, True
            return first


def open_bmc(machine: Machine) -> Bmc | None:
    """Make the driver that a machine's inventory entry names; None for ``none``. Loads its module only now."""
    return open_table(machine.bmc)


def open_table(table: BmcTable) -> Bmc | None:
    """Make the driver of a BMC; None for ``none``. Loads its module only now."""
    match table.driver:
        case "ipmi":
            from drivers.ipmi import Ipmi

            return Ipmi(table)
        case "redfish":
            from drivers.redfish import Redfish

            return Redfish(table)
        case "none":
            return None
