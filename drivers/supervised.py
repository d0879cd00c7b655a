"""The agent's end of the socket to its node's supervisor: orders go out, events and answers come in.

It is the workload and the address port, the supervisor's half of the evidence port, and what the ZooKeeper client and
the storage port need done by a process that outlives the agent.
"""

import os
import queue
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from core import effects as fx
from core.ids import NodeId, OpId
from core.ports import AddressEffect, Emit, EvidenceEffect, WorkloadEffect
from core.records import MachineRecord
from drivers import log
from drivers.wire import (
    Alive,
    Attach,
    Attached,
    Detach,
    Detached,
    EndServer,
    FromAgent,
    FromSupervisor,
    Hello,
    Leaving,
    Machines,
    Name,
    Order,
    RunServer,
    ServerEnded,
    Told,
    Welcome,
    decode_from_supervisor,
    encode,
)

A = TypeVar("A")

SOCKET = "supervisor.sock"
"""Its name in ``run_dir``."""
VERSION = "0.1"
WELCOME_SECONDS_MAX = 10.0
SEND_SECONDS_MAX = 10
"""A supervisor that takes nothing for so long stands still, and the agent is of no use to anybody."""
LINE_BYTES_MAX = 4 << 20


class SupervisorGone(Exception):
    """The supervisor does not answer, or closed the connection: a sentence for people."""


class Supervised:
    """The connection of one agent process. Orders may come from any thread; answers arrive in the reader's thread."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / SOCKET
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._reader = self._socket.makefile("rb")
        self._lock = threading.Lock()
        self._attached: dict[OpId, queue.SimpleQueue[Attached]] = {}
        self._detached: dict[OpId, queue.SimpleQueue[Detached]] = {}
        self._ending: dict[OpId, Callable[[], None]] = {}
        self._gone: Callable[[], None] = _nothing
        self._closing = False

    def connect(self) -> Welcome:
        """Say hello; what the supervisor says of this node. Raises: SupervisorGone."""
        try:
            self._socket.settimeout(WELCOME_SECONDS_MAX)
            self._socket.connect(str(self._path))
            self._socket.sendall(encode(Hello(pid=os.getpid(), version=VERSION)))
            said = self._next()
        except OSError as error:
            reason = error.strerror or "no answer"
            raise SupervisorGone(f"the supervisor at {self._path} cannot be reached: {reason.lower()}") from None
        if not isinstance(said, Welcome):
            raise SupervisorGone(f"the supervisor at {self._path} did not say welcome")
        self._socket.settimeout(None)
        limit = struct.pack("@ll", SEND_SECONDS_MAX, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        return said

    def start(self, emit: Emit, gone: Callable[[], None]) -> None:
        """Let events and answers come from now on; ``gone`` is called once if the connection breaks."""
        self._gone = gone
        threading.Thread(target=self._read, args=(emit,), name="supervised", daemon=True).start()

    def submit(self, effect: WorkloadEffect | AddressEffect | EvidenceEffect, emit: Emit) -> None:
        """Hand an effect over; what comes of it is told by the supervisor."""
        self._say(Order(effect=effect))

    # -- what the ZooKeeper client needs (drivers.zookeeper_errands.NodeServices) --------------------------------------

    def run_server(self, argv: tuple[str, ...], log: str) -> None:
        """Run this node's ZooKeeper server and keep it running; one that runs already is left alone."""
        self._say(RunServer(argv=argv, log=log))

    def end_server(self, op: OpId, done: Callable[[], None]) -> None:
        """Stop this node's ZooKeeper server; ``done`` is called when it is gone."""
        self._ending[op] = done
        self._say(EndServer(op=op))

    def listen(self, nodes: tuple[NodeId, ...], emit: Emit) -> None:
        """Listen to exactly these nodes' heartbeats; what is heard comes as every event does."""
        self._say(Order(effect=fx.ListenTo(nodes=nodes)))

    # -- what the storage port needs (drivers.storage.Keeper) ---------------------------------------------------------

    def attach(self, order: Attach) -> Attached | None:
        """Have a volume opened, without anything written to it; waits ``ms_max``. None: no answer."""
        return self._ask(order, self._attached)

    def detach(self, order: Detach) -> Detached | None:
        """Have a volume flushed and closed; waits ``ms_max``. None: no answer."""
        return self._ask(order, self._detached)

    def name(self, order: Name) -> None:
        """Tell under which name the storage knows what was attached."""
        self._say(order)

    def _ask(self, order: Attach | Detach, asked: "dict[OpId, queue.SimpleQueue[A]]") -> A | None:
        waiting = asked[order.op] = queue.SimpleQueue()
        self._say(order)
        try:
            return waiting.get(timeout=order.ms_max / 1_000)
        except queue.Empty:
            return None
        finally:
            asked.pop(order.op, None)

    # -- the agent itself -------------------------------------------------------------------------------------------

    def alive(self) -> None:
        """The machine steps: the hardware watchdog may be fed."""
        self._say(Alive())

    def machines(self, records: tuple[MachineRecord, ...]) -> None:
        """Tell which machines were found and are nodes: whose heartbeats may be heard."""
        self._say(Machines(records=records))

    def leaving(self) -> None:
        """Everything is handed over and this agent ends; it is not to be started again by itself."""
        self._say(Leaving())

    def close(self) -> None:
        """Close the connection."""
        self._closing = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was never connected, or is closed already
        finally:
            self._socket.close()

    def _say(self, said: FromAgent) -> None:
        try:
            with self._lock:
                self._socket.sendall(encode(said))
        except OSError as error:
            self._lose(error.strerror or "it takes nothing any more")

    def _next(self) -> FromSupervisor | None:
        """The next record; None at the end of the connection. Raises: OSError, SupervisorGone for nonsense."""
        line = self._reader.readline(LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            return None
        try:
            return decode_from_supervisor(line)
        except msgspec.DecodeError as error:
            raise SupervisorGone(f"the supervisor said what this agent does not understand: {error}") from None

    def _read(self, emit: Emit) -> None:
        try:
            while (said := self._next()) is not None:
                self._take(said, emit)
            self._lose("it closed the connection")
        except SupervisorGone as error:
            self._lose(str(error))
        except (OSError, ValueError) as error:  # ValueError: closed on our side
            self._lose(str(error))
        finally:
            self._reader.close()

    def _take(self, said: FromSupervisor, emit: Emit) -> None:
        match said:
            case Told():
                emit(said.event)
            case Attached():
                _answer(self._attached, said.op, said)
            case Detached():
                _answer(self._detached, said.op, said)
            case ServerEnded():
                ended = self._ending.pop(said.op, None)
                if ended is not None:
                    ended()
            case Welcome():
                log.event("supervisor", problem="a second welcome")

    def _lose(self, why: str) -> None:
        if not self._closing:
            self._closing = True
            log.event("supervisor_gone", detail=why)
            self._gone()


def _answer(asked: "dict[OpId, queue.SimpleQueue[A]]", op: OpId, said: A) -> None:
    """Give an answer to whoever waits for it; one that came too late is nobody's."""
    waiting = asked.get(op)
    if waiting is not None:
        waiting.put(said)


def _nothing() -> None:
    """Before ``start`` nobody is told."""
