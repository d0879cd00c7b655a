"""Ceph as far as the core sees it: volumes that only a blocklist protects, over daemons and monitors that fail.

Exclusive opening is cooperative: it helps order, it never keeps anybody from writing. What was accepted, and from
whom, is the truth that checkers judge by (``accepted``, ``on_accept``).
"""

from collections.abc import Callable, Iterable

from core.ids import BootId, Epoch, NodeId, VolumeName
from core.records import Instance
from twin.calibration import Calibration
from twin.kernel import Handle, Kernel
from twin.streams import Streams
from twin.world.fabric import STORAGE, Fabric
from twin.world.storage_blocklist import BlockChange, Blocklist
from twin.world.storage_map import Group, Osd, StorageMap, StorageNode
from twin.world.storage_monitors import Monitors
from twin.world.storage_ops import VolumeOps
from twin.world.storage_port import VolumeClient
from twin.world.storage_times import Accepted, StorageLayout, StorageTimes
from twin.world.storage_writes import Client, Writes

__all__ = ["Accepted", "Storage", "StorageLayout"]

AcceptListener = Callable[[int, VolumeName, Instance, int], None]
BlockListener = Callable[[int, VolumeName, Instance, BlockChange], None]


class Storage:
    """The storage of one rack. Without ``history`` the list of accepted writes stays empty; listeners hear them all."""

    def __init__(
        self,
        kernel: Kernel,
        streams: Streams,
        calibration: Calibration,
        fabric: Fabric,
        layout: StorageLayout,
        boot_id: Callable[[NodeId], BootId],
        history: bool = True,
    ) -> None:
        self.kernel = kernel
        self.stream = streams.get("storage")
        self.times = calibration.section("storage", StorageTimes)
        self.boot_id = boot_id
        self.accepted: list[Accepted] = []
        self.last_writer: dict[VolumeName, Instance] = {}
        self.clients: dict[str, Client] = {}
        self.owners: dict[VolumeName, Client] = {}
        self.stuck = dict.fromkeys(layout.volumes, False)
        self.fence_fails = False
        self._fabric, self._history = fabric, history
        self._payloads: dict[VolumeName, int] = {}
        self._on_change: list[Callable[[], None]] = []
        self._on_accept: list[AcceptListener] = []
        self._on_block: list[BlockListener] = []
        self._on_open: list[Callable[[VolumeName, NodeId, Epoch], None]] = []
        self._on_closed: list[Callable[[VolumeName, Instance], None]] = []
        self._nonce = 0
        self._outage = False
        self._outage_timer: Handle | None = None
        self.map = StorageMap(kernel, streams.get("storage/map"), self.times, layout.disks, lambda: self.monitors.ready)
        self._numbers = {node: number for number, node in enumerate(self.map.nodes, 1)}
        self._monitor_nodes = [self.map.nodes[node] for node in layout.monitors]
        self.monitors = Monitors(
            kernel, streams.get("storage/monitors"), self.times, self._monitor_nodes, self._monitors_ready
        )
        self.blocklist = Blocklist(kernel, self.stream, self.times, self.map, self._block_changed)
        self.writes = Writes(kernel, streams.get("storage/writes"), self.times, self.map, self.blocklist, self._accept)
        self.ops = VolumeOps(self)
        self.map.on_active = self._group_active
        self.map.on_inactive = self.blocklist.group_inactive
        self.map.changed = self.notify
        fabric.on_change(self._fabric_changed)
        self._look_at_paths()

    # -- asked by the world --------------------------------------------------------------------------------------------

    def port(self, node: NodeId, clock: Callable[[], int]) -> VolumeClient:
        """Return the storage port of a node's agent."""
        return VolumeClient(self.kernel, clock, self.map.client(node), self.ops, self.times.admin_ms_max)

    def write(
        self, instance: Instance, volume: VolumeName, payload: int, answer: Callable[[str], None], ms_max: int
    ) -> None:
        """Write through an instance: ``answer`` hears "ok", "refused" or "unanswered" once, unless the node dies.

        ``payload`` 0 is a probe, any other a new value of the volume's register. "unanswered" (after ``ms_max``) leaves
        the outcome open: the write may land later.
        """
        client = self._writer(instance, volume, answer)
        if client is not None:
            self.writes.submit(client, payload, answer, ms_max)

    def mount(self, instance: Instance, volume: VolumeName, answer: Callable[[str], None], ms_max: int) -> None:
        """Mount or unmount through an instance; answered as ``write``."""
        client = self._writer(instance, volume, answer)
        if client is not None:
            self.writes.mount(client, answer, ms_max)

    def _writer(self, instance: Instance, volume: VolumeName, answer: Callable[[str], None]) -> Client | None:
        """The client behind an instance; one that does not exist (any more) is refused."""
        client = self.clients.get(instance.address)
        if client is None or client.volume != volume:
            self.kernel.after(self.times.refuse_ms.draw(self.stream), answer, "refused")
            return None
        return client

    def last_payload(self, volume: VolumeName) -> int:
        """Return the register as the storage has it: the last payload accepted, 0 if there was none."""
        return self._payloads.get(volume, 0)

    def probe_healthy(self, instance: Instance, volume: VolumeName) -> bool:
        """Say whether a probe asked now would be answered "ok" at the usual speed. Changes nothing, draws nothing."""
        client = self.clients.get(instance.address)
        return (
            client is not None
            and client.volume == volume
            and not (client.closed or client.shut or client.dead)
            and client.node.running
            and client.node.delay_ms + client.node.back_ms == 0
            and self._healthy()
            and self.map.slow_ms_max == 0
            and not self.blocklist.has(instance)
        )

    def reachable(self, node: NodeId) -> bool:
        """Say whether a node reaches the storage; an outage of the storage as such counts after ``outage_ms``."""
        return self.map.nodes[node].path and not self._outage

    def fenced(self, instance: Instance) -> bool:
        """Say whether the monitors have an unexpired entry for this instance."""
        return self.blocklist.has(instance)

    def on_change(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` whenever ``reachable`` or ``probe_healthy`` may answer differently."""
        self._on_change.append(fn)

    def on_accept(self, fn: AcceptListener) -> None:
        """Call ``fn(at_ms, volume, instance, payload)`` for every write the storage takes, in that order."""
        self._on_accept.append(fn)

    def on_block(self, fn: BlockListener) -> None:
        """Call ``fn(at_ms, volume, instance, change)`` for every change of the blocklist and every confirmed fence."""
        self._on_block.append(fn)

    def on_open(self, fn: Callable[[VolumeName, NodeId, Epoch], None]) -> None:
        """Call ``fn(volume, node, epoch)`` whenever a node asks to open a volume, before anything is done."""
        self._on_open.append(fn)

    def on_closed(self, fn: Callable[[VolumeName, Instance], None]) -> None:
        """Call ``fn(volume, instance)`` when an instance has been closed and will never write again."""
        self._on_closed.append(fn)

    # -- the life of the nodes -----------------------------------------------------------------------------------------

    def start_up(self, nodes: Iterable[NodeId]) -> None:
        """Let everything on these nodes run at once, with no start-up times (a world that starts warm)."""
        self.map.start_up(nodes)
        self.monitors.start_up()
        self.notify()

    def node_up(self, node: NodeId) -> None:
        """Start the daemons and the monitor of a node whose operating system came up."""
        here = self.map.nodes[node]
        here.alive, here.frozen = True, False
        self._node_changed(here, loud=False)

    def kill_node(self, node: NodeId) -> None:
        """End everything on a node: its instances die, its daemons fall silent; writes on their way still land."""
        here = self.map.nodes[node]
        here.alive = here.frozen = False
        for client in self._clients_of(here):
            self.writes.node_died(client)
            self._lost(client)
            del self.clients[client.instance.address]
        self._node_changed(here, loud=False)

    def proved_off(self, node: NodeId) -> None:
        """Take up that a BMC reported a node off: its daemons need not be waited for."""
        self.map.declared_dead(self.map.nodes[node])

    def freeze_node(self, node: NodeId) -> None:
        """Stop everything on a node without ending it."""
        here = self.map.nodes[node]
        here.frozen = True
        for client in self._clients_of(here):
            self._lost(client)
        self._node_changed(here, loud=False)

    def thaw_node(self, node: NodeId) -> None:
        """Let a frozen node go on; its instances hear what they missed."""
        here = self.map.nodes[node]
        here.frozen = False
        for client in self._clients_of(here):
            if here.path:
                client.lost_at_ms = -1
                self.writes.hear(client)
        self._node_changed(here, loud=False)

    # -- faults --------------------------------------------------------------------------------------------------------

    def osd_down(self, node: NodeId) -> None:
        """Kill the storage daemons of a node; their ports refuse, so they are marked down quickly."""
        self._set_processes(self.map.nodes[node], False)

    def osd_up(self, node: NodeId) -> None:
        """Start the storage daemons of a node again."""
        self._set_processes(self.map.nodes[node], True)

    def osd_flap(self, node: NodeId, on: bool) -> None:
        """Let the storage daemons of a node die and come back, over and over, until switched off."""
        here = self.map.nodes[node]
        if here.flap is not None:
            here.flap.cancel()
            here.flap = None
        if on:
            self._flap(here, False)
        else:
            self._set_processes(here, True)

    def disk_fail(self, node: NodeId, disk: int) -> None:
        """Lose one disk with its data; its daemon ends. Raises: IndexError if the node has no such storage disk."""
        osd = self._osd(node, disk)
        osd.broken = True
        self.map.update(osd.node, loud=True)

    def disk_replace(self, node: NodeId, disk: int) -> None:
        """Put an empty disk in the place of a lost one; its copies are filled again from the others."""
        osd = self._osd(node, disk)
        if osd.broken:
            osd.broken, osd.empty = False, bool(osd.groups)
            self.map.update(osd.node, loud=True)

    def disk_slow(self, node: NodeId, ms: int) -> None:
        """Make every write that touches this node's disks take ``ms`` longer; 0 ends it."""
        self.map.set_slow(self.map.nodes[node], ms)

    def group_slow(self, volume: VolumeName, payload: int, ms: int) -> None:
        """Make the placement group of a volume's register (payload not 0) or guard block ``ms`` slower; 0 ends it."""
        self.map.set_group_slow(self.writes.group_of(volume, payload), ms)

    def monitor_down(self, node: NodeId) -> None:
        """Kill the monitor of a node; nothing happens if it has none."""
        self.monitors.stop(node, True)
        self.notify()

    def monitor_up(self, node: NodeId) -> None:
        """Start the monitor of a node again."""
        self.monitors.stop(node, False)
        self.notify()

    def fence_failing(self, failing: bool) -> None:
        """Let the monitors fail every new blocklist entry, or take them again."""
        self.fence_fails = failing

    def lock_stuck(self, volume: VolumeName, stuck: bool) -> None:
        """Make every opening of a volume be refused, or end that. Raises: KeyError for an unknown volume."""
        if volume not in self.stuck:
            raise KeyError(volume)
        self.stuck[volume] = stuck

    def stall(self, stalled: bool) -> None:
        """Let no data operation of the whole storage be answered, or go on with all that waited."""
        self.writes.stalled = stalled
        for group in self.map.groups:
            if stalled:
                self.blocklist.group_inactive(group)
            elif group.active:
                self._group_active(group)
        self.notify()

    # -- used by the parts ---------------------------------------------------------------------------------------------

    def address(self, node: NodeId) -> str:
        """Make the address of a new client instance: the node's own IP and a nonce that never comes again."""
        self._nonce += 1
        number = self._numbers.setdefault(node, len(self._numbers) + 1)
        return f"10.99.{number >> 8}.{number & 255}:0/{self._nonce}"

    def confirmed(self, volume: VolumeName, instance: Instance) -> None:
        """Tell that the barrier of a fence has passed."""
        self._block_changed(volume, instance, "complete")

    def notify(self) -> None:
        """Look again at everything that waits for a change, and tell the listeners."""
        self.ops.waiters.look()
        self._judge_outage()
        for listener in self._on_change:
            listener()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _healthy(self) -> bool:
        return self.map.inactive == 0 and not self.writes.stalled

    def _judge_outage(self) -> None:
        if self._healthy():
            self._outage = False
            if self._outage_timer is not None:
                self._outage_timer.cancel()
                self._outage_timer = None
        elif self._outage_timer is None and not self._outage:
            self._outage_timer = self.kernel.after(self.times.outage_ms, self._outage_begins)

    def _outage_begins(self) -> None:
        self._outage_timer = None
        self._outage = True
        self.notify()

    def _accept(self, client: Client, payload: int) -> None:
        now, volume, instance = self.kernel.now, client.volume, client.instance
        self.last_writer[volume] = instance
        if payload:
            self._payloads[volume] = payload
        if self._history:
            self.accepted.append(Accepted(now, volume, instance, payload))
        for listener in self._on_accept:
            listener(now, volume, instance, payload)

    def asked_to_open(self, volume: VolumeName, node: NodeId, epoch: Epoch) -> None:
        """Tell that a node asks to open a volume."""
        for listener in self._on_open:
            listener(volume, node, epoch)

    def closed(self, volume: VolumeName, instance: Instance) -> None:
        """Tell that an instance was closed."""
        for listener in self._on_closed:
            listener(volume, instance)

    def _block_changed(self, volume: VolumeName, instance: Instance, change: BlockChange) -> None:
        for listener in self._on_block:
            listener(self.kernel.now, volume, instance, change)
        if change == "expired":
            self.notify()

    def _group_active(self, group: Group) -> None:
        if not self.writes.stalled:
            self.writes.group_active(group)
            self.blocklist.group_active(group)

    def _monitors_ready(self) -> None:
        self.map.quorum_back()
        self.notify()

    def _node_changed(self, node: StorageNode, *, loud: bool) -> None:
        self.map.update(node, loud=loud)
        self.monitors.update()
        self.notify()

    def _fabric_changed(self) -> None:
        self._look_at_paths()
        self.monitors.update()
        self.notify()

    def _look_at_paths(self) -> None:
        for node in self.map.nodes.values():
            node.delay_ms = self._fabric.latency_ms(node.id, STORAGE)
            node.back_ms = self._fabric.latency_ms(STORAGE, node.id)
            path = self._path(node.id)
            if path == node.path:
                continue
            node.path = path
            self.map.update(node, loud=False)
            for client in self._clients_of(node):
                if path:
                    client.lost_at_ms = -1 if not node.frozen else client.lost_at_ms
                    self.writes.path_back(client)
                else:
                    self._lost(client)

    def _path(self, node: NodeId) -> bool:
        """A node on the side of a minority of the monitors does not reach the storage either."""
        fabric, monitors = self._fabric, self._monitor_nodes
        if not fabric.storage_reachable(node):
            return False
        seen = sum(fabric.storage_path(node, monitor.id) for monitor in monitors)
        return not monitors or 2 * seen > len(monitors)

    def _lost(self, client: Client) -> None:
        if client.lost_at_ms < 0:
            client.lost_at_ms = self.kernel.now

    def _clients_of(self, node: StorageNode) -> list[Client]:
        return [client for client in self.clients.values() if client.node is node]

    def _osd(self, node: NodeId, disk: int) -> Osd:
        return self.map.nodes[node].osds[disk]

    def _set_processes(self, node: StorageNode, running: bool) -> None:
        for osd in node.osds:
            osd.process = running
        self.map.update(node, loud=True)

    def _flap(self, node: StorageNode, running: bool) -> None:
        self._set_processes(node, running)
        wait = self.times.flap_up_ms if running else self.times.flap_down_ms
        node.flap = self.kernel.after(wait, self._flap, node, not running)
