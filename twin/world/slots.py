"""Images on machines' disks: two slots, of which one runs; staging into the other, and what a restart boots.

A boot loader tries an image that was not kept as often as it was told, then boots the old one again by itself. An
image may be flawed: it fails its check, does not boot, comes up without a way to the storage, with services that never
become healthy or without its agent, or crashes later.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import msgspec

from core import effects as fx
from core.events import OpFailed, OpSucceeded, Reason, Staged
from core.ids import NO_IMAGE, BootId, ImageId, NodeId, OpId
from core.ports import Emit, ImageEffect
from twin.calibration import Calibration, Sampled
from twin.kernel import Kernel
from twin.streams import Stream, Streams
from twin.world.chassis import Chassis
from twin.world.fabric import Fabric

FIRST_IMAGE = ImageId("1000000000000001")
"""What every machine of a rack has on its disk in the beginning."""

FlawKind = Literal["fails_check", "does_not_boot", "unhealthy", "services_fail", "no_agent", "crashes_later"]
SlotName = Literal["a", "b"]
Heard = Callable[[Literal["restarts", "came_up"], NodeId, ImageId], None]
"""A machine restarts into an image on its agent's order, or is up with one."""
TRIES = 1
"""Boots that a staged image gets before the boot loader goes back."""


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with an image; ``after_ms``: how long after it is up it crashes."""

    kind: FlawKind
    after_ms: int = 0


class ImageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of section ``image``; times in ms, rates in bytes a ms."""

    fetch_bytes_per_ms: int
    write_bytes_per_ms: int
    check_bytes_per_ms: int
    reboot_ms: Sampled
    panic_ms: int
    settle_ms: int


class Rack(msgspec.Struct, kw_only=True):
    """What all machines' slots share: the time, the figures, which images are flawed, and who hears of boots."""

    kernel: Kernel
    streams: Streams
    fabric: Fabric
    times: ImageTimes
    image_bytes: int
    flaws: dict[ImageId, Flaw]
    servers: Callable[[], Sequence[NodeId]]
    heard: list[Heard]
    sicken: Callable[[NodeId, bool], None]

    def stream(self, node: NodeId) -> Stream:
        """The random stream of one machine's disk and shutdown."""
        return self.streams.get(f"image/{node}")


def shared(
    kernel: Kernel,
    streams: Streams,
    calibration: Calibration,
    fabric: Fabric,
    servers: Callable[[], Sequence[NodeId]],
    sicken: Callable[[NodeId, bool], None],
) -> Rack:
    """Make what the slots of one rack share.

    ``servers`` are the nodes that run now and may send an image; ``sicken`` keeps all services of a node from becoming
    healthy, or ends that.
    """
    return Rack(
        kernel=kernel,
        streams=streams,
        fabric=fabric,
        times=calibration.section("image", ImageTimes),
        image_bytes=calibration["netboot.image_bytes"].ms,
        flaws={},
        servers=servers,
        heard=[],
        sicken=sicken,
    )


