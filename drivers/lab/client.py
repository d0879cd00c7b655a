"""The lab's clients: one process in the clients' namespace that writes and reads every singleton with an address.

    python -m drivers.lab.client PLAN OUT

Each service has a writer and a reader, each asking every ``every_ms`` on its own connection. An operation that is not
answered soon does not hold up the next one: that one gets a new connection, the old one waits on until it is given up.
The first operation of each service is a write that has to be acknowledged, so that what earlier runs left in the
register is out of the way. One line of JSON for each operation goes to ``OUT``.
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import IO, Literal

import msgspec

from core.ids import NO_NODE, Epoch, NodeId, OpId, ServiceName
from drivers.clock import now_ms
from drivers.lab.services import Endpoint
from trial.marks import NO_EPOCH, ClientOp

CONNECT_MS_MAX = 200
ANSWER_MS = 300
"""An operation that takes longer is slow: the next one goes over a new connection."""
PATIENCE_MS = 2_000
"""An operation that was sent and is not answered in this time is given up: its outcome stays unknown."""
UNDER_WAY_MAX = 12
PARENT_LOOK_S = 1.0
LINE_BYTES_MAX = 256


class ClientPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask. ``base``: numbers of operations begin above it, so that no run repeats another's."""

    endpoints: tuple[Endpoint, ...]
    every_ms: int
    base: int


class Numbers:
    """Numbers of operations, never the same twice on one machine."""

    def __init__(self, base: int) -> None:
        self._last = base

    def next(self) -> int:
        """The next one."""
        self._last += 1
        return self._last


