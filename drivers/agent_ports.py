"""The ports of one agent, each made from its driver: what ``drivers.host`` carries effects to."""

import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from core import effects as fx
from core.events import OpFailed, StorageSeen
from core.ids import BootId, NodeId, SessionId, VolumeName
from core.ports import Emit, EvidenceEffect, HostPort, ImageEffect, NetbootEffect, Ports, StorageEffect, StoragePort
from core.records import Change, MemberRecord
from drivers import log
from drivers.beats import CoordinationBeats
from drivers.ceph import Ceph, CephError
from drivers.clock import now_ms
from drivers.config import Config
from drivers.image_port import ImagePort, booted, image_port
from drivers.join.published import Follower
from drivers.netboot.port import NetbootPort
from drivers.power import Power, open_bmc, open_table
from drivers.roster import Roster, table_of
from drivers.storage import CephStorage
from drivers.supervised import Supervised
from drivers.zookeeper_port import ZooKeeper
from drivers.zookeeper_tree import REVOKED

if TYPE_CHECKING:
    from drivers.scan import Scans

MARK_DOWN_MS = 10_000
"""A node that is proved off again and again is told to the storage once in so long."""


class AgentPorts:
    """All ports but the host itself. ``begin`` before the first effect, ``close`` after the last."""

    def __init__(self, config: Config, supervised: Supervised, boot_id: BootId, on_bug: Callable[[], None]) -> None:
        self._supervised = supervised
        self._ceph: Ceph | None = None
        self._storage: Storage = NoStorage()
        on_off: Callable[[NodeId], None] | None = None
        if config.tables.ceph is not None:
            self._ceph = Ceph(config.tables.ceph)
            self._storage = CephStorage(self._ceph, supervised, config.node, boot_id)
            on_off = MarksDown(self._ceph.mark_down)
        self.roster = Roster(config, config.tables.state_dir, supervised.machines)
        self._coordination = ZooKeeper(config, supervised, on_bug, self._follow)
        self._revoked = Follower(config, self._coordination.loop, self._coordination.peek, REVOKED)
        self._evidence = Evidence(CoordinationBeats(self._coordination), supervised)
        self._power = _power(config, self.roster, on_off)
        self._netboot = NetbootPort(config) if config.tables.netboot is not None else NoNetboot()
        self.image = booted().image
        self._image: ImagePort | NoImage = image_port(config) if self.image else NoImage()
        self._volumes = tuple(spec.volume for spec in config.catalog.specs if spec.volume)

    @staticmethod
    def load(config: Config) -> None:
        """Load the modules that these ports load only when they are needed."""
        for machine in config.machines.values():
            open_bmc(machine)
        for network in config.inventory.networks:
            for access in network.access:
                open_table(table_of(access, "", 0))
        if config.inventory.networks:
            import_module("drivers.console")
            import_module("drivers.scan")

    @property
    def saved_session(self) -> SessionId:
        """The session that the last agent of this boot had; 0 if there was none."""
        return self._coordination.saved_session

    def begin(self, emit: Emit) -> None:
        """Let what comes by itself come: whether the storage is there. The supervisor hears of machines first."""
        self._supervised.machines(self.roster.records)
        self._storage.watch(emit, self._volumes)
        self._netboot.begin(emit)

    def of(self, host: HostPort) -> Ports:
        """Every port, with the host's own."""
        return Ports(
            host=host,
            coordination=self._coordination,
            evidence=self._evidence,
            storage=self._storage,
            workload=self._supervised,
            address=self._supervised,
            power=self._power,
            netboot=self._netboot,
            image=self._image,
        )

    def _follow(self, changes: tuple[Change, ...], roots: tuple[str, ...]) -> None:
        """Take up what is read of machines and members, before this node's machine hears of it."""
        self.roster.take(changes, roots)
        for change in changes:
            if isinstance(change.data, MemberRecord):
                self._power.seen_up(change.data.node)

    def close(self) -> None:
        """End what runs by itself. The session stays, for the next agent."""
        self._power.close()
        self._image.close()
        self._netboot.close()
        self._storage.close()
        self._coordination.close()
        if self._ceph is not None:
            self._ceph.close()


