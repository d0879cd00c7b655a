"""The lab's own service and its clients, against each other on this machine."""

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from core.ids import Epoch, NodeId, ServiceName
from drivers.lab.audit import Row, rows
from drivers.lab.client import Asker, ClientPlan, Numbers, ask_all, read_history
from drivers.lab.services import REGISTER, Endpoint
from trial.history import linearizable
from trial.marks import ClientOp

STARTED_S = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A register that runs, and where."""

    def __init__(self, folder: Path, kind: str = "register", epoch: int = 3) -> None:
        self.port = free_port()
        argv = (sys.executable, "-S", "-E", str(REGISTER), kind, "n1", str(epoch), str(self.port), str(folder))
        self.process = subprocess.Popen(argv, env={**os.environ, "SICK": str(folder / "sick")})

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(service=ServiceName("mariadb"), address="127.0.0.1", port=self.port, keeps=True)

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def await_answer(self) -> None:
        end = time.monotonic() + STARTED_S
        while not self.answers():
            assert time.monotonic() < end
            assert self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    one.await_answer()
    yield one
    one.end()


def ask(served: Served, words: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", served.port), 5) as link:
        link.sendall(words + b"\n")
        return link.makefile("rb").readline()


def test_a_register_answers_with_value_node_and_epoch(served: Served) -> None:
    assert ask(served, b"read") == b"ok 0 n1 3\n"
    assert ask(served, b"write 17") == b"ok 17 n1 3\n"
    assert ask(served, b"read") == b"ok 17 n1 3\n"


def test_a_register_keeps_every_write_in_order_through_a_kill(served: Served, tmp_path: Path) -> None:
    for number in (5, 9, 7):
        ask(served, b"write %d" % number)
    served.end()
    again = Served(tmp_path, epoch=4)
    try:
        again.await_answer()
        ask(again, b"write 8")
        found = rows(again.endpoint, 5, 5_000)
        node = NodeId("n1")
        assert found == [Row(9, node, Epoch(3)), Row(7, node, Epoch(3)), Row(8, node, Epoch(4))]
    finally:
        again.end()


def test_what_a_register_does_not_understand_harms_nobody(served: Served) -> None:
    assert ask(served, b"drop all") == b"what?\n"
    ask(served, b"write x")
    assert ask(served, b"read") == b"ok 0 n1 3\n"


def test_a_register_that_cannot_write_ends_without_an_answer(served: Served, tmp_path: Path) -> None:
    ask(served, b"write 1")
    assert ask(served, b"write 1") == b""  # the number was used: to the register an error like any other
    assert served.process.wait(5) == 1


def test_a_service_that_is_made_sick_does_not_listen_until_it_is_well(tmp_path: Path) -> None:
    (tmp_path / "sick.n1").touch()
    one = Served(tmp_path, kind="echo")
    try:
        time.sleep(0.3)  # nothing happens, which cannot be awaited
        assert not one.answers()
        (tmp_path / "sick.n1").unlink()
        one.await_answer()
    finally:
        one.end()


def test_an_audit_of_nobody_gives_up() -> None:
    nobody = Endpoint(service=ServiceName("mariadb"), address="127.0.0.1", port=free_port(), keeps=True)
    assert rows(nobody, 0, 50) is None


# -- clients -----------------------------------------------------------------------------------------------------------


def history(out: io.BytesIO) -> list[ClientOp]:
    return [msgspec.json.decode(line, type=ClientOp) for line in out.getvalue().splitlines()]


def test_a_writer_and_a_reader_leave_a_linearizable_history(served: Served) -> None:
    out = io.BytesIO()

    async def ask_for_a_while() -> None:
        asking = asyncio.create_task(ask_all(ClientPlan(endpoints=(served.endpoint,), every_ms=5, base=100), out))
        while len(history(out)) < 40:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait({asking})

    asyncio.run(asyncio.wait_for(ask_for_a_while(), 60))
    ops = history(out)
    assert ops[0].kind == "write"
    assert {(op.node, op.epoch) for op in ops if op.outcome == "ok"} == {("n1", 3)}
    assert linearizable(ops) == ""


def test_an_operation_that_reaches_nobody_surely_did_not_happen() -> None:
    nobody = Endpoint(service=ServiceName("mariadb"), address="127.0.0.1", port=free_port(), keeps=True)
    out = io.BytesIO()

    async def ask_nobody() -> bool:
        return await Asker(nobody, "write", 20, Numbers(7), out).ask()

    assert not asyncio.run(ask_nobody())
    assert [(op.value, op.outcome) for op in history(out)] == [(8, "failed")]


def test_a_write_whose_answer_never_comes_is_unknown(served: Served) -> None:
    out = io.BytesIO()

    async def ask_a_corpse() -> None:
        asker = Asker(served.endpoint, "write", 20, Numbers(0), out)
        assert await asker.ask()
        served.process.send_signal(signal.SIGSTOP)
        assert not await asker.ask()
        served.end()
        while len(history(out)) < 2:
            await asyncio.sleep(0.01)
        asker.close()

    asyncio.run(asyncio.wait_for(ask_a_corpse(), 60))
    assert [(op.value, op.outcome) for op in history(out)] == [(1, "ok"), (2, "unknown")]


def test_the_last_line_of_a_history_may_be_cut_off(tmp_path: Path) -> None:
    op = ClientOp(
        service=ServiceName("mariadb"),
        op=1,  # type: ignore[arg-type]  # plain numbers are ids
        kind="read",
        value=0,
        invoked_ms=1,
        answered_ms=2,
        outcome="ok",
    )
    line = msgspec.json.encode(op)
    (tmp_path / "history.jsonl").write_bytes(line + b"\n" + line[:20])
    assert read_history(tmp_path / "history.jsonl") == [op]
