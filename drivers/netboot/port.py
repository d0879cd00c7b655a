"""The agent's end of the socket to its node's netboot service: windows go out, events come in.

The service may be away for a while: what is still to be allowed is told again when it is back.
"""

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from core.ids import NodeId
from core.ports import Emit, NetbootEffect
from drivers import log
from drivers.clock import now_ms
from drivers.config import Config
from drivers.netboot.wire import (
    LINE_MAX,
    SOCKET,
    Allow,
    FromAgent,
    FromService,
    Heard,
    Told,
    Welcome,
    decode_from_service,
    encode,
)

RETRY_S = 0.5
ORDERS_MAX = 1_000


class NetbootPort:
    """``core.ports.NetbootPort`` of one agent. Orders may come from any thread; events come in the reader's thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._path: Path = config.tables.run_dir / SOCKET
        self._orders: dict[NodeId, Allow] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._link: socket.socket | None = None
        self._closing = threading.Event()
        self._away = False

    def begin(self, emit: Emit) -> None:
        """Keep connected from now on, and let events come."""
        threading.Thread(target=self._keep, args=(emit,), name="netboot", daemon=True).start()

    def submit(self, effect: NetbootEffect, emit: Emit) -> None:
        """Open a window; what comes of it is told by the service."""
        del emit  # there is no answer
        machine = self._config.machines.get(effect.node)
        address = machine.address if machine is not None else ""
        if machine is not None and not effect.guid and not effect.macs:
            effect = msgspec.structs.replace(effect, guid=machine.uuid.replace("-", ""), macs=machine.macs)
        with self._lock:
            self._count += 1
            key = f"{os.getpid()}-{now_ms()}-{self._count}"
            until_ms = now_ms() + effect.ms_max
            order = Allow(key=key, effect=effect, address=address, until_ms=until_ms)
            self._orders.pop(effect.node, None)
            self._orders[effect.node] = order
            while len(self._orders) > ORDERS_MAX:
                del self._orders[next(iter(self._orders))]
            self._say(order)

    def close(self) -> None:
        """Hang up; windows stay open until their time is over."""
        self._closing.set()
        with self._lock:
            self._hang_up()

    def _keep(self, emit: Emit) -> None:
        while not self._closing.is_set():
            try:
                self._converse(emit)
            except (OSError, ValueError, msgspec.DecodeError) as error:  # ValueError: closed on our side
                if not self._away and not self._closing.is_set():
                    self._away = True
                    log.event("netboot_away", error=str(error))
            with self._lock:
                self._hang_up()
            self._closing.wait(RETRY_S)

    def _converse(self, emit: Emit) -> None:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with link, link.makefile("rb") as reader:
            link.connect(str(self._path))
            with self._lock:
                self._link = link
                self._orders = {node: order for node, order in self._orders.items() if order.until_ms > now_ms()}
                for order in self._orders.values():
                    self._say(order)
            while (line := reader.readline(LINE_MAX)).endswith(b"\n"):
                self._take(decode_from_service(line), emit)
        raise ConnectionError("the netboot service closed the connection")

    def _take(self, said: FromService, emit: Emit) -> None:
        match said:
            case Welcome():
                self._away = False
                log.event("netboot_here", pid=said.pid)
            case Told():
                emit(said.event)
                with self._lock:
                    self._say(Heard(number=said.number))

    def _say(self, said: FromAgent) -> None:
        """Send a record if the service is there; orders are told again when it is back."""
        if self._link is None:
            return
        line = encode(said)
        try:
            sent = self._link.send(line, socket.MSG_DONTWAIT)  # the agent's brain waits for nobody
        except OSError:
            sent = 0
        if sent < len(line):
            self._hang_up()

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
