"""The BMC of every machine, which may be dead, slow or lying, and the port through which other machines use it.

A BMC lives on the standby rail. Silence is never "off"; "already so" is success; every order is read back.
Source: facts/bmc-and-netboot.md sections 1 and 2.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, assert_never

import msgspec

from core import effects as fx
from core.events import ConsoleSeen, OpFailed, PowerSeen, Scanned, Seen
from core.ids import NodeId
from core.ports import Emit, PowerEffect
from twin.calibration import Calibration, Sampled
from twin.kernel import Kernel
from twin.streams import Stream, Streams
from twin.world.answers import Answer, Asker
from twin.world.fabric import Fabric
from twin.world.quirks import Quirks

BmcMode = Literal[
    "ok", "dead", "slow", "hung", "lying_off", "lying_on", "contrary", "locked", "deaf_to_on", "no_bootdev", "forgetful"
]
LOCKED = "the BMC refuses the password"


class BmcTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of section ``bmc``; times in ms."""

    login_ms: Sampled
    command_ms: Sampled
    slow_ms: Sampled
    scan_ms: Sampled
    poll_ms: int
    cycle_gap_ms: int


class OrderTaken(msgspec.Struct, frozen=True, kw_only=True):
    """A power order reached a BMC. ``was``: state of the chassis before; ``obeyed``: whether the BMC acts on it."""

    at_ms: int
    by: NodeId
    order: fx.PowerOrder
    was: str
    obeyed: bool


class Machine(Protocol):
    """What a BMC sees and does of its chassis."""

    network_once: bool
    console: list[str]

    @property
    def state(self) -> str: ...

    @property
    def on(self) -> bool: ...

    @property
    def bmc_powered(self) -> bool: ...

    def power_on(self) -> bool: ...

    def power_off(self) -> None: ...


class Book(Protocol):
    """Which BMCs hang on a management network, by their addresses."""

    def listing(self, network: str) -> Sequence[NodeId]:
        """The machines whose BMCs have an address there, in order of addresses."""
        ...

    def seen(self, node: NodeId, problem: str) -> Seen:
        """What an answer of a machine's BMC tells; ``problem``: why nobody could log in."""
        ...


