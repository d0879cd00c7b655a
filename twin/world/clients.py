"""Clients: they write and read a register through the address of each singleton that has a volume."""

from collections.abc import Callable, Sequence

import msgspec

from core.ids import NO_NODE, Epoch, NodeId, OpId, ServiceName
from trial.marks import ClientOp
from twin.kernel import Kernel
from twin.streams import Stream
from twin.truth import Truth
from twin.world.supervisor import Outcome, Supervisor


class ClientLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How much clients ask: one operation per service every ``every_ms``; ``patience_ms`` until one gives up."""

    every_ms: int = 250
    patience_ms: int = 2_000


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

    def start(self, services: Sequence[ServiceName]) -> None:
        """Begin to ask, each service at its own phase."""
        for service in services:
            self._kernel.after(1 + self._stream.integers(0, self._load.every_ms), self._ask, service)

    def _ask(self, service: ServiceName) -> None:
        self._kernel.after(self._load.every_ms, self._ask, service)
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
            self._truth.ops.append(
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
        self._truth.ops.append(
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
