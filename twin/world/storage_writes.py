"""Client instances and their writes: sent, parked, accepted or refused, acknowledged or not.

The storage decides on arrival, by what the group knows then. A request that left its node may land after the node died
or was cut off; one that could not leave is sent again when the path is back, while the node lives. An answer
``unanswered`` therefore says nothing about the write.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

from core.ids import VolumeName
from core.records import Instance
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.storage_blocklist import Blocklist
from twin.world.storage_map import Group, StorageMap, StorageNode
from twin.world.storage_times import StorageTimes

Outcome = Literal["ok", "refused", "unanswered"]
OUTSTANDING_MAX = 64
"""Writes of one instance that may wait at the same time; a later one is never sent."""


class Client:
    """One client instance.

    ``shut``: it knows that it is fenced; ``lost_at_ms``: since when nobody hears its watch (-1: it is heard).
    """

    __slots__ = (
        "closed",
        "dead",
        "instance",
        "last_arrival_ms",
        "lost_at_ms",
        "node",
        "on_flushed",
        "outstanding",
        "parked",
        "sent",
        "shut",
        "unsent",
        "volume",
    )

    def __init__(self, volume: VolumeName, instance: Instance, node: StorageNode) -> None:
        self.volume = volume
        self.instance = instance
        self.node = node
        self.closed = False
        self.dead = False
        self.shut = False
        self.lost_at_ms = -1
        self.sent = 0
        self.outstanding = 0
        self.last_arrival_ms = 0
        self.unsent: deque[Write] = deque()
        self.parked: list[tuple[Write, Outcome]] = []
        self.on_flushed: Callable[[], None] | None = None


class Write:
    """One write. ``answer`` is called once, unless the node dies."""

    __slots__ = ("_answer", "client", "deadline_ms", "group", "late", "payload")

    def __init__(
        self, client: Client, group: Group, payload: int, answer: Callable[[str], None], deadline_ms: int
    ) -> None:
        self.client = client
        self.group = group
        self.payload = payload
        self.deadline_ms = deadline_ms
        self.late: Handle | None = None
        self._answer: Callable[[str], None] | None = answer

    def say(self, outcome: Outcome) -> None:
        """Answer, unless it was answered before."""
        answer, self._answer = self._answer, None
        if self.late is not None:
            self.late.cancel()
            self.late = None
        if answer is not None:
            answer(outcome)


class Writes:
    """The write path. ``accept(client, payload)`` is called for every write the storage takes."""

    def __init__(
        self,
        kernel: Kernel,
        stream: Stream,
        times: StorageTimes,
        osds: StorageMap,
        blocklist: Blocklist,
        accept: Callable[[Client, int], None],
    ) -> None:
        self._kernel, self._stream, self._times = kernel, stream, times
        self._map, self._blocklist, self._accept = osds, blocklist, accept
        self._waiting: list[deque[Write]] = [deque() for _ in osds.groups]
        self.stalled = False

    def submit(self, client: Client, payload: int, answer: Callable[[str], None], ms_max: int) -> None:
        """Send one write: to the register (payload not 0), one object that keeps its order, or to the guard block."""
        self._submit(client, self.group_of(client.volume, payload), payload, answer, ms_max)

    def group_of(self, volume: VolumeName, payload: int) -> Group:
        """Return where a volume's register is (payload not 0), or its guard block."""
        groups = self._map.groups
        return groups[(sum(volume.encode()) + (payload == 0)) % len(groups)]

    def mount(self, client: Client, answer: Callable[[str], None], ms_max: int) -> None:
        """Write what a mount writes: a little of everything, so that the slowest group decides."""
        groups = self._map.groups
        slowest = next((group for group in groups if not group.active), groups[client.sent % len(groups)])
        self._submit(client, slowest, 0, answer, ms_max)

    def _submit(self, client: Client, group: Group, payload: int, answer: Callable[[str], None], ms_max: int) -> None:
        write = Write(client, group, payload, answer, self._kernel.now + ms_max)
        client.sent += 1
        if client.shut or client.closed or client.dead:
            self._kernel.after(self._times.refuse_ms.draw(self._stream), write.say, "refused")
        elif client.outstanding >= OUTSTANDING_MAX:
            self._watch(write)
        else:
            client.outstanding += 1
            self._send(write)

    def path_back(self, client: Client) -> None:
        """Send what could not leave, and hear what could not be heard."""
        unsent, client.unsent = client.unsent, deque()
        for write in unsent:
            self._send(write)
        self.hear(client)

    def hear(self, client: Client) -> None:
        """Deliver the answers that waited for the node to thaw or the path to come back."""
        parked, client.parked = client.parked, []
        for write, outcome in parked:
            self._ack(write, outcome)

    def node_died(self, client: Client) -> None:
        """Forget what has not left the node; what is on its way lands."""
        client.dead = True
        for write in client.unsent:
            if write.late is not None:
                write.late.cancel()
        client.unsent.clear()
        client.parked.clear()
        client.on_flushed = None

    def group_active(self, group: Group) -> None:
        """Take what waited at this group, in order."""
        if self.stalled or not group.active:
            return
        waiting = self._waiting[group.index]
        self._waiting[group.index] = deque()
        for write in waiting:
            self._arrive(write)

    def _send(self, write: Write) -> None:
        client = write.client
        if not client.node.path:
            client.unsent.append(write)
            self._watch(write)
            return
        now = self._kernel.now
        arrival_ms = max(now + self._times.send_ms.draw(self._stream) + client.node.delay_ms, client.last_arrival_ms)
        client.last_arrival_ms = arrival_ms
        self._kernel.at(arrival_ms, self._arrive, write)

    def _arrive(self, write: Write) -> None:
        group = write.group
        if self.stalled or not group.active:
            self._waiting[group.index].append(write)
            self._watch(write)
            return
        client = write.client
        wait = self._times.ack_ms.draw(self._stream) + client.node.back_ms
        if self._blocklist.blocks(client.instance, group):
            self._kernel.after(wait, self._ack, write, "refused")
            return
        self._accept(client, write.payload)
        wait += self._map.slow_ms(group)
        if self._kernel.now + wait > write.deadline_ms:
            self._watch(write)
        self._kernel.after(wait, self._ack, write, "ok")

    def _ack(self, write: Write, outcome: Outcome) -> None:
        client = write.client
        if client.dead:
            return
        if client.closed or outcome == "unanswered":
            write.say(outcome)
        elif client.node.frozen or not client.node.path:
            client.parked.append((write, outcome))
            self._watch(write)
        else:
            client.outstanding -= 1
            client.shut |= outcome == "refused"
            write.say(outcome)
            if client.outstanding == 0 and client.on_flushed is not None:
                client.on_flushed()

    def _watch(self, write: Write) -> None:
        if write.late is None:
            write.late = self._kernel.at(max(write.deadline_ms, self._kernel.now), self._too_late, write)

    def _too_late(self, write: Write) -> None:
        write.late = None
        if write.client.dead:
            return
        if write.client.node.frozen:
            write.client.parked.append((write, "unanswered"))
        else:
            write.say("unanswered")
