"""The storage port of an agent: fences and blocks through Ceph, openings through the node's supervisor.

The supervisor holds volumes open and outlives the agent. Which client instance it is, the storage tells: the agent
looks who has the volume open before and after, and the new one that comes from this node is it.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol, assert_never

from core import effects as fx
from core.events import Done, OpFailed, OpSucceeded, Reason, Result, StorageSeen, VolumeOpened
from core.ids import BootId, NodeId, OpId, VolumeName
from core.ports import Emit, StorageEffect
from core.records import Instance
from drivers.calls import Calls
from drivers.ceph import Ceph, CephError
from drivers.clock import now_ms
from drivers.wire import Attach, Attached, Detach, Detached, Name

LIFT_MS_MAX = 5_000
SEEN_EVERY_MS = 1_000
SEEN_LOST_MS = 3_000
"""For so long no write may be answered before the storage counts as out of reach: a hung storage daemon stalls some
writes for as long, on every node at once, which says nothing about this node."""
UNDO_MS_MAX = 2_000


class Keeper(Protocol):
    """The node's supervisor as this port needs it. Each call waits for its answer, at most the record's ``ms_max``."""

    def attach(self, order: Attach) -> Attached | None:
        """Have a volume opened; None: no answer."""

    def detach(self, order: Detach) -> Detached | None:
        """Have a volume flushed and closed; None: no answer."""

    def name(self, order: Name) -> None:
        """Tell under which name the storage knows what was attached."""


class _Answer:
    """The one answer to one effect; the first who gives it wins."""

    def __init__(self, op: OpId, emit: Emit) -> None:
        self._op = op
        self._emit = emit
        self._lock = threading.Lock()
        self.begun = False
        self.open = True

    def succeed(self, result: Result) -> bool:
        """Whether this was the answer."""
        if self._first():
            self._emit(OpSucceeded(at_ms=now_ms(), op=self._op, result=result))
            return True
        return False

    def fail(self, reason: Reason, detail: str, retryable: bool = True) -> None:
        """Answer that it did not work, unless there was an answer."""
        if self._first():
            self._emit(OpFailed(at_ms=now_ms(), op=self._op, reason=reason, retryable=retryable, detail=detail))

    def give_up(self) -> None:
        """Answer at the limit: what was begun may yet happen."""
        if self.begun:
            self.fail("unanswered", "no answer within the limit")
        else:
            self.fail("unavailable", "other calls to the storage were in the way")

    def _first(self) -> bool:
        with self._lock:
            was, self.open = self.open, False
            return was


class CephStorage:
    """``core.ports.StoragePort`` of one agent."""

    def __init__(self, ceph: Ceph, keeper: Keeper, node: NodeId, boot_id: BootId) -> None:
        self._ceph, self._keeper = ceph, keeper
        self._node, self._boot_id = node, boot_id
        self._calls = Calls(now_ms)
        self._end = threading.Event()

    def submit(self, effect: StorageEffect, emit: Emit) -> None:
        """Begin one operation; its answer comes through ``emit``, from another thread."""
        answer = _Answer(effect.op, emit)
        match effect:
            case fx.OpenVolume():
                self._begin(f"volume {effect.volume}", effect.ms_max, answer, partial(self._open, effect, answer))
            case fx.CloseVolume():
                self._begin(f"volume {effect.volume}", effect.ms_max, answer, partial(self._close, effect, answer))
            case fx.FenceInstance():
                self._begin(f"fence {effect.volume}", effect.ms_max, answer, partial(self._fence, effect, answer))
            case fx.LiftBlock():
                self._begin(f"lift {effect.volume}", LIFT_MS_MAX, answer, partial(self._lift, effect, answer))
            case _:
                assert_never(effect)

    def _begin(self, lane: str, ms_max: int, answer: _Answer, act: Callable[[Callable[[], int]], None]) -> None:
        """Do ``act`` in a thread, one at a time for each lane; ``left`` tells it how long it has yet."""
        limit_at_ms = now_ms() + ms_max

        def left() -> int:
            return limit_at_ms - now_ms()

        def run() -> None:
            answer.begun = True
            try:
                self._ceph.connect(max(left(), 1))
                act(left)
            except CephError as error:
                answer.fail(error.reason, error.detail)

        if not self._calls.begin(lane, limit_at_ms, run, answer.give_up):
            answer.fail("unavailable", "too many calls to the storage are waiting")

    # -- open and close ---------------------------------------------------------------------------------------------

    def _open(self, effect: fx.OpenVolume, answer: _Answer, left: Callable[[], int]) -> None:
        before = self._ceph.instances(effect.volume, left())
        held = [address for address in before if not self._ours(address) and not self._ceph.blocked(address, left())]
        if held:
            answer.fail("refused", f"held by {', '.join(held)}")
            return
        ms_max = max(left(), 1)
        order = Attach(op=effect.op, service=effect.service, volume=effect.volume, epoch=effect.epoch, ms_max=ms_max)
        said = self._keeper.attach(order)
        if said is None:
            return
        if said.error:
            answer.fail("refused" if said.refused else "failed", said.error)
            return
        try:
            found = self._find(effect.volume, set(before), left)
        except CephError:
            self._undo(effect)
            raise
        if not found:
            self._undo(effect)
            answer.fail("failed", "which client instance was opened cannot be told")
            return
        instance = Instance(node=self._node, boot_id=self._boot_id, epoch=effect.epoch, address=found)
        self._keeper.name(Name(volume=effect.volume, epoch=effect.epoch, instance=instance))
        if not answer.succeed(VolumeOpened(instance=instance)):
            self._undo(effect)

    def _find(self, volume: VolumeName, before: set[str], left: Callable[[], int]) -> str:
        """Find the client instance that came; "" if it is not exactly one, and of this node."""
        new = [address for address in self._ceph.instances(volume, left()) if address not in before]
        return new[0] if len(new) == 1 and self._ours(new[0]) else ""

    def _undo(self, effect: fx.OpenVolume) -> None:
        """Have closed again what nobody will ever use; it was not written to."""
        order = Detach(op=effect.op, volume=effect.volume, epoch=effect.epoch, instance=None, ms_max=UNDO_MS_MAX)
        self._keeper.detach(order)

    def _ours(self, address: str) -> bool:
        return address.rsplit(":", 1)[0].strip("[]") == self._ceph.address

    def _close(self, effect: fx.CloseVolume, answer: _Answer, left: Callable[[], int]) -> None:
        instance = effect.instance
        order = Detach(
            op=effect.op, volume=effect.volume, epoch=instance.epoch, instance=instance, ms_max=max(left(), 1)
        )
        said = self._keeper.detach(order)
        if said is None:
            return
        if self._ceph.blocked(instance.address, left()):
            answer.fail("refused", "the instance is fenced", retryable=False)
        elif said.error:
            answer.fail("failed", said.error, retryable=False)
        else:
            answer.succeed(Done())

    # -- fence and lift ---------------------------------------------------------------------------------------------

    def _fence(self, effect: fx.FenceInstance, answer: _Answer, left: Callable[[], int]) -> None:
        self._ceph.fence(effect.volume, effect.instance.address, effect.block_ms, left())
        answer.succeed(Done())

    def _lift(self, effect: fx.LiftBlock, answer: _Answer, left: Callable[[], int]) -> None:
        self._ceph.lift(effect.instance.address, left())
        answer.succeed(Done())

    # -- whether the storage is there --------------------------------------------------------------------------------

    def watch(self, emit: Emit, volumes: tuple[VolumeName, ...] = ()) -> None:
        """Tell from now on whether this node reaches the storage, first at once; work out ahead what fences need."""
        threading.Thread(target=self._watch, args=(emit, volumes), name="storage seen", daemon=True).start()

    def close(self) -> None:
        """Look no more. The connection is the caller's."""
        self._end.set()

    def _watch(self, emit: Emit, volumes: tuple[VolumeName, ...]) -> None:
        told: bool | None = None
        last_ok_ms = now_ms() - SEEN_LOST_MS
        ready: set[VolumeName] = set()
        while not self._end.is_set():
            asked_ms = now_ms()
            if self._reaches():
                last_ok_ms = now_ms()
                ready |= self._prepared([volume for volume in volumes if volume not in ready])
            ok = now_ms() - last_ok_ms < SEEN_LOST_MS
            if ok != told and not self._end.is_set():
                told = ok
                emit(StorageSeen(at_ms=now_ms(), ok=ok))
            self._end.wait(max(asked_ms + SEEN_EVERY_MS - now_ms(), 0) / 1_000)

    def _reaches(self) -> bool:
        try:
            self._ceph.connect(SEEN_LOST_MS)
            self._ceph.seen(self._node, SEEN_EVERY_MS)
        except CephError:
            return False
        return True

    def _prepared(self, volumes: list[VolumeName]) -> set[VolumeName]:
        done: set[VolumeName] = set()
        for volume in volumes:
            try:
                self._ceph.prepare(volume)
            except CephError:
                continue  # not made yet, say; a fence works it out itself
            done.add(volume)
        return done