class Slots:
    """``core.ports.ImagePort`` of one machine, and what its boot loader does (``chassis.BootLoader``)."""

    def __init__(self, rack: Rack, chassis: Chassis, clock: Callable[[], int]) -> None:
        self.node = chassis.node
        self._running = FIRST_IMAGE if chassis.installed else NO_IMAGE
        self.good: SlotName = "a"
        self.next: SlotName | None = None
        self.tries = 0
        self._content: dict[SlotName, ImageId] = {"a": self._running, "b": NO_IMAGE}
        self._slot: SlotName | None = "a"
        self._rack, self._chassis, self._clock = rack, chassis, clock
        self._by_hand = False
        self._undo: list[Callable[[], None]] = []
        chassis.loader = self

    @property
    def running(self) -> ImageId:
        """The image that the machine booted last."""
        return self._running

    @property
    def flaw(self) -> FlawKind | None:
        """What is wrong with the image that runs, if anything is."""
        flaw = self._rack.flaws.get(self.running)
        return flaw.kind if flaw is not None else None

    @property
    def boots(self) -> bool:
        """Whether what was chosen last comes up at all."""
        return self.flaw != "does_not_boot"

    @property
    def panic_ms(self) -> int:
        """How long after a panic a kernel restarts its machine."""
        return self._rack.times.panic_ms

    def holds(self, slot: SlotName) -> ImageId:
        """The image in a slot."""
        return self._content[slot]

    def forget(self) -> None:
        """Be a machine that somebody installed by hand: it runs no image, and takes none."""
        self._running, self._by_hand = NO_IMAGE, True
        self._content = {"a": NO_IMAGE, "b": NO_IMAGE}

    # -- the boot loader -----------------------------------------------------------------------------------------------

    def from_disk(self) -> None:
        """Choose what boots from the disk: the trial while it has tries left, else the good one."""
        self._slot = self.good
        if self.next is not None and self.tries > 0:
            self.tries -= 1
            self._slot = self.next
        self._running = self._content[self._slot]

    def from_network(self, image: ImageId) -> None:
        """Run what a boot server sent; a machine with an empty disk is installed with it."""
        self._running = NO_IMAGE if self._by_hand else image or self._content[self.good] or FIRST_IMAGE
        self._slot = None
        if not self._content[self.good]:
            self._content[self.good] = self.running

    def came_up(self, boot_id: BootId) -> None:
        """Let the running image show what is wrong with it, and take back a trial that nobody keeps."""
        rack, flaw = self._rack, self._rack.flaws.get(self.running)
        for heard in rack.heard:
            heard("came_up", self.node, self.running)
        if flaw is not None and flaw.kind == "unhealthy":
            rack.fabric.storage_cut(self.node)
            self._undo.append(partial(rack.fabric.storage_mend, self.node))
        if flaw is not None and flaw.kind == "services_fail":
            rack.sicken(self.node, True)
            self._undo.append(partial(rack.sicken, self.node, False))
        if flaw is not None and flaw.kind == "crashes_later":
            rack.kernel.after(flaw.after_ms, self._crash, boot_id)
        if self._slot is not None and self._slot != self.good:
            rack.kernel.after(rack.times.settle_ms, self._settle, boot_id)

    def went_down(self) -> None:
        """Undo what the image that ran did to its machine."""
        while self._undo:
            self._undo.pop()()

    def _crash(self, boot_id: BootId) -> None:
        if self._chassis.boot_id == boot_id and self.flaw == "crashes_later":
            self._chassis.crash()
            self._rack.kernel.after(self.panic_ms, self._reset, boot_id)

    def _settle(self, boot_id: BootId) -> None:
        """Restart a machine whose trial was not kept in time; the boot loader has no try left for it."""
        if self._slot is not None and self._slot != self.good:
            self._reset(boot_id)

    def _reset(self, boot_id: BootId) -> None:
        if self._chassis.boot_id == boot_id:
            self._chassis.reset()

    # -- orders --------------------------------------------------------------------------------------------------------

    def submit(self, effect: ImageEffect, emit: Emit) -> None:
        """Take an order about this machine's image."""
        match effect:
            case fx.StageImage():
                self._stage(effect, emit)
            case fx.RestartInto():
                self._restart(effect.image)
            case fx.KeepImage():
                self._keep(effect.image)

    def _stage(self, effect: fx.StageImage, emit: Emit) -> None:
        rack, image, boot_id = self._rack, effect.image, self._chassis.boot_id
        held = self._slot_of(image)
        fail = partial(self._fail, emit, effect.op, boot_id)
        if self._by_hand:
            rack.kernel.after(1, fail, "refused", False, "this machine was not booted from an image")
            return
        if held is not None:
            rack.kernel.after(1, self._staged, emit, effect.op, boot_id, held)
            return
        if not any(one != self.node and rack.fabric.both_ways(one, self.node) for one in rack.servers()):
            rack.kernel.after(1, fail, "unavailable", True, "no boot server answered")
            return
        times, size = rack.times, rack.image_bytes
        fetch_ms = size // times.fetch_bytes_per_ms + size // times.check_bytes_per_ms
        write_ms = size // times.write_bytes_per_ms + size // times.check_bytes_per_ms
        bad = rack.flaws.get(image)
        if bad is not None and bad.kind == "fails_check" and fetch_ms <= effect.ms_max:
            rack.kernel.after(fetch_ms, fail, "refused", False, f"image {image}: root.squashfs fails its check")
        elif fetch_ms + write_ms > effect.ms_max:
            rack.kernel.after(effect.ms_max, fail, "unanswered", True, f"not staged within {effect.ms_max} ms")
        else:
            rack.kernel.after(fetch_ms, self._write, boot_id)
            rack.kernel.after(fetch_ms + write_ms, self._written, emit, effect, boot_id)

    def _slot_of(self, image: ImageId) -> SlotName | None:
        return next((slot for slot, held in self._content.items() if held == image), None)

    @property
    def _spare(self) -> SlotName:
        """The slot that may be written: neither the one that runs nor, booted from the network, the good one."""
        return "b" if (self._slot or self.good) == "a" else "a"

    def _write(self, boot_id: BootId) -> None:
        """Begin to write: what the slot held is gone, and nothing boots from it until it is whole."""
        if self._chassis.boot_id == boot_id:
            self._content[self._spare] = NO_IMAGE
            self.next = None

    def _written(self, emit: Emit, effect: fx.StageImage, boot_id: BootId) -> None:
        if self._chassis.boot_id == boot_id:
            slot = self._spare
            self._content[slot] = effect.image
            self._staged(emit, effect.op, boot_id, slot)

    def _staged(self, emit: Emit, op: OpId, boot_id: BootId, slot: SlotName) -> None:
        if self._chassis.boot_id == boot_id:
            emit(OpSucceeded(at_ms=self._clock(), op=op, result=Staged(slot=slot)))

    def _fail(self, emit: Emit, op: OpId, boot_id: BootId, reason: Reason, retryable: bool, detail: str) -> None:
        if self._chassis.boot_id == boot_id:
            emit(OpFailed(at_ms=self._clock(), op=op, reason=reason, retryable=retryable, detail=detail))

    def _restart(self, image: ImageId) -> None:
        """Shut down in order, then boot into the slot that holds the image; once, unless that is the good one."""
        slot, rack = self._slot_of(image), self._rack
        if slot is None:
            return
        self.next, self.tries = (None, 0) if slot == self.good else (slot, TRIES)
        for heard in rack.heard:
            heard("restarts", self.node, image)
        rack.kernel.after(rack.times.reboot_ms.draw(rack.stream(self.node)), self._reset, self._chassis.boot_id)

    def _keep(self, image: ImageId) -> None:
        slot = self._slot_of(image)
        if slot is not None and self.running == image:
            self.good, self.next, self.tries = slot, None, 0
