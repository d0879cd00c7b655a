"""Booting from the network: who is let in, DHCP and TFTP that time out under a crowd, and shared HTTP bandwidth.

Every running node can serve. A server answers a machine only within a window that its agent opened (``AllowBoot``),
carries a few machines through DHCP and TFTP at a time, and shares its bandwidth equally among the images it sends.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Literal

import msgspec

from core.effects import AllowBoot
from core.ids import NodeId
from core.ports import Emit
from twin.calibration import Calibration, Sampled
from twin.kernel import Handle, Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.quirks import Quirks

NetbootFault = Literal["ok", "no_dhcp", "bad_image", "tftp_timeout"]
Done = Callable[[bool, str], None]


class NetbootTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of section ``netboot``; times in ms, rates in bytes a ms."""

    image_bytes: int
    server_bytes_per_ms: int
    client_bytes_per_ms: int
    early_slots: int
    early_ms: Sampled
    retry_ms: int
    retry_jitter_ms: int
    attempts_max: int
    http_timeout_ms: int


class Boot:
    """One machine on its way. ``finish`` is the virtual byte count of its server at which its image is complete."""

    __slots__ = ("attempt", "done", "finish", "node", "server", "sharing", "timer")

    def __init__(self, node: NodeId, done: Done) -> None:
        self.node = node
        self.done = done
        self.attempt = 0
        self.server: BootServer | None = None
        self.sharing = False
        self.finish = 0
        self.timer: Handle | None = None