class Bmcs:
    """All BMCs of a rack, by node."""

    def __init__(
        self,
        kernel: Kernel,
        streams: Streams,
        calibration: Calibration,
        fabric: Fabric,
        machines: Mapping[NodeId, Machine],
    ) -> None:
        self.kernel = kernel
        self.times = calibration.section("bmc", BmcTimes)
        self._streams, self._fabric, self._machines = streams, fabric, machines
        self._modes: dict[NodeId, BmcMode] = {}
        self._delays: dict[NodeId, int] = {}
        self._quirks: dict[NodeId, Quirks] = {}
        self._shown: dict[NodeId, tuple[int, bool]] = {}
        self.book: Book | None = None
        self.names: dict[NodeId, NodeId] = {}
        self._on_order: list[Callable[[OrderTaken], None]] = []
        self._on_proof: list[Callable[[NodeId], None]] = []

    def set_mode(self, node: NodeId, mode: BmcMode) -> None:
        """Change how a BMC behaves.

        ``dead`` and ``hung`` answer nothing; a hung one is well again after a loss of its standby power. ``lying_off``
        reports off whatever is true and so has nothing to switch off; ``lying_on`` the reverse. ``contrary`` answers an
        order that is already fulfilled with an error. ``locked`` refuses every password, ``forgetful`` drops every
        other session. ``deaf_to_on`` confirms an order to switch on and does nothing; ``no_bootdev`` does not pass on
        what to boot from.
        """
        self._modes[node] = mode

    def set_delay(self, node: NodeId, ms: int) -> None:
        """Make every request to a BMC take ``ms`` longer; 0 ends it."""
        self._delays[node] = ms

    def quirks(self, node: NodeId) -> Quirks:
        """Return what a BMC does that is rare, always the same."""
        found = self._quirks.get(node)
        if found is None:
            found = self._quirks[node] = Quirks()
        return found

    def rename(self, old: NodeId, new: NodeId) -> None:
        """A machine got the name of a node."""
        self.names[old] = new
        if old in self._modes:
            self._modes[new] = self._modes.pop(old)
        if old in self._delays:
            self._delays[new] = self._delays.pop(old)
        if old in self._quirks:
            self._quirks[new] = self._quirks.pop(old)

    def mend(self, node: NodeId) -> None:
        """Let a BMC behave well again, whatever its machine is called by now."""
        self.set_mode(self.names.get(node, node), "ok")

    def hidden(self, node: NodeId) -> bool:
        """Whether nobody can find a machine by its BMC, or nobody can log in."""
        return self._modes.get(node) in ("dead", "hung", "locked")

    def rejects(self, node: NodeId) -> str:
        """Why a BMC ends a session before anything was asked of it; "": it does not."""
        match self._modes.get(node):
            case "locked":
                return LOCKED
            case "forgetful":
                return "the session was dropped" if self.stream(node).integers(0, 2) else ""
            case _:
                return ""

    def console(self, node: NodeId) -> str:
        """What a machine has written on its serial console since it was last switched on."""
        return "\n".join(self._machines[node].console)

    def restarted(self, node: NodeId) -> None:
        """Take up that a BMC had lost its power."""
        if self._modes.get(node) == "hung":
            self._modes[node] = "ok"

    def alive(self, node: NodeId) -> bool:
        """Say whether a BMC answers at all."""
        return self._machines[node].bmc_powered and self._modes.get(node, "ok") not in ("dead", "hung")

    def answers(self, asker: NodeId, node: NodeId) -> bool:
        """Say whether a BMC answers this node now."""
        return self.alive(node) and self._fabric.bmc_reachable(asker, node)

    def reported(self, node: NodeId) -> bool:
        """Return what a BMC reports, which need not be true."""
        until_ms, shown = self._shown.get(node, (0, False))
        if self.kernel.now < until_ms:
            return shown
        match self._modes.get(node, "ok"):
            case "lying_off":
                return False
            case "lying_on":
                return True
            case "ok" | "dead" | "slow" | "hung" | "contrary" | "locked" | "deaf_to_on" | "no_bootdev" | "forgetful":
                return self._machines[node].on

    def contrary(self, node: NodeId, action: str) -> bool:
        """Say whether a BMC answers this order with an error because of the state it is in."""
        if action == "cycle" and not self._machines[node].on and self.quirks(node).take("bmc_cycle_refused"):
            return True
        return self._modes.get(node) == "contrary" and action != "cycle" and self.reported(node) == (action == "on")

    def login_ms(self, node: NodeId) -> int:
        """Draw how long it takes until a BMC takes a command."""
        slow = self.times.slow_ms.draw(self.stream(node)) if self._modes.get(node) == "slow" else 0
        return self.times.login_ms.draw(self.stream(node)) + slow + self._delays.get(node, 0)

    def stream(self, node: NodeId) -> Stream:
        """Return the random stream of one BMC."""
        return self._streams.get(f"bmc/{node}")

    def on_order(self, fn: Callable[[OrderTaken], None]) -> None:
        """Call ``fn`` for every order that reaches a BMC, before it acts."""
        self._on_order.append(fn)

    def on_proof(self, fn: Callable[[NodeId], None]) -> None:
        """Call ``fn(node)`` whenever an agent has read that a node is off, true or not."""
        self._on_proof.append(fn)

    def proved_off(self, node: NodeId) -> None:
        """An agent has read that a node is off: it lets the storage know (``drivers.power``, ``on_off``)."""
        for fn in self._on_proof:
            fn(node)

    def execute(self, by: NodeId, order: fx.PowerOrder) -> None:
        """Let a BMC act on an order, as its mode has it."""
        node, machine = order.node, self._machines[order.node]
        match self._modes.get(node, "ok"):
            case "lying_off":
                obeyed = order.action == "on"
            case "lying_on":
                obeyed = order.action != "on"
            case "deaf_to_on":
                obeyed = order.action == "off"
            case "ok" | "dead" | "slow" | "hung" | "contrary" | "locked" | "no_bootdev" | "forgetful":
                obeyed = True
        taken = OrderTaken(at_ms=self.kernel.now, by=by, order=order, was=machine.state, obeyed=obeyed)
        for listener in self._on_order:
            listener(taken)
        if obeyed:
            self._carry_out(node, machine, order.action)

    def _carry_out(self, node: NodeId, machine: Machine, action: Literal["on", "off", "cycle"]) -> None:
        """Do what was ordered: at once and once, unless the BMC is strange today."""
        quirks = self.quirks(node)
        stale, late = quirks.take("bmc_report_late"), quirks.take("bmc_order_late")
        if stale is not None:
            self._shown[node] = (self.kernel.now + stale.ms, machine.on)
        if late is not None:
            self.kernel.after(late.ms, self._act_later, node, machine, action)
        else:
            self._act(node, machine, action)
        again = quirks.take("bmc_order_repeated")
        if again is not None:
            self.kernel.after(again.ms, self._act_later, node, machine, action)

    def _act_later(self, node: NodeId, machine: Machine, action: Literal["on", "off", "cycle"]) -> None:
        if machine.bmc_powered:
            self._act(node, machine, action)

    def _act(self, node: NodeId, machine: Machine, action: Literal["on", "off", "cycle"]) -> None:
        match action:
            case "on":
                machine.network_once = not machine.on and self._modes.get(node) != "no_bootdev"
                machine.power_on()
            case "off":
                machine.power_off()
            case "cycle":
                machine.power_off()
                self.kernel.after(self.times.cycle_gap_ms, machine.power_on)