def _power(config: Config, roster: Roster, on_off: Callable[[NodeId], None] | None) -> Power:
    """Make the power port, with what finds machines where there are networks to look in."""
    if not config.inventory.networks:
        return Power(config.machines, now_ms, on_off)
    from drivers.console import Consoles

    def scans() -> "Scans":
        from drivers.scan import Scans  # it is slow to load, and only the owner of the duty ever looks

        return Scans(config.inventory, lambda: roster.known, open_table, now_ms)

    return Power(config.machines, now_ms, on_off, scans=scans, consoles=Consoles(now_ms, config.timing.boot_ms_max))


class Storage(StoragePort, Protocol):
    """A storage port that also tells whether the storage is there."""

    def watch(self, emit: Emit, volumes: tuple[VolumeName, ...] = ()) -> None: ...

    def close(self) -> None: ...


class NoStorage:
    """The storage of a rack without volumes: never there."""

    def submit(self, effect: StorageEffect, emit: Emit) -> None:
        emit(OpFailed(at_ms=now_ms(), op=effect.op, reason="unavailable", detail="no [ceph] in the node's file"))

    def watch(self, emit: Emit, volumes: tuple[VolumeName, ...] = ()) -> None:
        """Tell it once, where a service would need it."""
        if volumes:
            emit(StorageSeen(at_ms=now_ms(), ok=False))

    def close(self) -> None:
        """Nothing runs."""


class Evidence:
    """The evidence port: coordination beats are asked here, the rest by the supervisor, which outlives us (rule 11)."""

    def __init__(self, beats: CoordinationBeats, supervised: Supervised) -> None:
        self._beats = beats
        self._supervised = supervised

    def submit(self, effect: EvidenceEffect, emit: Emit) -> None:
        match effect:
            case fx.StartBeat(kind="coordination") | fx.StopBeat(kind="coordination"):
                self._beats.submit(effect, emit)
            case fx.StartBeat() | fx.StopBeat() | fx.ArmRight():
                self._supervised.submit(effect, emit)


class NoNetboot:
    """The netboot port of a rack whose nodes boot from their own disks."""

    def submit(self, effect: NetbootEffect, emit: Emit) -> None:
        log.event("netboot_not_there", node_to_boot=effect.node)

    def begin(self, emit: Emit) -> None:
        """Nothing comes."""

    def close(self) -> None:
        """Nothing runs."""


class NoImage:
    """The image port of a machine that was installed by hand: nothing of ours is to be staged on it."""

    def submit(self, effect: ImageEffect, emit: Emit) -> None:
        if isinstance(effect, fx.StageImage):
            detail = "this machine was not booted from an image"
            emit(OpFailed(at_ms=now_ms(), op=effect.op, reason="refused", retryable=False, detail=detail))

    def close(self) -> None:
        """Nothing runs."""


class MarksDown:
    """Tells the storage of a node that is proved off, so that it need not find out itself; in one thread at a time."""

    def __init__(self, mark_down: Callable[[str], tuple[int, ...]]) -> None:
        self._mark_down = mark_down
        self._told_ms: dict[NodeId, int] = {}
        self._busy = threading.Lock()

    def __call__(self, node: NodeId) -> None:
        """Begin to tell it; what is told already, or while another is being told, is left out."""
        now = now_ms()
        if now - self._told_ms.get(node, -MARK_DOWN_MS) < MARK_DOWN_MS or not self._busy.acquire(blocking=False):
            return
        self._told_ms[node] = now
        threading.Thread(target=self._tell, args=(node,), name="mark down", daemon=True).start()

    def _tell(self, node: NodeId) -> None:
        try:
            daemons = self._mark_down(node)
            log.event("marked_down", about=node, daemons=tuple(map(str, daemons)))
        except CephError as error:
            log.event("not_marked_down", about=node, error=error.detail)
        finally:
            self._busy.release()
