"""Heartbeats between nodes over UDP: who is heard, and who has fallen silent, whatever its agent does.

A listener asks (``subscribe``) and a speaker answers with beats to whoever asked within the last ten minutes, so that
a path cut in one direction only silences that direction. Every datagram is signed with the rack's key and names its
receiver; a beat repeats the nonce of the listener's process and counts up within its own process, so that a recorded
one proves nothing.
"""

import hmac
import os
import secrets
import select
import socket
import struct
import threading

import msgspec

from core.events import PeerHeard, PeerSilent
from core.ids import NodeId
from core.ports import Emit
from drivers.clock import now_ms
from drivers.config import Config

BEATS_PER_SILENCE = 4
"""A node counts as silent after ``suspect_ms``, which is this many beats."""
SUBSCRIBED_MS = 600_000
DATAGRAM_MAX = 128
BURST_MAX = 1_000
"""Datagrams taken at once before timers are looked at."""

IP_FREEBIND, IPV6_FREEBIND = (socket.IPPROTO_IP, 15), (socket.IPPROTO_IPV6, 78)
"""Source: linux/in.h, linux/in6.h."""

MAGIC = b"MXH1"
SUBSCRIBE, BEAT = 1, 2
_FIELDS = struct.Struct("!4sBBBx8s8sQ")
SIGNATURE = 32


class Datagram(msgspec.Struct, frozen=True):
    """``sender`` and ``receiver`` are numbers of the inventory; ``boot`` and ``nonce`` name processes."""

    kind: int
    sender: int
    receiver: int
    boot: bytes
    nonce: bytes
    count: int

    def sign(self, key: bytes) -> bytes:
        """The bytes on the wire."""
        body = _FIELDS.pack(MAGIC, self.kind, self.sender, self.receiver, self.boot, self.nonce, self.count)
        return body + hmac.digest(key, body, "sha256")


def read(packet: bytes, key: bytes) -> Datagram | None:
    """Read a datagram; None if it is not one, or not signed with ``key``."""
    if len(packet) != _FIELDS.size + SIGNATURE:
        return None
    body, signature = packet[: _FIELDS.size], packet[_FIELDS.size :]
    if not hmac.compare_digest(hmac.digest(key, body, "sha256"), signature):
        return None
    magic, *fields = _FIELDS.unpack(body)
    return Datagram(*fields) if magic == MAGIC else None


class _Ear:
    """What a listener knows of one peer."""

    __slots__ = ("boot", "count", "heard", "heard_ms", "nonce")

    def __init__(self, now: int) -> None:
        self.heard: bool | None = None
        self.heard_ms = now
        self.nonce = secrets.token_bytes(8)
        self.boot = b""
        self.count = -1


class _Subscriber:
    """A node that asked for beats."""

    __slots__ = ("boot", "count", "nonce", "until_ms")

    def __init__(self, asked: Datagram, now: int) -> None:
        self.boot, self.nonce, self.count, self.until_ms = asked.boot, asked.nonce, asked.count, now + SUBSCRIBED_MS


