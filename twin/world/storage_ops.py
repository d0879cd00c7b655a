"""Opening, closing and fencing volumes: the operations behind the storage port, each with its waiting and its limit."""

from collections.abc import Callable
from typing import Protocol

from core import effects as fx
from core.events import VolumeOpened
from core.ids import BootId, Epoch, NodeId, VolumeName
from core.records import Instance
from twin.kernel import Kernel
from twin.streams import Stream
from twin.world.answers import Answer
from twin.world.storage_blocklist import NEVER, Block, Blocklist
from twin.world.storage_map import StorageMap, StorageNode
from twin.world.storage_monitors import Monitors
from twin.world.storage_times import StorageTimes
from twin.world.storage_writes import Client, Writes

UNDO_MS = 2_000
"""A volume whose opening could not be answered is closed again after this. Source: ``drivers/storage.py``."""
BROKEN_LOCK_BLOCK_MS = 3_600_000
"""For how long a new opener blocks an owner that went silent. Source: facts/ceph.md section 3 (librbd's own, 1 h)."""


class Parts(Protocol):
    """The parts of the storage that the operations work on."""

    kernel: Kernel
    stream: Stream
    times: StorageTimes
    map: StorageMap
    monitors: Monitors
    blocklist: Blocklist
    writes: Writes
    clients: dict[str, Client]
    owners: dict[VolumeName, Client]
    stuck: dict[VolumeName, bool]
    fence_fails: bool

    def address(self, node: NodeId) -> str: ...

    def boot_id(self, node: NodeId) -> BootId: ...

    def confirmed(self, volume: VolumeName, instance: Instance) -> None: ...

    def asked_to_open(self, volume: VolumeName, node: NodeId, epoch: Epoch) -> None: ...

    def closed(self, volume: VolumeName, instance: Instance) -> None: ...

    def notify(self) -> None: ...


class Waiters:
    """Operations that wait for the storage to change; looked at in order whenever it does."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Answer, Callable[[], bool], Callable[[], None]]] = []

    def when(self, answer: Answer, ready: Callable[[], bool], act: Callable[[], None]) -> None:
        """Do ``act`` once ``ready()``, unless ``answer`` was given before."""
        if ready():
            act()
        else:
            self._waiting.append((answer, ready, act))

    def look(self) -> None:
        """Let go on what is ready now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for answer, ready, act in waiting:
                if answer.open:
                    self.when(answer, ready, act)