class PowerClient(Asker):
    """``core.ports.PowerPort`` of one node; ``agent_died``, ``freeze`` and ``thaw`` follow its agent process.

    The deadline of an order is judged by the node's own clock in the moment before the order is sent, with room for the
    BMC's own time. A frozen agent judges it when it thaws.
    """

    def __init__(self, bmcs: Bmcs, node: NodeId, clock: Callable[[], int]) -> None:
        super().__init__(bmcs.kernel, clock)
        self._bmcs = bmcs
        self._node = node
        self._generations: dict[NodeId, int] = {}

    agent_died = Asker.died

    def submit(self, effect: PowerEffect, emit: Emit) -> None:
        """Begin one request; its answer comes through ``emit``."""
        match effect:
            case fx.ReadPower():
                answer = Answer(self, effect.op, emit, effect.ms_max)
                self._after_login(effect.node, answer, lambda: self._read(effect.node, answer))
            case fx.PowerOrder():
                self._generations[effect.node] = max(effect.generation, self._generations.get(effect.node, 0))
                answer = Answer(self, effect.op, emit, effect.deadline_ms - self.clock())
                self._after_login(effect.node, answer, lambda: self._send(effect, answer))
            case fx.ReadConsole():
                answer = Answer(self, effect.op, emit, effect.ms_max)
                self._after_login(effect.node, answer, lambda: self._console(effect.node, answer))
            case fx.Scan():
                self._scan(effect, emit)
            case _:
                assert_never(effect)

    def _after_login(self, node: NodeId, answer: Answer, act: Callable[[], None]) -> None:
        bmcs = self._bmcs
        if not bmcs.answers(self._node, node):
            return
        quirks, wait, rejected = bmcs.quirks(node), bmcs.login_ms(node), bmcs.rejects(node)
        if rejected:
            self.kernel.after(wait, answer.fail, "refused" if rejected == LOCKED else "failed", rejected)
            return
        if quirks.armed:
            last = quirks.take("bmc_hangs_after")
            if last is not None and last.left <= 0:
                bmcs.set_mode(node, "hung")
                return
            if quirks.take("bmc_session_refused"):
                self.kernel.after(wait, answer.fail, "failed", "insufficient resources for session")
                return
        self.kernel.after(wait, answer.then, act)

    def _console(self, node: NodeId, answer: Answer) -> None:
        if self._bmcs.answers(self._node, node):
            self._after_command(node, lambda: answer.succeed(ConsoleSeen(tail=self._bmcs.console(node))))

    def _scan(self, effect: fx.Scan, emit: Emit) -> None:
        book = self._bmcs.book
        if book is None:
            emit(OpFailed(at_ms=self.clock(), op=effect.op, reason="unavailable"))
            return
        answer = Answer(self, effect.op, emit, effect.ms_max)
        wait = self._bmcs.times.scan_ms.draw(self._bmcs.stream(self._node))
        self.kernel.after(wait, answer.then, lambda: self._found(book, effect.network, answer))

    def _found(self, book: Book, network: str, answer: Answer) -> None:
        """List the BMCs that answer; those that let nobody in are told with why."""
        bmcs = self._bmcs
        seen = [book.seen(node, bmcs.rejects(node)) for node in book.listing(network) if bmcs.answers(self._node, node)]
        answer.succeed(Scanned(seen=tuple(seen)))

    def _after_command(self, node: NodeId, act: Callable[[], None]) -> None:
        self.kernel.after(self._bmcs.times.command_ms.draw(self._bmcs.stream(node)), act)

    def _read(self, node: NodeId, answer: Answer) -> None:
        self._after_command(node, lambda: self._report(node, answer))

    def _report(self, node: NodeId, answer: Answer) -> None:
        if self._bmcs.answers(self._node, node):
            on = self._bmcs.reported(node)
            answer.succeed(PowerSeen(on=on))
            if not on:
                self._bmcs.proved_off(node)

    def _send(self, order: fx.PowerOrder, answer: Answer) -> None:
        if self.clock() + self._bmcs.times.command_ms.ms_max >= order.deadline_ms:
            answer.fail("refused", "too late to send: the deadline of the order", retryable=False)
        elif order.generation < self._generations[order.node]:
            answer.fail("refused", "a newer order was taken for that node", retryable=False)
        elif self._bmcs.answers(self._node, order.node):
            self._after_command(order.node, lambda: self._execute(order, answer))

    def _execute(self, order: fx.PowerOrder, answer: Answer) -> None:
        """The order is at the BMC: whether its sender still lives no longer matters."""
        if not self._bmcs.answers(self._node, order.node):
            return
        if self._bmcs.contrary(order.node, order.action):
            self._after_command(order.node, lambda: self._read_back(order, answer))
            return
        self._bmcs.execute(self._node, order)
        lost = self._bmcs.quirks(order.node).take("bmc_answer_lost")
        if lost is not None:
            if lost.says == "failed":
                self._after_command(order.node, lambda: answer.fail("failed", "the BMC answered with an error"))
            return
        self.kernel.after(self._bmcs.times.poll_ms, self._read_back, order, answer)

    def _read_back(self, order: fx.PowerOrder, answer: Answer) -> None:
        """Ask until the BMC reports what was ordered; the order's own limit ends it."""
        if not answer.wanted or not self._bmcs.answers(self._node, order.node):
            return
        on = self._bmcs.reported(order.node)
        if on == (order.action != "off"):
            answer.succeed(PowerSeen(on=on))
            return

        def contrary() -> None:
            answer.fail("failed", f"after {order.action} the BMC reports {'on' if on else 'off'}")

        answer.on_late = contrary
        self.kernel.after(self._bmcs.times.poll_ms, self._read_back, order, answer)
