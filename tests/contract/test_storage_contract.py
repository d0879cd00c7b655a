"""What every storage port must do, simulated or real. A new implementation adds one line to ``WORLDS``."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from core import effects as fx
from core.events import AnyEvent, Done, OpFailed, OpSucceeded, VolumeOpened
from core.ids import BootId, Epoch, NodeId, OpId, ServiceName, VolumeName
from core.ports import StoragePort
from core.records import Instance
from tests.contract.ceph_world import CephFloor, CephWorld
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.storage import Storage, StorageLayout

A, B = NodeId("n1"), NodeId("n2")
NODES = [NodeId(f"n{i}") for i in range(1, 6)]
VOLUME = VolumeName("vol")


class StorageWorld(Protocol):
    """What the suite needs of a world: two nodes' ports, a way to write, time to pass, and a few faults."""

    volume: VolumeName

    def port(self, node: NodeId) -> StoragePort: ...

    def write(self, instance: Instance) -> str: ...

    def wait(self, ms: int, until: Callable[[], bool]) -> None: ...

    def lose_quorum(self) -> None: ...

    def cut_off(self, node: NodeId) -> None: ...

    def close(self) -> None: ...


class SimulatedStorage:
    """The twin's storage on five nodes."""

    volume = VOLUME

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.fabric = Fabric()
        self.fabric.add_switch("s1")
        for node in NODES:
            self.fabric.add_node(node, ["s1"])
        layout = StorageLayout(disks=dict.fromkeys(NODES, 1), monitors=tuple(NODES[:3]), volumes=(VOLUME,))
        self.storage = Storage(self.kernel, Streams(2), load(), self.fabric, layout, lambda node: BootId(f"{node}.1"))
        self.storage.start_up(NODES)

    def port(self, node: NodeId) -> StoragePort:
        return self.storage.port(node, lambda: self.kernel.now)

    def write(self, instance: Instance) -> str:
        answers: list[str] = []
        self.storage.write(instance, VOLUME, 0, answers.append, 1_000)
        self.wait(1_100, lambda: bool(answers))
        return answers[0]

    def wait(self, ms: int, until: Callable[[], bool]) -> None:
        self.kernel.run(self.kernel.now + ms)

    def lose_quorum(self) -> None:
        for node in NODES[:2]:
            self.storage.monitor_down(node)

    def cut_off(self, node: NodeId) -> None:
        self.fabric.link_down(node, "storage")

    def close(self) -> None:
        """Nothing runs."""


REAL = [pytest.mark.real, pytest.mark.xdist_group("ceph-contract")]
WORLDS = ["simulated", pytest.param("ceph", marks=REAL)]


class Agent:
    """One node's questions and the answers to them."""

    def __init__(self, world: StorageWorld, node: NodeId) -> None:
        self._world = world
        self._port = world.port(node)
        self._events: list[AnyEvent] = []
        self._op = 0

    def _ask(
        self, make: Callable[[OpId], fx.OpenVolume | fx.CloseVolume | fx.FenceInstance | fx.LiftBlock], ms: int
    ) -> AnyEvent:
        self._op += 1
        before = len(self._events)
        self._port.submit(make(OpId(self._op)), self._events.append)
        self._world.wait(ms, lambda: len(self._events) > before)
        new = self._events[before:]
        assert len(new) == 1, "exactly one answer, at the latest at the limit"
        assert isinstance(new[0], OpSucceeded | OpFailed)
        assert new[0].op == self._op
        return new[0]

    def open(self, epoch: int, ms_max: int = 3_000) -> Instance | str:
        event = self._ask(
            lambda op: fx.OpenVolume(
                op=op, service=ServiceName("db"), volume=self._world.volume, epoch=Epoch(epoch), ms_max=ms_max
            ),
            ms_max,
        )
        if isinstance(event, OpFailed):
            return event.reason
        assert isinstance(event, OpSucceeded)
        assert isinstance(event.result, VolumeOpened)
        return event.result.instance

    def opened(self, epoch: int) -> Instance:
        instance = self.open(epoch)
        assert isinstance(instance, Instance)
        return instance

    def fence(self, instance: Instance, block_ms: int = 60_000, ms_max: int = 3_000) -> str:
        return self._plain(
            lambda op: fx.FenceInstance(
                op=op, volume=self._world.volume, instance=instance, block_ms=block_ms, ms_max=ms_max
            ),
            ms_max,
        )

    def close(self, instance: Instance) -> str:
        return self._plain(
            lambda op: fx.CloseVolume(op=op, volume=self._world.volume, instance=instance, ms_max=3_000), 3_000
        )

    def lift(self, instance: Instance) -> str:
        return self._plain(lambda op: fx.LiftBlock(op=op, volume=self._world.volume, instance=instance), 6_000)

    def _plain(self, make: Callable[[OpId], fx.CloseVolume | fx.FenceInstance | fx.LiftBlock], ms: int) -> str:
        event = self._ask(make, ms)
        if isinstance(event, OpFailed):
            return event.reason
        assert isinstance(event, OpSucceeded)
        assert type(event.result) is Done
        return "ok"


