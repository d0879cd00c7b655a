"""Clients: they write and read a register through the address of each singleton that has a volume."""

from collections.abc import Callable, Sequence

import msgspec

from core.ids import NO_NODE, Epoch, NodeId, OpId, ServiceName
from trial.marks import ClientOp
from trial.scenario import Fidelity
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.truth import Truth
from twin.world.supervisor import Outcome, Supervisor


class ClientLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How much clients ask: one operation per service every ``every_ms``; ``patience_ms`` until one gives up.

    ``every_ms`` 0: never. With ``calm_ms`` they ask that often after something has changed (``Clients.stir``); while
    nothing does, each gap is ``GROWTH`` times the one before, up to ``calm_ms``.
    """

    every_ms: int = 250
    patience_ms: int = 2_000
    calm_ms: int = 0


GROWTH, CALM_MS = 2, 20_000
"""In campaign fidelity each gap is so many times the last one, and no longer than this."""


def load_in(fidelity: Fidelity, load: ClientLoad | None) -> ClientLoad:
    """Return the load of a rack in this fidelity; capacity fidelity goes without."""
    if load is None or fidelity == "capacity":
        return ClientLoad(every_ms=0)
    return msgspec.structs.replace(load, calm_ms=CALM_MS) if fidelity == "campaign" else load


class Clients:
    """One client per service; it asks again whether or not the last operation was answered.

    Whoever has the address up answers: if two nodes do, either may.
    """

    def __init__(
        self,
        kernel: Kernel,
        stream: Stream,
        truth: Truth,
        load: ClientLoad,
        supervisor_of: Callable[[NodeId], Supervisor | None],
    ) -> None:
        self._kernel = kernel
        self._stream = stream
        self._truth = truth
        self._load = load
        self._supervisor_of = supervisor_of
        self._count = 0
        self._gaps: dict[ServiceName, int] = {}
        self._next: dict[ServiceName, Handle] = {}

    def start(self, services: Sequence[ServiceName]) -> None:
        """Begin to ask, each service at its own phase; with a load of 0, do not."""
        for service in services if self._load.every_ms else ():
            first_ms = 1 + self._stream.integers(0, self._load.every_ms)
            self._gaps[service] = self._load.every_ms
            self._next[service] = self._kernel.after(first_ms, self._ask, service)

    def stir(self) -> None:
        """Ask often again: something in the rack has changed."""
        every_ms = self._load.every_ms
        for service, handle in self._next.items():
            self._gaps[service] = every_ms
            if handle.at_ms > self._kernel.now + every_ms:
                handle.cancel()
                self._next[service] = self._kernel.after(every_ms, self._ask, service)

    def _ask(self, service: ServiceName) -> None:
        gap_ms = self._gaps[service]
        self._next[service] = self._kernel.after(gap_ms, self._ask, service)
        self._gaps[service] = max(gap_ms, min(gap_ms * GROWTH, self._load.calm_ms))
        self._count += 1
        op = OpId(self._count)
        node = self._answering(service)
        supervisor = self._supervisor_of(node) if node != NO_NODE else None
        if supervisor is None:
            return  # nobody answers in connect: the operation never began
        epoch = self._truth.serving.epoch(service, node)
        if self._count % 2:
            _Write(self._kernel, self._truth, service, op, node, epoch).ask(supervisor, self._load.patience_ms)
        else:
            self._read(service, op, node, epoch, supervisor)

    def _answering(self, service: ServiceName) -> NodeId:
        nodes = self._truth.serving_nodes(service)
        if len(nodes) > 1:
            return nodes[self._stream.integers(0, len(nodes))]
        return nodes[0] if nodes else NO_NODE

    def _read(self, service: ServiceName, op: OpId, node: NodeId, epoch: Epoch, supervisor: Supervisor) -> None:
        value = supervisor.read(service)
        if value is not None:
            now = self._kernel.now
            self._truth.answered(
                ClientOp(
                    service=service,
                    op=op,
                    kind="read",
                    value=value,
                    invoked_ms=now,
                    answered_ms=now,
                    outcome="ok",
                    node=node,
                    epoch=epoch,
                )
            )


class _Write:
    """One write under way; its value is its op, so that every value is written once."""

    __slots__ = ("_epoch", "_invoked_ms", "_kernel", "_node", "_op", "_open", "_service", "_truth")

    def __init__(
        self, kernel: Kernel, truth: Truth, service: ServiceName, op: OpId, node: NodeId, epoch: Epoch
    ) -> None:
        self._kernel = kernel
        self._truth = truth
        self._service = service
        self._op = op
        self._node = node
        self._epoch = epoch
        self._invoked_ms = kernel.now
        self._open = True

    def ask(self, supervisor: Supervisor, patience_ms: int) -> None:
        limit = self._kernel.after(patience_ms, self._answered, "unknown")

        def answer(outcome: Outcome) -> None:
            limit.cancel()
            self._answered(outcome)

        supervisor.write(self._service, int(self._op), answer)

    def _answered(self, outcome: Outcome) -> None:
        if not self._open:
            return
        self._open = False
        self._truth.answered(
            ClientOp(
                service=self._service,
                op=self._op,
                kind="write",
                value=int(self._op),
                invoked_ms=self._invoked_ms,
                answered_ms=self._kernel.now,
                outcome=outcome,
                node=self._node,
                epoch=self._epoch,
            )
        )