class Asker:
    """The writer or the reader of one service."""

    def __init__(
        self, endpoint: Endpoint, kind: Literal["read", "write"], every_ms: int, numbers: Numbers, out: IO[bytes]
    ) -> None:
        self._endpoint = endpoint
        self._kind: Literal["read", "write"] = kind
        self._every_ms = every_ms
        self._numbers = numbers
        self._out = out
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._late: set[asyncio.Task[ClientOp]] = set()
        self._talks: dict[asyncio.Task[ClientOp], asyncio.StreamWriter] = {}
        self._sent: dict[int, int] = {}
        self._closed = False

    async def run(self) -> None:
        """Ask for ever."""
        due_ms = now_ms()
        while True:
            due_ms = max(due_ms + self._every_ms, now_ms())
            await asyncio.sleep((due_ms - now_ms()) / 1_000)
            if len(self._late) < UNDER_WAY_MAX:
                await self.ask()

    async def ask(self) -> bool:
        """One operation; returns when it was answered or is late, with whether it was answered well."""
        invoked_ms, number = now_ms(), self._numbers.next()
        if self._line is None and not await self._connect():
            self._record(self._op(number, invoked_ms, "failed"))
            return False
        assert self._line is not None
        line, self._line = self._line, None
        self._sent[number] = invoked_ms
        task = asyncio.create_task(self._talk(number, invoked_ms, *line))
        self._talks[task] = line[1]
        done, _ = await asyncio.wait({task}, timeout=ANSWER_MS / 1_000)
        if not done:
            self._late.add(task)
            task.add_done_callback(self._came_late)
            return False
        del self._talks[task]
        op = task.result()
        self._record(op)
        if op.outcome == "ok":
            self._line = line
        return op.outcome == "ok"

    def close(self) -> None:
        """Hang up; what is under way stays without an answer, and is written down so."""
        if self._line is not None:
            self._line[1].close()
        for task, writer in self._talks.items():
            task.cancel()
            writer.close()
        for number, invoked_ms in tuple(self._sent.items()):
            self._record(self._op(number, invoked_ms, "unknown" if self._kind == "write" else "failed"))
        self._closed = True

    async def _connect(self) -> bool:
        try:
            async with asyncio.timeout(CONNECT_MS_MAX / 1_000):
                self._line = await asyncio.open_connection(self._endpoint.address, self._endpoint.port)
        except OSError:  # TimeoutError is one
            return False
        return True

    async def _talk(
        self, number: int, invoked_ms: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> ClientOp:
        """Send one operation and wait for its answer; the connection is closed unless it went well."""
        question = b"write %d\n" % number if self._kind == "write" else b"read\n"
        try:
            writer.write(question)
            async with asyncio.timeout(max(0, invoked_ms + PATIENCE_MS - now_ms()) / 1_000):
                answer = (await reader.readline())[:LINE_BYTES_MAX]
        except (OSError, ValueError):
            answer = b""  # TimeoutError is an OSError
        op = self._read(answer, number, invoked_ms)
        if op.outcome != "ok":
            writer.close()
        return op

    def _read(self, answer: bytes, number: int, invoked_ms: int) -> ClientOp:
        match answer.split():
            case [b"ok", value, node, epoch] if answer.endswith(b"\n"):
                who = NodeId(node.decode()), Epoch(int(epoch))
                return self._op(number, invoked_ms, "ok", int(value), *who)
            case _:
                pass
        return self._op(number, invoked_ms, "unknown" if self._kind == "write" else "failed")

    def _op(
        self,
        number: int,
        invoked_ms: int,
        outcome: Literal["ok", "failed", "unknown"],
        value: int = 0,
        node: NodeId = NO_NODE,
        epoch: Epoch = NO_EPOCH,
    ) -> ClientOp:
        return ClientOp(
            service=ServiceName(self._endpoint.service),
            op=OpId(number),
            kind=self._kind,
            value=number if self._kind == "write" else value,
            invoked_ms=invoked_ms,
            answered_ms=now_ms(),
            outcome=outcome,
            node=node,
            epoch=epoch,
        )

    def _came_late(self, task: asyncio.Task[ClientOp]) -> None:
        self._late.discard(task)
        self._talks.pop(task).close()
        if not task.cancelled():
            self._record(task.result())

    def _record(self, op: ClientOp) -> None:
        if self._closed:
            return
        self._sent.pop(int(op.op), None)
        self._out.write(msgspec.json.encode(op) + b"\n")


async def ask_all(plan: ClientPlan, out: IO[bytes]) -> None:
    """Ask every service until cancelled."""
    numbers = Numbers(plan.base)
    async with asyncio.TaskGroup() as group:
        for endpoint in plan.endpoints:
            group.create_task(_both(endpoint, plan.every_ms, numbers, out))


async def _both(endpoint: Endpoint, every_ms: int, numbers: Numbers, out: IO[bytes]) -> None:
    """The writer alone until it was answered once; then writer and reader, half a period apart."""
    reader = Asker(endpoint, "read", 2 * every_ms, numbers, out)
    writer = Asker(endpoint, "write", 2 * every_ms, numbers, out)
    try:
        if not endpoint.keeps:
            await reader.run()
        while not await writer.ask():
            await asyncio.sleep(every_ms / 1_000)
        async with asyncio.TaskGroup() as group:
            group.create_task(writer.run())
            await asyncio.sleep(every_ms / 1_000)
            group.create_task(reader.run())
    finally:
        reader.close()
        writer.close()


async def _main(plan: ClientPlan, out: IO[bytes], parent: int) -> None:
    """Ask until told to stop, or until whoever started us is gone."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    asking = asyncio.create_task(ask_all(plan, out))
    while not stop.is_set() and not asking.done() and os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARENT_LOOK_S):
                await stop.wait()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


def read_history(path: Path) -> list[ClientOp]:
    """The operations of a history file; a last line that is still being written is left out."""
    decoder = msgspec.json.Decoder(ClientOp)
    with path.open("rb") as lines:
        return [decoder.decode(line) for line in lines if line.endswith(b"\n")]


def main(argv: list[str]) -> None:
    """Run the clients of a plan."""
    plan = msgspec.json.decode(Path(argv[1]).read_bytes(), type=ClientPlan)
    with Path(argv[2]).open("ab", buffering=0) as out:
        asyncio.run(_main(plan, out, os.getppid()))


if __name__ == "__main__":
    main(sys.argv)