@pytest.fixture(scope="module")
def floor() -> Iterator[list[CephFloor]]:
    """Hold the real cluster for all tests of the module, once one of them has asked for it."""
    made: list[CephFloor] = []
    yield made
    for floor in made:
        floor.close()


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, floor: list[CephFloor], tmp_path: Path) -> Iterator[StorageWorld]:
    made: StorageWorld
    if request.param == "simulated":
        made = SimulatedStorage()
    else:
        if not floor:
            floor.append(CephFloor())
        made = CephWorld(floor[0], tmp_path, VolumeName(f"vol-{tmp_path.name[5:40]}"))
    yield made
    made.close()


def test_an_instance_names_its_node_boot_and_epoch_and_every_opening_is_a_new_one(world: StorageWorld) -> None:
    agent = Agent(world, A)
    first = agent.opened(epoch=4)
    assert (first.node, first.epoch) == (A, 4)
    assert first.boot_id
    assert agent.close(first) == "ok"
    second = agent.opened(epoch=4)
    assert second.address != first.address


def test_a_volume_held_by_a_live_instance_is_refused_to_another_node(world: StorageWorld) -> None:
    Agent(world, A).opened(epoch=1)
    assert Agent(world, B).open(epoch=2) == "refused"


def test_after_a_confirmed_fence_no_write_succeeds_and_the_volume_opens(world: StorageWorld) -> None:
    a, b = Agent(world, A), Agent(world, B)
    old = a.opened(epoch=1)
    assert world.write(old) == "ok"
    assert b.fence(old) == "ok"
    assert world.write(old) == "refused"
    new = b.opened(epoch=2)
    assert world.write(new) == "ok"


def test_fencing_twice_and_fencing_what_never_wrote_is_success(world: StorageWorld) -> None:
    b = Agent(world, B)
    old = Agent(world, A).opened(epoch=1)
    assert b.fence(old) == "ok"
    assert b.fence(old) == "ok"


def test_a_lifted_instance_is_forgotten(world: StorageWorld) -> None:
    b = Agent(world, B)
    old = Agent(world, A).opened(epoch=1)
    assert b.fence(old) == "ok"
    assert b.lift(old) == "ok"
    # Lifting un-fences: only a new boot of that hardware may lead to it. A real client that has heard of its block in
    # the meantime writes no more all the same; nothing may rely on that.
    assert world.write(old) in ("ok", "refused")
    assert b.lift(old) == "ok"
    assert b.fence(old) == "ok"
    assert world.write(old) == "refused"


def test_a_closed_instance_writes_no_more_and_the_next_node_opens_at_once(world: StorageWorld) -> None:
    a = Agent(world, A)
    old = a.opened(epoch=1)
    assert a.close(old) == "ok"
    assert world.write(old) == "refused"
    Agent(world, B).opened(epoch=2)


def test_closing_a_fenced_instance_is_not_clean(world: StorageWorld) -> None:
    a = Agent(world, A)
    old = a.opened(epoch=1)
    assert Agent(world, B).fence(old) == "ok"
    assert a.close(old) == "refused"


def test_without_a_majority_of_monitors_a_fence_stays_unanswered_and_writing_goes_on(world: StorageWorld) -> None:
    old = Agent(world, A).opened(epoch=1)
    world.lose_quorum()
    assert Agent(world, B).fence(old) == "unanswered"
    assert world.write(old) == "ok"


def test_a_node_that_is_cut_off_gets_no_answers(world: StorageWorld) -> None:
    a = Agent(world, A)
    old = a.opened(epoch=1)
    world.cut_off(A)
    assert world.write(old) == "unanswered"
    assert a.close(old) == "unanswered"
    assert a.open(epoch=2) == "unanswered"
