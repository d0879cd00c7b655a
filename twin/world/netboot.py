"""Booting from the network: who is let in, DHCP and TFTP that time out under a crowd, and shared HTTP bandwidth.

Every running node can serve. A server answers a machine only within a window that its agent opened (``AllowBoot``),
carries a few machines through DHCP and TFTP at a time, and shares its bandwidth equally among the images it sends.
Where the window names a machine (its GUID), the machine must be admitted: by the gate for its script, and again, with
the script's token, before its agent may start (``join``).
"""

from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from core.effects import AllowBoot
from core.gate import Admitted, Refused
from core.ids import NO_IMAGE, ImageId, NodeId
from core.ports import Emit
from twin.calibration import Calibration, Sampled
from twin.kernel import Handle, Kernel
from twin.streams import Streams
from twin.world.boot_server import BootServer, Loading, Pace
from twin.world.fabric import Fabric
from twin.world.gates import Claim, Gates, Ticket
from twin.world.identity import Identity
from twin.world.quirks import Quirks

NetbootFault = Literal["ok", "no_dhcp", "bad_image", "tftp_timeout"]
Done = Callable[[bool, str], None]
V = TypeVar("V")
_OTHER_IMAGE = ImageId("badbadbadbadbad0")
"""What a machine says it runs that was sent another image on its way."""


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
    least_bytes_per_ms: int
    join_ms: Sampled
    join_retry_ms: int


class Boot:
    """One machine on its way: ``early`` in DHCP and TFTP, then ``sharing`` its server's bandwidth or in line for it.

    ``claim`` is what it says of itself. ``finish`` is the virtual byte count of its server at which it has its image.
    """

    __slots__ = ("attempt", "claim", "done", "early", "finish", "node", "server", "sharing", "ticket", "timer")

    def __init__(self, node: NodeId, claim: Claim | None, done: Done) -> None:
        self.node = node
        self.claim = claim
        self.done = done
        self.attempt = 0
        self.server: BootServer | None = None
        self.early = False
        self.sharing = False
        self.finish = 0
        self.ticket: Ticket | None = None
        self.timer: Handle | None = None


def claim_of(machine: str, identity: Identity) -> Claim:
    """What an honest machine says of itself."""
    return Claim(machine=machine, uuid=identity.uuid, mac=identity.mac)


class NetbootClient:
    """``core.ports.NetbootPort`` of one node."""

    def __init__(self, netboot: "Netboot", node: NodeId) -> None:
        self._netboot = netboot
        self._node = node

    def submit(self, effect: AllowBoot, emit: Emit) -> None:
        """Open a window; there is no answer."""
        self._netboot.allow(self._node, effect.node, effect.ms_max)
        if effect.guid:
            self._netboot.gates.open(self._node, effect)


