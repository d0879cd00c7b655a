"""``rack netboot``: the service of a node that boots other machines, one process beside agent and supervisor.

It outlives agents, and no agent waits for it: images of any size do not disturb the node's brain.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import InputError
from core.events import JoinAdmitted, JoinRefused
from core.gate import Gate
from core.ids import ImageId
from drivers import log
from drivers.ca import Authority, read
from drivers.children import PATH
from drivers.clock import now_ms, seconds
from drivers.config import Config
from drivers.image.fetch import FETCHED
from drivers.image.manifest import MANIFEST
from drivers.join.bundle import Bundles
from drivers.join.crowd import Voice
from drivers.join.cut import cut_off
from drivers.join.revocation import RetiredMachines, Revoker
from drivers.join.server import JoinServer
from drivers.netboot.advert import Adverts
from drivers.netboot.boots import Boots
from drivers.netboot.daemons import Daemon
from drivers.netboot.dnsmasq import BIOS, EFI, IPXE, Ears, dhcp_config, tftp_config
from drivers.netboot.door import Door
from drivers.netboot.http import HttpServer, logs_access
from drivers.netboot.memory import Memory
from drivers.netboot.occupied import check_tcp, check_udp
from drivers.netboot.pace import Bandwidth, Line, Pace, Streams
from drivers.netboot.place import place_of, tables_of
from drivers.netboot.reports import Reports
from drivers.netboot.shelf import RUNNING, Shelf
from drivers.netboot.standby import stand_by
from drivers.netboot.wire import SOCKET, Allow
from drivers.roster import Roster
from drivers.zookeeper_server import looks_into_list, revoked_file

LOOK_S = 0.25
"""How often windows are looked at: so long after its end a machine may still get an answer from DHCP."""
START_S = 5.0
PEERS_MAX = 255
LOCK = "netboot.lock"
LOOPBACK = "127.0.0.1"
"""The supervisor asks here whether the service is healthy."""


def run(config: Config) -> int:
    """Serve until told to stop. Raises: InputError if this machine cannot, with what it lacks."""
    log.always(node=config.node, process="netboot")
    if config.tables.netboot is None:
        return asyncio.run(stand_by(config))
    program = _check_machine(tables_of(config)[0].interface)
    with _alone(config.tables.run_dir / LOCK):
        return asyncio.run(_serve(config, program))


async def _serve(config: Config, program: str) -> int:
    service = Service(config, program)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await service.start()
        await _first(stopped)
    finally:
        await service.stop()
    return 0


async def _first(stopped: asyncio.Event) -> None:
    await stopped.wait()
    log.event("netboot_stops")


class Service:
    """Everything that one boot server does."""

    def __init__(self, config: Config, dnsmasq: str) -> None:
        """``dnsmasq``: where the program is. Raises: InputError if files that the configuration names are of no use."""
        netboot, _ = tables_of(config)
        self._config, self._netboot = config, netboot
        self._authority = Authority(netboot.ca)
        self._retired = RetiredMachines(config.tables.state_dir)
        self._revoker = Revoker(
            self._retired,
            self._authority,
            revoked_file(config),
            lambda node: cut_off(config, node),
            listed=lambda: looks_into_list(config),
        )
        self._place = place = place_of(config, read(self._authority.cert).fingerprint.replace(":", "").lower())
        assert netboot.key is not None
        self._shelf = Shelf(netboot.images, netboot.key, now_ms, self._others)
        default = _default_image(config)
        self.gate = Gate()
        self.reports = Reports(now_ms)
        line = Line(netboot.streams_max)
        self.boots = Boots(place, self.gate, self._shelf, line, self.reports, now_ms, default, self._remember)
        self._default = default
        folder = config.tables.run_dir / "netboot"
        self._folder = folder
        self._leases = folder / "leases"
        self._memory = Memory(folder / "windows.json", config.tables.boot_id_path)
        self._ears = Ears()
        self._ignored = Voice(20, 60_000)
        self._dhcp = Daemon("DHCP", dnsmasq, folder / "dhcp.conf", self._hear)
        self._tftp = Daemon("TFTP", dnsmasq, folder / "tftp.conf", _hear_nothing)
        pace = Pace(Bandwidth(netboot.mbit_max), Streams(netboot.streams_max), lambda: seconds() * 1_000)
        self._http = HttpServer(self.boots.answer, pace, place.has, logs_access(now_ms))
        self._adverts = Adverts(netboot.interface)
        self._door = Door(config.tables.run_dir / SOCKET, config.node, self.reports, self._allow)
        self._join: JoinServer | None = None
        self._watch: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Serve. Raises: InputError if a port is taken, or the image that is to be booted is not what was signed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.boots.restore(self._memory.load())
        await self._check_image()
        place = self._place
        for daemon in (self._tftp, self._dhcp):
            daemon.end_orphans()
        for port in (67, 69, 4011) if place.proxy else (67, 69):
            check_udp(port, place.interface, f"[netboot] interface = {place.interface!r}")
        for address in (place.server, LOOPBACK):
            check_tcp(place.http_port, address, f"[netboot] http_port at {address}")
            await self._http.start(address, place.http_port)
        check_tcp(place.join_port, place.server, f"[netboot] join_port at {place.server}")
        await self._start_join()
        self._adverts.start()
        self._tftp.configure(tftp_config(place))
        self._dhcp.configure(self._dhcp_text())
        for daemon in (self._tftp, self._dhcp):
            if not await daemon.wait_running(START_S):
                raise InputError([f"dnsmasq does not start: {daemon.problem}"])
        self._watch = asyncio.create_task(self._keep())
        await self._door.open()
        log.event("netboot_ready", server=place.http, interface=place.interface, image=self._default)

    async def stop(self) -> None:
        """Stop everything that was started."""
        if self._watch is not None:
            self._watch.cancel()
        await self._door.close()
        self._adverts.stop()
        await asyncio.gather(self._dhcp.stop(), self._tftp.stop(), self._http.stop())
        if self._join is not None:
            await self._join.stop()

    async def _check_image(self) -> None:
        """Verify what is to be booted. A machine that was booted itself need not have it. Raises: InputError."""
        folder = self._shelf.folder_of(self._default)
        if RUNNING.exists() and (not (folder / MANIFEST).exists() or (folder / FETCHED).exists()):
            await self._shelf.look(self._default)
            return
        image = await asyncio.to_thread(self._shelf.take, folder, self._default)
        log.event("image_verified", image=image.id, folder=str(image.folder))

    def _remember(self) -> None:
        try:
            self._memory.save(*self.boots.kept())
        except InputError as error:
            log.event("windows_not_kept", problems=tuple(error.problems))

    def _others(self) -> tuple[str, ...]:
        """Where other boot servers of the rack would be."""
        machines, place = self._config.machines.values(), self._place
        addresses = [machine.address for machine in machines if machine.address != place.server]
        return tuple(f"{address}:{place.http_port}" for address in addresses if place.has(address))[:PEERS_MAX]

    # -- windows ----------------------------------------------------------------------------------------------------

    def _allow(self, order: Allow) -> None:
        if order.effect.node not in self._config.machines:
            Roster(self._config, self._config.tables.state_dir)  # the agent found it since: its file says where
        self.boots.allow(order)
        self._changed.set()

    def _dhcp_text(self) -> str:
        return dhcp_config(self._place, self._leases, self.boots.expected())

    async def _keep(self) -> None:
        """Have DHCP know the windows of this moment, and only those."""
        while True:
            self._changed.clear()
            self._revoker.look(self.gate)
            self._dhcp.configure(self._dhcp_text())
            self.boots.problem = self._dhcp.problem or self._tftp.problem
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _hear(self, line: str) -> None:
        what, node, mac = self._ears.hear(line)
        if what == "offered" and node:
            self.boots.offered(node, mac)
        elif what == "ignored" and self._ignored.may(now_ms()):
            log.event("dhcp_ignored", mac=mac)

    # -- joining ----------------------------------------------------------------------------------------------------

    async def _start_join(self) -> None:
        tables = self._config.tables
        if tables.tls is None:
            log.event("no_join_server", problem="no [tls] in the node's file")
            return
        server = JoinServer(self.gate, self._authority, Bundles(self._config), self._joined, retired=self._retired)
        await server.start(self._place.server, self._place.join_port, tables.tls)
        self._join = server

    def _joined(self, event: JoinAdmitted | JoinRefused) -> None:
        self._remember()  # a token that is spent stays spent
        self.reports.tell(event)


def _hear_nothing(line: str) -> None:
    del line


def _check_machine(interface: str) -> str:
    """Look for what the service needs of the machine; where dnsmasq is. Raises: InputError with all that is missing."""
    problems = []
    if os.geteuid() != 0:
        problems.append("rack netboot: needs root (DHCP, ports below 1024, raw sockets); try sudo")
    program = shutil.which("dnsmasq", path=PATH)
    if program is None:
        problems.append("dnsmasq: not installed; needed: the package dnsmasq-base")
    problems += [
        f"{IPXE / name}: is missing; needed: the package ipxe" for name in (BIOS, EFI) if not (IPXE / name).is_file()
    ]
    if interface not in (names := [name for _, name in socket.if_nameindex()]):
        problems.append(f"[netboot] interface = {interface!r}: no such interface; allowed: {', '.join(names)}")
    if problems:
        raise InputError(problems)
    assert program is not None
    return program


def _default_image(config: Config) -> ImageId:
    """What to boot where an order names no image: as configured, or what this machine booted itself."""
    netboot, _ = tables_of(config)
    try:
        running = RUNNING.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        running = ""
    found = ImageId(netboot.image or running)
    if not found:
        raise InputError([f"{config.file}: [netboot] image is missing; needed: the id of an image in {netboot.images}"])
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of this node's service. Raises: InputError if another process has it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read(20).strip() or "?"
                raise InputError([f"{path}: another netboot service of this node runs (process {holder})"]) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield
    except OSError as error:
        raise InputError([f"{path}: {(error.strerror or str(error)).lower()}; needed: a run_dir of ours"]) from None