class Peers:
    """This node's heartbeats: spoken to whoever asks, heard from whom ``listen`` names. One thread of its own.

    Without a ``heartbeat_key`` nothing is spoken or heard: a lost node is then noticed when its session ends.
    """

    def __init__(self, config: Config) -> None:
        """Read the key. Raises: OSError if its file cannot be read."""
        self._machines = config.machines
        self._me = config.me
        self._port = config.tables.heartbeat_port
        self._suspect_ms = config.timing.suspect_ms
        self._every_ms = max(1, self._suspect_ms // BEATS_PER_SILENCE)
        path = config.tables.heartbeat_key
        self._key = path.read_bytes().strip() if path is not None else b""
        self._boot = secrets.token_bytes(8)
        self._count = 0
        self._lock = threading.Lock()
        self._ears: dict[NodeId, _Ear] = {}
        self._subscribers: dict[NodeId, _Subscriber] = {}
        self._emit: Emit | None = None
        self._asked_ms = -1
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Bind this node's address and begin to speak. Raises: OSError if the port is taken."""
        if not self._key:
            return
        v6 = ":" in self._me.address
        family = socket.AF_INET6 if v6 else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            udp.setsockopt(*(IPV6_FREEBIND if v6 else IP_FREEBIND), 1)  # the interface may come up later
            udp.bind((self._me.address, self._port))
        except OSError:
            udp.close()
            raise
        self._socket = udp
        self._thread = threading.Thread(target=self._run, args=(udp,), name="peers", daemon=True)
        self._thread.start()

    def listen(self, nodes: tuple[NodeId, ...], emit: Emit) -> None:
        """Listen to exactly these nodes, and tell ``emit`` of changes (from a thread of its own).

        Peers listened to already keep what is known of them; a new one is heard, or silent ``suspect_ms`` from now.
        """
        with self._lock:
            self._emit = emit
            wanted = [node for node in nodes if node in self._machines and node != self._me.id]
            now = now_ms()
            self._ears = {node: self._ears.get(node) or _Ear(now) for node in wanted}
            self._asked_ms = -1
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Stop speaking and listening."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._socket is not None:
            self._socket.close()
        os.close(self._wake)

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self, udp: socket.socket) -> None:
        poll = select.poll()
        poll.register(udp, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        due_ms = now_ms()
        while not self._closing:
            fired = poll.poll(max(0, due_ms - now_ms()))
            if any(descriptor == self._wake for descriptor, _ in fired):
                os.eventfd_read(self._wake)
            late_ms = now_ms() - due_ms
            with self._lock:
                self._take_all(udp)
                if late_ms > self._suspect_ms // 2:
                    self._start_over()
                self._judge()
                if late_ms >= 0:
                    due_ms = now_ms() + self._every_ms
                    self._speak(udp)
                self._ask(udp)
                due_ms = min(due_ms, self._next_silence())

    def _start_over(self) -> None:
        """Give everybody a whole ``suspect_ms``: it was us who stood still."""
        now = now_ms()
        for ear in self._ears.values():
            ear.heard_ms = now

    def _take_all(self, udp: socket.socket) -> None:
        for _ in range(BURST_MAX):
            try:
                packet = udp.recv(DATAGRAM_MAX)
            except OSError:  # nothing more, or an error that some earlier datagram came back with
                return
            datagram = read(packet, self._key)
            if datagram is None or datagram.receiver != self._me.number:
                continue
            node = self._machines.by_number(datagram.sender)
            if node is not None and datagram.kind == BEAT:
                self._on_beat(node, datagram)
            elif node is not None and datagram.kind == SUBSCRIBE:
                self._on_subscribe(node, datagram)

    def _on_beat(self, node: NodeId, beat: Datagram) -> None:
        ear = self._ears.get(node)
        if ear is None or beat.nonce != ear.nonce or (beat.boot == ear.boot and beat.count <= ear.count):
            return
        if ear.boot and beat.boot != ear.boot:
            # Another process speaks there: what the old one said must never count again.
            ear.nonce, self._asked_ms = secrets.token_bytes(8), -1
        ear.boot, ear.count, ear.heard_ms = beat.boot, beat.count, now_ms()
        self._say(node, ear, heard=True)

    def _on_subscribe(self, node: NodeId, asked: Datagram) -> None:
        known = self._subscribers.get(node)
        if known is None or known.boot != asked.boot or known.count < asked.count:
            self._subscribers[node] = _Subscriber(asked, now_ms())

    def _judge(self) -> None:
        now = now_ms()
        for node, ear in self._ears.items():
            if now - ear.heard_ms >= self._suspect_ms:
                self._say(node, ear, heard=False)

    def _next_silence(self) -> int:
        times = [ear.heard_ms + self._suspect_ms for ear in self._ears.values() if ear.heard is not False]
        return min(times, default=now_ms() + self._suspect_ms)

    def _say(self, node: NodeId, ear: _Ear, heard: bool) -> None:
        if ear.heard is heard or self._emit is None:
            return
        ear.heard = heard
        now = now_ms()
        self._emit(PeerHeard(at_ms=now, node=node) if heard else PeerSilent(at_ms=now, node=node))

    # -- what is sent -----------------------------------------------------------------------------------------------

    def _speak(self, udp: socket.socket) -> None:
        now = now_ms()
        for node, subscriber in list(self._subscribers.items()):
            if now > subscriber.until_ms:
                del self._subscribers[node]
            else:
                self._send(udp, node, BEAT, subscriber.nonce)

    def _ask(self, udp: socket.socket) -> None:
        """Ask everybody we listen to, once per ``suspect_ms``, so that one who restarted speaks soon again."""
        now = now_ms()
        if self._ears and (self._asked_ms < 0 or now - self._asked_ms >= self._suspect_ms):
            self._asked_ms = now
            for node, ear in self._ears.items():
                self._send(udp, node, SUBSCRIBE, ear.nonce)

    def _send(self, udp: socket.socket, node: NodeId, kind: int, nonce: bytes) -> None:
        machine = self._machines.get(node)
        if machine is None:
            return  # it was taken out of the rack meanwhile
        self._count += 1
        datagram = Datagram(kind, self._me.number, machine.number, self._boot, nonce, self._count)
        try:
            udp.sendto(datagram.sign(self._key), (machine.address, self._port))
        except OSError:
            return  # no route, no buffer: as good as lost on the way