class Netboot:
    """All boot servers of a rack.

    ``timeouts`` counts requests nobody answered in time, ``starved`` images that broke off in a crowd, ``served`` whole
    ones. ``pace``: what its servers can do, if not what the calibration says. ``image``: what they run and send.
    """

    def __init__(
        self,
        kernel: Kernel,
        streams: Streams,
        calibration: Calibration,
        fabric: Fabric,
        pace: Pace | None = None,
        image: ImageId = NO_IMAGE,
    ) -> None:
        self._kernel, self._streams, self._fabric = kernel, streams, fabric
        self._times = times = calibration.section("netboot", NetbootTimes)
        rates = (times.server_bytes_per_ms, times.client_bytes_per_ms)
        self._pace = pace or Pace(server_bytes_per_ms=rates[0], client_bytes_per_ms=rates[1])
        self._image_bytes = self._times.image_bytes
        self.gates = Gates(kernel, image)
        self._identities: dict[NodeId, tuple[str, Identity]] = {}
        self._tickets: dict[NodeId, Ticket] = {}
        self._servers: dict[NodeId, BootServer] = {}
        self._windows: dict[NodeId, dict[NodeId, int]] = {}
        self._boots: dict[NodeId, Boot] = {}
        self._faults: dict[NodeId, NetbootFault] = {}
        self._quirks: dict[NodeId, Quirks] = {}
        self.timeouts = 0
        self.starved = 0
        self.served = 0

    def port(self, node: NodeId) -> NetbootClient:
        """Return the netboot port of a node's agent."""
        return NetbootClient(self, node)

    def allow(self, server: NodeId, node: NodeId, ms_max: int) -> None:
        """Let ``server`` serve ``node`` within the next ``ms_max``."""
        self._windows.setdefault(node, {})[server] = self._kernel.now + ms_max

    def identify(self, node: NodeId, machine: str, identity: Identity) -> None:
        """Say which machine stands where a node is called so, and what it shows itself as."""
        self._identities[node] = machine, identity

    def claim(self, node: NodeId) -> Claim | None:
        """What the machine of a node says of itself, None where nobody asks."""
        found = self._identities.get(node)
        return claim_of(*found) if found is not None else None

    def identity(self, node: NodeId) -> Identity | None:
        """What the machine of a node shows itself as."""
        found = self._identities.get(node)
        return found[1] if found is not None else None

    def machine(self, node: NodeId) -> str:
        """Which machine it is, whatever it shows itself as; "" where nobody asks."""
        found = self._identities.get(node)
        return found[0] if found is not None else ""

    def be(self, node: NodeId, identity: Identity) -> None:
        """Let the machine of a node show itself as something else from its next boot on."""
        self._identities[node] = self._identities[node][0], identity

    def ticket(self, node: NodeId) -> Ticket | None:
        """What the last script of a node that loaded its image carried."""
        return self._tickets.get(node)

    def rename(self, old: NodeId, new: NodeId) -> None:
        """A machine got the name of a node."""
        _move(self._boots, old, new)
        _move(self._faults, old, new)
        _move(self._quirks, old, new)
        _move(self._identities, old, new)
        if new in self._boots:
            self._boots[new].node = new

    def boot(self, node: NodeId, done: Done) -> None:
        """Boot a machine from the network; ``done(ok, why)`` is called once, unless it is aborted."""
        self.abort(node)
        self._tickets.pop(node, None)
        boot = self._boots[node] = Boot(node, self.claim(node), done)
        self._discover(boot)

    def abort(self, node: NodeId) -> None:
        """Forget a machine that lost its power."""
        boot = self._boots.pop(node, None)
        if boot is None:
            return
        if boot.timer is not None:
            boot.timer.cancel()
        if boot.server is not None:
            if boot.early:
                boot.server.early -= 1
            else:
                boot.server.leave(boot)

    def join(self, node: NodeId, alive: Callable[[], bool], done: Callable[[bool], None]) -> None:
        """Exchange the token of a node's last boot for a certificate; ``done`` hears the answer, once.

        Nobody is told anything of a machine that is not ``alive`` any more, or whose server stays away.
        """
        wait = self._times.join_ms.draw(self._streams.get(f"netboot/{node}"))
        self._kernel.after(wait, self._redeem, node, alive, done)

    def server_up(self, node: NodeId) -> None:
        """Let a node serve, from the moment its operating system runs."""
        if node not in self._servers:
            self._servers[node] = BootServer(node, self._kernel, self._pace, self._starve)
        self._servers[node].up = True

    def server_down(self, node: NodeId) -> None:
        """Cut off what a node was sending; its machines notice after the HTTP timeout and look for another server."""
        server = self._servers.get(node)
        self.gates.down(node)
        if server is not None and server.up:
            for boot in server.stop():
                self._broken_off(boot)

    def image_of(self, node: NodeId) -> ImageId:
        """The image that the last boot of a node was told to run; NO_IMAGE: what is on its disk."""
        ticket = self._tickets.get(node)
        return ticket.image if ticket is not None else NO_IMAGE

    def serving(self) -> tuple[NodeId, ...]:
        """The nodes that serve now, in order of ids."""
        return tuple(sorted(node for node, server in self._servers.items() if server.up))

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
        server = self._pick(boot.node, boot.claim)
        if server is None:
            self._unanswered(boot, "no boot server answered")
            return
        boot.server, boot.early = server, True
        server.early += 1
        if boot.claim is not None:
            self.gates.seen(server.node, boot.node, "offered")
        wait = self._times.early_ms.draw(self._streams.get(f"netboot/{boot.node}"))
        boot.timer = self._kernel.after(wait, self._loaded, boot, server)

    def _pick(self, node: NodeId, claim: Claim | None) -> BootServer | None:
        """The least busy server that has a window open for this node, and this machine, and a slot free."""
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
            if claim is not None and not self.gates.answers(name, node, claim):
                continue
            rank = (server.early + server.sharers + server.waiting, name, server)
            best = rank if best is None or rank[:2] < best[:2] else best
        return None if best is None else best[2]

    def _loaded(self, boot: Boot, server: BootServer) -> None:
        boot.timer = None
        boot.early = False
        server.early -= 1
        if not server.up or self._faults.get(boot.node) == "tftp_timeout" or not self._linked(boot, server):
            boot.server = None
            self._unanswered(boot, "the boot loader timed out")
        elif boot.claim is None:
            server.join(boot, self._image_bytes, self._transferred)
        else:
            self._script(boot, server, boot.claim)

    def _script(self, boot: Boot, server: BootServer, claim: Claim) -> None:
        """Ask for the script, once a boot: who comes again after a broken transfer has it."""
        quirks = self._quirks.get(boot.node)
        if quirks is not None and quirks.armed and quirks.take("window_expired") is not None:
            wait = max(0, self.gates.closes_ms(server.node, boot.node) - self._kernel.now)
            boot.timer = self._kernel.after(wait, self._script, boot, server, claim)
            return
        boot.timer = None
        if not server.up:
            boot.server = None
            self._unanswered(boot, "the boot server went away")
            return
        if boot.ticket is None or boot.ticket.server != server.node:
            answer = self.gates.ask(server.node, claim)
            if isinstance(answer, Refused):
                boot.server = None
                self._end(boot, False, f"refused by {server.node}: {answer.reason}")
                return
            boot.ticket = answer
        self.gates.seen(server.node, boot.node, "kernel")
        server.join(boot, self._image_bytes, self._transferred)

    def _redeem(self, node: NodeId, alive: Callable[[], bool], done: Callable[[bool], None]) -> None:
        ticket, claim = self._tickets.get(node), self.claim(node)
        if not alive():
            return
        if ticket is None or claim is None:
            done(False)
            return
        server = self._servers.get(ticket.server)
        if server is None or not server.up or not self._fabric.both_ways(ticket.server, node):
            self._kernel.after(self._times.join_retry_ms, self._redeem, node, alive, done)
            return
        quirks = self._quirks.get(node)
        other = quirks is not None and quirks.armed and quirks.take("image_swapped") is not None
        answer = self.gates.redeem(ticket, claim, _OTHER_IMAGE if other else NO_IMAGE)
        done(isinstance(answer, Admitted) and answer.node == node)

    def _transferred(self, loading: Loading) -> None:
        assert isinstance(loading, Boot)
        boot = loading
        server, boot.server = boot.server, None
        if server is None or not self._linked(boot, server):
            self._cut_off(boot)
        elif self._faults.get(boot.node) == "bad_image":
            self._end(boot, False, "the image failed its check")
        else:
            self.served += 1
            if boot.ticket is not None:
                self._tickets[boot.node] = boot.ticket
                self.gates.seen(server.node, boot.node, "image")
            else:
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

    def _starve(self, loading: Loading) -> None:
        self.starved += 1
        self._broken_off(loading)

    def _broken_off(self, loading: Loading) -> None:
        assert isinstance(loading, Boot)
        self._cut_off(loading)

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


def _move(table: dict[NodeId, V], old: NodeId, new: NodeId) -> None:
    if old in table:
        table[new] = table.pop(old)
