"""The power of the other machines: ``core.ports.PowerPort`` over IPMI and Redfish (rules 9 and 10).

One call at a time per BMC and few at once. An answer comes at its question's limit at the latest, whatever the BMC or
the library does; silence is never "off", and an order is sent neither after its date nor after a newer one.
"""

import threading
from collections.abc import Callable, Mapping
from typing import assert_never

from core import effects as fx
from core.events import OpFailed, OpSucceeded, PowerSeen
from core.ids import NodeId
from core.ports import Emit, PowerEffect
from drivers.bmc import REASONS, Bmc, BmcFailure, Limit, order, read
from drivers.calls import CallCounts, Calls
from drivers.config import Machine

GRACE_MS = 100
"""How long before the limit of its question a call gives up by itself, so that its own words are the answer."""

SEND_MS = 50
"""An order is not sent later than this before its date: a command takes 4 to 17 ms and must not arrive late."""


class Power:
    """The BMCs of ``machines``.

    ``on_off`` is called with a node that a reading has just proved off, after the answer and in a thread of this port;
    it must be quick. ``bmc_of`` makes the driver of one machine, None where it has no BMC.
    """

    def __init__(
        self,
        machines: Mapping[NodeId, Machine],
        now_ms: Callable[[], int],
        on_off: Callable[[NodeId], None] | None = None,
        bmc_of: Callable[[Machine], Bmc | None] | None = None,
    ) -> None:
        self._machines = machines
        self._now_ms = now_ms
        self._on_off = on_off
        self._bmc_of = bmc_of if bmc_of is not None else open_bmc
        self._bmcs: dict[NodeId, Bmc | None] = {}
        self._generations: dict[NodeId, int] = {}
        self._lock = threading.Lock()
        self._calls = Calls(now_ms)

    def submit(self, effect: PowerEffect, emit: Emit) -> None:
        """Begin one request; its answer comes through ``emit``, from another thread or at once."""
        match effect:
            case fx.Scan() | fx.ReadConsole():
                emit(OpFailed(at_ms=self._now_ms(), op=effect.op, reason="unavailable"))
                return
            case fx.ReadPower():
                limit_at_ms = self._now_ms() + effect.ms_max
            case fx.PowerOrder():
                limit_at_ms = effect.deadline_ms
            case _:
                assert_never(effect)
        answer = _Answer(effect, emit, self._now_ms)
        try:
            bmc = self._bmc(effect.node)
            if isinstance(effect, fx.PowerOrder):
                self._date(effect, answer)
        except BmcFailure as failure:
            answer.fail(failure)
            return

        def run() -> None:
            self._ask(effect, bmc, answer, limit_at_ms)

        def give_up() -> None:
            answer.fail(BmcFailure("silent", f"the BMC of {effect.node} gave no answer within the limit"))

        if not self._calls.begin(effect.node, limit_at_ms, run, give_up):
            answer.fail(BmcFailure("unreachable", f"too many questions wait for the BMC of {effect.node}"))

    def counts(self) -> CallCounts:
        """Return how many calls wait, run, and run on beyond their limit."""
        return self._calls.counts()

    def _bmc(self, node: NodeId) -> Bmc:
        """Return the driver of a node's BMC, made at its first use. Raises: BmcFailure where there is none."""
        with self._lock:
            if node not in self._bmcs:
                machine = self._machines.get(node)
                if machine is None:
                    raise BmcFailure("unreachable", f"{node} is not in the inventory")
                self._bmcs[node] = self._bmc_of(machine)
            bmc = self._bmcs[node]
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
            answer.succeed(on)
        except BmcFailure as failure:
            answer.fail(failure)
        if proved_off and self._on_off is not None:
            self._on_off(effect.node)


class _Answer:
    """The one answer to one effect; whoever comes first decides it."""

    def __init__(self, effect: fx.ReadPower | fx.PowerOrder, emit: Emit, now_ms: Callable[[], int]) -> None:
        self._op = effect.op
        self._emit = emit
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self.given = False

    def succeed(self, on: bool) -> None:
        if self._first():
            self._emit(OpSucceeded(at_ms=self._now_ms(), op=self._op, result=PowerSeen(on=on)))

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
    match machine.bmc.driver:
        case "ipmi":
            from drivers.ipmi import Ipmi

            return Ipmi(machine.bmc)
        case "redfish":
            from drivers.redfish import Redfish

            return Redfish(machine.bmc)
        case "none":
            return None