class VolumeOps:
    """The four operations of the storage port."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.waiters = Waiters()

    # -- open and close --------------------------------------------------------------------------------------------

    def open(self, node: StorageNode, effect: fx.OpenVolume, answer: Answer) -> None:
        """Open a volume under a new instance; refused while another node's live instance owns it."""
        if effect.volume not in self._parts.stuck:
            answer.fail("failed", f"no volume {effect.volume}", retryable=False)
            return
        self._parts.asked_to_open(effect.volume, node.id, effect.epoch)
        self.waiters.when(answer, lambda: self._data_ready(node), lambda: self._try_open(node, effect, answer))

    def _try_open(self, node: StorageNode, effect: fx.OpenVolume, answer: Answer) -> None:
        parts, owner = self._parts, self._owner(effect.volume)
        after, draw = parts.kernel.after, parts.stream
        if parts.stuck[effect.volume]:
            after(parts.times.refuse_ms.draw(draw), answer.fail, "refused", "the lock is stuck")
        elif owner is None or owner.node is node:
            after(parts.times.open_ms.draw(draw), self._opened, node, effect, answer, owner)
        elif owner.lost_at_ms < 0:
            detail = f"held by {owner.instance.address}"
            after(parts.times.refuse_ms.draw(draw), answer.fail, "refused", detail)
        else:
            at_ms = max(owner.lost_at_ms + parts.times.watch_ms, parts.kernel.now)
            parts.kernel.at(at_ms, self._break_lock, node, effect, answer, owner)

    def _break_lock(self, node: StorageNode, effect: fx.OpenVolume, answer: Answer, owner: Client) -> None:
        parts = self._parts
        if not answer.wanted:
            return
        silent = owner.lost_at_ms >= 0 and parts.kernel.now >= owner.lost_at_ms + parts.times.watch_ms
        if silent and parts.monitors.ready and not parts.fence_fails:
            parts.blocklist.add(effect.volume, owner.instance, BROKEN_LOCK_BLOCK_MS, parts.writes.stalled)
            parts.notify()
        elif silent:
            parts.kernel.after(1_000, self._break_lock, node, effect, answer, owner)
            return
        self.waiters.when(answer, lambda: self._data_ready(node), lambda: self._try_open(node, effect, answer))

    def _opened(self, node: StorageNode, effect: fx.OpenVolume, answer: Answer, owner: Client | None) -> None:
        parts = self._parts
        if not answer.wanted or not node.alive:
            return
        if not self._data_ready(node) or self._owner(effect.volume) is not owner:
            self.waiters.when(answer, lambda: self._data_ready(node), lambda: self._try_open(node, effect, answer))
            return
        if owner is not None:  # left open by an earlier agent of this node, whose driver closes it
            owner.closed = True
            parts.closed(effect.volume, owner.instance)
        boot_id, address = parts.boot_id(node.id), parts.address(node.id)
        instance = Instance(node=node.id, boot_id=boot_id, epoch=Epoch(effect.epoch), address=address)
        client = Client(effect.volume, instance, node)
        parts.clients[instance.address] = client
        parts.owners[effect.volume] = client
        lost = node.quirks.take("open_answer_lost") if node.quirks.armed else None
        if lost is None:
            answer.succeed(VolumeOpened(instance=instance))
            return
        parts.kernel.after(UNDO_MS, self._undo, client)
        if lost.says == "failed":
            answer.fail("failed", "which client instance was opened cannot be told")

    def _undo(self, client: Client) -> None:
        """Close what nobody will ever use, once its node can; it was not written to."""
        parts = self._parts
        if client.closed or client.dead:
            return
        if not client.node.running:
            parts.kernel.after(UNDO_MS, self._undo, client)
            return
        client.closed = True
        if parts.owners.get(client.volume) is client:
            del parts.owners[client.volume]
        parts.notify()

    def _owner(self, volume: VolumeName) -> Client | None:
        owner = self._parts.owners.get(volume)
        if owner is None or self._parts.blocklist.has(owner.instance):
            return None
        return owner

    def close(self, node: StorageNode, effect: fx.CloseVolume, answer: Answer) -> None:
        """Close after the last outstanding write was acknowledged; the lock goes only then."""
        client = self._parts.clients.get(effect.instance.address)
        if client is None or client.closed or client.dead:
            answer.fail("failed", "no such client instance", retryable=False)
            return

        def given_up() -> None:
            client.closed = True
            client.lost_at_ms = self._parts.kernel.now

        answer.on_late = given_up
        if node.quirks.armed and node.quirks.take("close_hangs") is not None:
            return
        client.on_flushed = lambda: self._flushed(node, client, answer)
        self._flushed(node, client, answer)

    def _flushed(self, node: StorageNode, client: Client, answer: Answer) -> None:
        if client.outstanding == 0 and answer.open:
            client.on_flushed = None
            self.waiters.when(answer, lambda: self._data_ready(node), lambda: self._closing(client, answer))

    def _closing(self, client: Client, answer: Answer) -> None:
        parts = self._parts
        parts.kernel.after(parts.times.close_ms.draw(parts.stream), self._closed, client, answer)

    def _closed(self, client: Client, answer: Answer) -> None:
        if not answer.open or client.dead:
            return
        client.closed = True
        group = self._parts.map.groups[0]
        if client.shut or self._parts.blocklist.blocks(client.instance, group):
            answer.fail("refused", "the instance is fenced", retryable=False)
            return
        if self._parts.owners.get(client.volume) is client:
            del self._parts.owners[client.volume]
        self._parts.closed(client.volume, client.instance)
        answer.succeed()
        self._parts.notify()

    def _data_ready(self, node: StorageNode) -> bool:
        parts = self._parts
        return node.running and parts.map.groups[0].active and not parts.writes.stalled

    # -- fence and lift --------------------------------------------------------------------------------------------

    def fence(self, node: StorageNode, effect: fx.FenceInstance, answer: Answer) -> None:
        """Block an instance, then wait until every group has taken an operation with the new map."""
        self.waiters.when(answer, lambda: self._command_ready(node), lambda: self._command(node, effect, answer))

    def _command(self, node: StorageNode, effect: fx.FenceInstance, answer: Answer) -> None:
        parts = self._parts
        parts.kernel.after(parts.times.command_ms.draw(parts.stream), self._decide, node, effect, answer)

    def _decide(self, node: StorageNode, effect: fx.FenceInstance, answer: Answer) -> None:
        parts = self._parts
        if parts.fence_fails:
            answer.fail("failed", "the monitors did not take the entry")
        elif not parts.monitors.ready:
            if answer.open:
                self.fence(node, effect, answer)
        else:
            block = parts.blocklist.add(effect.volume, effect.instance, effect.block_ms, parts.writes.stalled)
            parts.notify()
            if not (node.quirks.armed and self._fence_answer_is_lost(node, answer)):
                parts.kernel.after(parts.times.command_answer_ms, self._barrier, node, block, answer)

    def _fence_answer_is_lost(self, node: StorageNode, answer: Answer) -> bool:
        lost = node.quirks.take("fence_answer_lost")
        if lost is not None and lost.says == "failed":
            answer.fail("failed", "the connection to the monitors broke off")
        return lost is not None

    def _barrier(self, node: StorageNode, block: Block, answer: Answer) -> None:
        if answer.open:
            ready, probe = lambda: self._barrier_ready(node, block), lambda: self._probe(node, block, answer)
            self.waiters.when(answer, ready, probe)

    def _barrier_ready(self, node: StorageNode, block: Block) -> bool:
        return node.running and not self._parts.writes.stalled and NEVER not in block.effective

    def _probe(self, node: StorageNode, block: Block, answer: Answer) -> None:
        parts = self._parts
        wait = parts.times.barrier_ms.draw(parts.stream) + parts.map.slow_ms_max
        late = node.quirks.take("fence_late") if node.quirks.armed else None
        wait += late.ms if late is not None else 0
        at_ms = max(parts.kernel.now + wait, max(block.effective) + 1)
        parts.kernel.at(at_ms, self._confirm, node, block, answer)

    def _confirm(self, node: StorageNode, block: Block, answer: Answer) -> None:
        parts = self._parts
        if not answer.open:
            return
        if not self._barrier_ready(node, block) or max(block.effective) > parts.kernel.now:
            self._barrier(node, block, answer)
        elif not parts.blocklist.has(block.instance):
            answer.fail("failed", "the entry was gone before the fence was complete")
        else:
            parts.confirmed(block.volume, block.instance)
            answer.succeed()

    def lift(self, node: StorageNode, effect: fx.LiftBlock, answer: Answer) -> None:
        """Forget a fenced instance."""
        self.waiters.when(answer, lambda: self._command_ready(node), lambda: self._lifting(node, effect, answer))

    def _lifting(self, node: StorageNode, effect: fx.LiftBlock, answer: Answer) -> None:
        parts = self._parts
        parts.kernel.after(parts.times.command_ms.draw(parts.stream), self._lifted, node, effect, answer)

    def _lifted(self, node: StorageNode, effect: fx.LiftBlock, answer: Answer) -> None:
        self._parts.blocklist.lift(effect.instance)
        self._parts.notify()
        lost = node.quirks.take("lift_answer_lost") if node.quirks.armed else None
        if lost is None:
            answer.succeed()
        elif lost.says == "failed":
            answer.fail("failed", "the connection to the monitors broke off")

    def _command_ready(self, node: StorageNode) -> bool:
        return node.running and self._parts.monitors.ready