class BootServer:
    """One node as a boot server: the machines in DHCP and TFTP (``early``) and those that share its bandwidth.

    Processor sharing in integers: ``sent`` counts what every sharer has got since the beginning; an image is complete
    when ``sent`` has grown by its size. One pending event a server, O(log n) a change.
    """

    __slots__ = ("_heap", "_kernel", "_seen_ms", "_seq", "_timer", "_times", "early", "node", "sent", "sharers", "up")

    def __init__(self, node: NodeId, kernel: Kernel, times: NetbootTimes) -> None:
        self.node = node
        self.up = False
        self.early = 0
        self.sharers = 0
        self.sent = 0
        self._kernel, self._times = kernel, times
        self._heap: list[tuple[int, int, Boot, Callable[[Boot], None]]] = []
        self._seq = 0
        self._seen_ms = 0
        self._timer: Handle | None = None

    def join(self, boot: Boot, image_bytes: int, finished: Callable[[Boot], None]) -> None:
        """Begin to send an image."""
        self._advance()
        boot.sharing, boot.finish = True, self.sent + image_bytes
        self.sharers += 1
        self._seq += 1
        heappush(self._heap, (boot.finish, self._seq, boot, finished))
        self._plan()

    def leave(self, boot: Boot) -> None:
        """Stop sending to a machine that went away."""
        if boot.sharing:
            self._advance()
            boot.sharing = False
            self.sharers -= 1
            self._plan()

    def stop(self) -> list[Boot]:
        """Go down; return the machines whose images were cut off, in the order in which they would have finished."""
        self.up = False
        self._advance()
        lost = [entry[2] for entry in sorted(self._heap, key=lambda entry: entry[:2]) if entry[2].sharing]
        for boot in lost:
            boot.sharing = False
        self.sharers = 0
        self._heap.clear()
        self._plan()
        return lost

    def _share(self) -> int:
        """Bytes a ms that each sharer gets."""
        return max(1, min(self._times.server_bytes_per_ms // self.sharers, self._times.client_bytes_per_ms))

    def _advance(self) -> None:
        now = self._kernel.now
        if self.sharers:
            self.sent += (now - self._seen_ms) * self._share()
        self._seen_ms = now

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and not self._heap[0][2].sharing:
            heappop(self._heap)
        if self._heap:
            left = max(0, self._heap[0][0] - self.sent)
            self._timer = self._kernel.after(-(-left // self._share()), self._finish)

    def _finish(self) -> None:
        self._timer = None
        self._advance()
        finished = []
        while self._heap and (self._heap[0][0] <= self.sent or not self._heap[0][2].sharing):
            _, _, boot, tell = heappop(self._heap)
            if boot.sharing:
                boot.sharing = False
                self.sharers -= 1
                finished.append((boot, tell))
        self._plan()
        for boot, tell in finished:
            tell(boot)


class NetbootClient:
    """``core.ports.NetbootPort`` of one node."""

    def __init__(self, netboot: "Netboot", node: NodeId) -> None:
        self._netboot = netboot
        self._node = node

    def submit(self, effect: AllowBoot, emit: Emit) -> None:
        """Open a window; there is no answer."""
        self._netboot.allow(self._node, effect.node, effect.ms_max)


class Netboot:
    """All boot servers of a rack. ``timeouts`` counts requests nobody answered in time, ``served`` whole images."""

    def __init__(self, kernel: Kernel, streams: Streams, calibration: Calibration, fabric: Fabric) -> None:
        self._kernel, self._streams, self._fabric = kernel, streams, fabric
        self._times = calibration.section("netboot", NetbootTimes)
        self._image_bytes = self._times.image_bytes
        self._servers: dict[NodeId, BootServer] = {}
        self._windows: dict[NodeId, dict[NodeId, int]] = {}
        self._boots: dict[NodeId, Boot] = {}
        self._faults: dict[NodeId, NetbootFault] = {}
        self._quirks: dict[NodeId, Quirks] = {}
        self.timeouts = 0
        self.served = 0

    def port(self, node: NodeId) -> NetbootClient:
        """Return the netboot port of a node's agent."""
        return NetbootClient(self, node)

    def allow(self, server: NodeId, node: NodeId, ms_max: int) -> None:
        """Let ``server`` serve ``node`` within the next ``ms_max``."""
        self._windows.setdefault(node, {})[server] = self._kernel.now + ms_max

    def boot(self, node: NodeId, done: Done) -> None:
        """Boot a machine from the network; ``done(ok, why)`` is called once, unless it is aborted."""
        self.abort(node)
        boot = self._boots[node] = Boot(node, done)
        self._discover(boot)

    def abort(self, node: NodeId) -> None:
        """Forget a machine that lost its power."""
        boot = self._boots.pop(node, None)
        if boot is None:
            return
        if boot.timer is not None:
            boot.timer.cancel()
        if boot.server is not None:
            if boot.sharing:
                boot.server.leave(boot)
            else:
                boot.server.early -= 1

    def server_up(self, node: NodeId) -> None:
        """Let a node serve, from the moment its operating system runs."""
        if node not in self._servers:
            self._servers[node] = BootServer(node, self._kernel, self._times)
        self._servers[node].up = True

    def server_down(self, node: NodeId) -> None:
        """Cut off what a node was sending; its machines notice after the HTTP timeout and look for another server."""
        server = self._servers.get(node)
        if server is not None and server.up:
            for boot in server.stop():
                self._cut_off(boot)

    # -- faults --------------------------------------------------------------------------------------------------------

    def fail(self, node: NodeId, mode: NetbootFault) -> None:
        """Make every network boot of ``node`` fail in that way; "ok" ends it."""
        self._faults[node] = mode

    def quirks(self, node: NodeId) -> Quirks:
        """Return what the network boots of a node do that is rare, always the same."""
        return self._quirks.setdefault(node, Quirks())

    def set_image_bytes(self, image_bytes: int) -> None:
        """Change the size of the image for boots that have not begun to load it."""
        self._image_bytes = image_bytes

    # -- the steps of one boot -----------------------------------------------------------------------------------------

    def _discover(self, boot: Boot) -> None:
        boot.timer = None
        server = self._pick(boot.node)
        if server is None:
            self._unanswered(boot, "no boot server answered")
            return
        boot.server = server
        server.early += 1
        wait = self._times.early_ms.draw(self._streams.get(f"netboot/{boot.node}"))
        boot.timer = self._kernel.after(wait, self._loaded, boot, server)

    def _pick(self, node: NodeId) -> BootServer | None:
        """The least busy server that has a window open for this node and a slot free."""
        quirks = self._quirks.get(node)
        if self._faults.get(node) == "no_dhcp" or (quirks is not None and quirks.take("dhcp_offer_lost")):
            return None
        best: tuple[int, NodeId, BootServer] | None = None
        for name, until_ms in self._windows.get(node, {}).items():
            server = self._servers.get(name)
            if server is None or not server.up or until_ms < self._kernel.now:
                continue
            if server.early >= self._times.early_slots or not self._fabric.both_ways(name, node):
                continue
            rank = (server.early + server.sharers, name, server)
            best = rank if best is None or rank[:2] < best[:2] else best
        return None if best is None else best[2]

    def _loaded(self, boot: Boot, server: BootServer) -> None:
        boot.timer = None
        server.early -= 1
        if not server.up or self._faults.get(boot.node) == "tftp_timeout" or not self._linked(boot, server):
            boot.server = None
            self._unanswered(boot, "the boot loader timed out")
        else:
            server.join(boot, self._image_bytes, self._transferred)

    def _transferred(self, boot: Boot) -> None:
        server, boot.server = boot.server, None
        if server is None or not self._linked(boot, server):
            self._cut_off(boot)
        elif self._faults.get(boot.node) == "bad_image":
            self._end(boot, False, "the image failed its check")
        else:
            self.served += 1
            self._windows.pop(boot.node, None)
            self._end(boot, True, "")

    def _linked(self, boot: Boot, server: BootServer) -> bool:
        return self._fabric.both_ways(server.node, boot.node)

    def _unanswered(self, boot: Boot, why: str) -> None:
        """Retry as PXE does: 4, 8, 16, 32 s, a little jittered."""
        self.timeouts += 1
        boot.attempt += 1
        if boot.attempt >= self._times.attempts_max:
            self._end(boot, False, why)
            return
        jitter = self._streams.get(f"netboot/{boot.node}").integers(0, self._times.retry_jitter_ms + 1)
        self._again(boot, (self._times.retry_ms << (boot.attempt - 1)) + jitter)

    def _cut_off(self, boot: Boot) -> None:
        boot.server = None
        boot.attempt += 1
        if boot.attempt >= self._times.attempts_max:
            self._end(boot, False, "the transfer broke off")
        else:
            self._again(boot, self._times.http_timeout_ms)

    def _again(self, boot: Boot, wait_ms: int) -> None:
        boot.timer = self._kernel.after(wait_ms, self._discover, boot)

    def _end(self, boot: Boot, ok: bool, why: str) -> None:
        del self._boots[boot.node]
        boot.done(ok, why)
