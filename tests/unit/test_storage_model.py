"""The simulated storage: what protects a volume, what lands when, and what waits for what."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, VolumeOpened
from core.ids import BootId, Epoch, NodeId, OpId, ServiceName, VolumeName
from core.records import Instance
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import STORAGE, Fabric
from twin.world.storage import Storage, StorageLayout

N1, N2, N3, N4, N5 = NODES = [NodeId(f"n{i}") for i in range(1, 6)]
VOLUME = VolumeName("vol")
HOUR = 3_600_000


class SplitFabric(Fabric):
    """A fabric whose storage network can fall in two parts, each with a way to the storage as such."""

    split: tuple[NodeId, ...] = ()

    def storage_path(self, node: NodeId, other: NodeId) -> bool:
        together = other == STORAGE or (node in self.split) == (other in self.split)
        return together and super().storage_path(node, other)


class Bench:
    """Five nodes with two disks each, monitors on the first three, everything up."""

    def __init__(self, seed: int = 1, history: bool = True, up: Sequence[NodeId] = NODES) -> None:
        self.kernel = Kernel()
        self.fabric = SplitFabric()
        self.fabric.add_switch("s1")
        for node in NODES:
            self.fabric.add_node(node, ["s1"])
        layout = StorageLayout(disks=dict.fromkeys(NODES, 2), monitors=(N1, N2, N3), volumes=(VOLUME,))
        self.storage = Storage(
            self.kernel, Streams(seed), load(), self.fabric, layout, lambda node: BootId(f"{node}.1"), history
        )
        self.storage.start_up(up)
        self.ports = {node: self.storage.port(node, lambda: self.kernel.now) for node in NODES}
        self.events: list[AnyEvent] = []
        self.blocks: list[tuple[int, str]] = []
        self.storage.on_block(lambda *change: self.blocks.append((change[0], change[3])))
        self._op = 0

    def run(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)

    def ask(self, node: NodeId, effect: fx.OpenVolume | fx.CloseVolume | fx.FenceInstance | fx.LiftBlock) -> None:
        self.ports[node].submit(effect, self.events.append)

    def op(self) -> OpId:
        self._op += 1
        return OpId(self._op)

    def result(self) -> OpSucceeded | OpFailed:
        event = self.events[-1]
        assert isinstance(event, OpSucceeded | OpFailed)
        assert event.op == self._op
        return event

    def open(self, node: NodeId, epoch: int = 1, ms_max: int = 5_000) -> Instance:
        self.start_open(node, epoch, ms_max)
        self.run(ms_max)
        event = self.result()
        assert isinstance(event, OpSucceeded)
        assert isinstance(event.result, VolumeOpened)
        return event.result.instance

    def start_open(self, node: NodeId, epoch: int = 1, ms_max: int = 5_000) -> None:
        effect = fx.OpenVolume(
            op=self.op(), service=ServiceName("db"), volume=VOLUME, epoch=Epoch(epoch), ms_max=ms_max
        )
        self.ask(node, effect)

    def start_fence(self, node: NodeId, instance: Instance, block_ms: int = HOUR, ms_max: int = 5_000) -> None:
        effect = fx.FenceInstance(op=self.op(), volume=VOLUME, instance=instance, block_ms=block_ms, ms_max=ms_max)
        self.ask(node, effect)

    def fence(self, node: NodeId, instance: Instance, block_ms: int = HOUR) -> int:
        """Fence and run until the answer; return how long it took."""
        begun, before = self.kernel.now, len(self.events)
        self.start_fence(node, instance, block_ms)
        while len(self.events) == before:
            self.run(1)
        assert isinstance(self.result(), OpSucceeded), self.result()
        return self.kernel.now - begun

    def write(self, instance: Instance, payload: int = 0, ms_max: int = 1_000) -> list[str]:
        answers: list[str] = []
        self.storage.write(instance, VOLUME, payload, answers.append, ms_max)
        return answers

    def writes_every_ms(self, instance: Instance, for_ms: int) -> list[tuple[int, list[str]]]:
        sent = []
        for _ in range(for_ms):
            sent.append((self.kernel.now, self.write(instance)))
            self.run(1)
        return sent


def test_a_write_is_accepted_once_and_acknowledged() -> None:
    bench = Bench()
    instance = bench.open(N1)
    answers = bench.write(instance, 7)
    bench.run(1_000)
    assert answers == ["ok"]
    assert [(w.instance, w.payload) for w in bench.storage.accepted] == [(instance, 7)]
    assert bench.storage.last_payload(VOLUME) == 7
    assert bench.storage.last_writer[VOLUME] == instance


def test_without_history_only_the_listeners_hear_of_writes() -> None:
    bench = Bench(history=False)
    heard: list[int] = []
    bench.storage.on_accept(lambda *write: heard.append(write[3]))
    bench.write(bench.open(N1), 7)
    bench.run(100)
    assert heard == [7]
    assert bench.storage.accepted == []


def test_exclusive_opening_refuses_while_the_owner_lives_unfenced() -> None:
    bench = Bench()
    first = bench.open(N1)
    bench.start_open(N2, epoch=2)
    bench.run(50)
    failed = bench.result()
    assert isinstance(failed, OpFailed)
    assert failed.reason == "refused"
    bench.fence(N2, first)
    assert bench.open(N2, epoch=2) != first, "a fenced owner owns nothing"


def test_an_expired_entry_lets_the_old_holder_write_again() -> None:
    bench = Bench()
    old = bench.open(N1)
    bench.fence(N2, old, block_ms=3_000)
    new = bench.open(N2, epoch=2, ms_max=2_000)
    bench.run(3_000)
    answers = bench.write(old, 13)
    bench.run(100)
    assert answers == ["ok"], "nobody but the blocklist keeps an owner without the lock from writing"
    assert bench.storage.last_writer[VOLUME] == old
    assert bench.storage.owners[VOLUME].instance == new
    assert [change for _, change in bench.blocks] == ["blocked", "complete", "expired"]


@pytest.mark.parametrize("seed", range(12))
def test_no_write_of_a_fenced_instance_is_accepted_after_the_barrier(seed: int) -> None:
    bench = Bench(seed)
    victim = bench.open(N1)
    bench.start_fence(N2, victim)
    before = len(bench.events)
    while len(bench.events) == before:
        bench.write(victim)
        bench.run(1)
    assert isinstance(bench.result(), OpSucceeded)
    confirmed = bench.kernel.now
    bench.writes_every_ms(victim, 200)
    assert all(write.at_ms <= confirmed for write in bench.storage.accepted)
    assert 30 <= confirmed - 5_000 <= 330


def test_writes_are_still_accepted_after_the_monitors_decided() -> None:
    late = 0
    for seed in range(12):
        bench = Bench(seed)
        victim = bench.open(N1)
        bench.start_fence(N2, victim)
        before = len(bench.events)
        while len(bench.events) == before:
            bench.write(victim)
            bench.run(1)
        decided = next(at_ms for at_ms, change in bench.blocks if change == "blocked")
        late += any(write.at_ms > decided for write in bench.storage.accepted)
    assert late >= 6, "propagation is asynchronous: most fences are outrun by some write"


def test_a_fenced_writer_is_refused_and_gives_up_for_good() -> None:
    bench = Bench()
    victim = bench.open(N1)
    bench.fence(N2, victim, block_ms=1_000)
    answers = bench.write(victim)
    bench.run(100)
    assert answers == ["refused"]
    bench.run(2_000)
    assert not bench.storage.fenced(victim)
    again = bench.write(victim)
    bench.run(100)
    assert again == ["refused"], "an instance that was told is never used again"


def test_a_group_that_hangs_holds_the_barrier_and_takes_what_was_queued_before_it() -> None:
    bench = Bench()
    victim = bench.open(N1)
    bench.storage.stall(True)
    answers = bench.write(victim, 5, ms_max=500)
    bench.run(50)
    bench.start_fence(N2, victim, ms_max=60_000)
    bench.run(3_000)
    assert answers == ["unanswered"]
    assert len(bench.events) == 1, "no confirmation while nothing can confirm it"
    bench.storage.stall(False)
    bench.run(1_000)
    assert isinstance(bench.result(), OpSucceeded)
    confirmed = bench.result().at_ms
    assert [write.payload for write in bench.storage.accepted] == [5]
    assert bench.storage.accepted[0].at_ms < confirmed
    assert bench.storage.last_payload(VOLUME) == 5


def test_a_fence_past_its_limit_is_unanswered_though_it_may_hold() -> None:
    bench = Bench()
    victim = bench.open(N1)
    bench.storage.stall(True)
    bench.start_fence(N2, victim, ms_max=1_000)
    bench.run(2_000)
    failed = bench.result()
    assert isinstance(failed, OpFailed)
    assert failed.reason == "unanswered"
    assert failed.at_ms == 6_000
    assert bench.storage.fenced(victim)


def test_fencing_needs_a_majority_of_the_monitors_and_writing_does_not() -> None:
    bench = Bench()
    victim = bench.open(N1)
    bench.storage.monitor_down(N1)
    bench.storage.monitor_down(N2)
    bench.start_fence(N2, victim, ms_max=20_000)
    bench.run(5_000)
    answers = bench.write(victim)
    bench.run(100)
    assert answers == ["ok"]
    assert len(bench.events) == 1
    bench.storage.monitor_up(N1)
    bench.run(3_000)
    assert isinstance(bench.result(), OpSucceeded)


def test_losing_the_leading_monitor_delays_a_fence_by_an_election() -> None:
    bench = Bench()
    victim = bench.open(N4)
    bench.storage.monitor_down(N1)
    assert 1_260 <= bench.fence(N2, victim) <= 1_900


def test_a_failing_blocklist_fails_the_fence() -> None:
    bench = Bench()
    victim = bench.open(N1)
    bench.storage.fence_failing(True)
    bench.start_fence(N2, victim)
    bench.run(1_000)
    failed = bench.result()
    assert isinstance(failed, OpFailed)
    assert failed.reason == "failed"
    assert not bench.storage.fenced(victim)


def test_a_dead_owner_not_fenced_holds_the_lock_for_its_watch_and_is_then_blocked_by_the_opener() -> None:
    bench = Bench()
    owner = bench.open(N1)
    bench.storage.kill_node(N1)
    begun = bench.kernel.now
    second = bench.open(N2, epoch=2, ms_max=60_000)
    opened = next(e.at_ms for e in bench.events if isinstance(e, OpSucceeded) and e.op == bench._op)
    assert 29_000 <= opened - begun <= 31_000
    assert bench.storage.fenced(owner)
    assert second.node == N2


def test_a_stuck_lock_refuses_everybody() -> None:
    bench = Bench()
    bench.storage.lock_stuck(VOLUME, True)
    bench.start_open(N1)
    bench.run(100)
    assert isinstance(bench.result(), OpFailed)
    bench.storage.lock_stuck(VOLUME, False)
    assert bench.open(N1).node == N1
    with pytest.raises(KeyError):
        bench.storage.lock_stuck(VolumeName("other"), True)


def test_a_request_that_left_lands_although_its_node_died() -> None:
    landed = 0
    for seed in range(20):
        bench = Bench(seed)
        answers = bench.write(bench.open(N1), 9)
        bench.storage.kill_node(N1)
        bench.run(30_000)
        assert answers == []
        landed += bench.storage.last_payload(VOLUME) == 9
    assert landed == 20


def test_what_could_not_leave_a_cut_node_is_sent_when_the_path_is_back_but_not_by_a_dead_node() -> None:
    for dies in (False, True):
        bench = Bench()
        instance = bench.open(N4)
        bench.fabric.link_down(N4, "storage")
        assert not bench.storage.reachable(N4)
        assert bench.storage.reachable(N5)
        answers = bench.write(instance, 3, ms_max=400)
        bench.run(1_000)
        assert answers == ["unanswered"]
        assert bench.storage.accepted == []
        if dies:
            bench.storage.kill_node(N4)
        bench.fabric.link_up(N4, "storage")
        bench.run(5_000)
        assert bench.storage.last_payload(VOLUME) == (0 if dies else 3)


def test_a_write_sent_before_the_cut_is_accepted_and_its_answer_comes_late_or_never() -> None:
    bench = Bench()
    answers = bench.write(bench.open(N4), 3, ms_max=400)
    bench.fabric.link_down(N4, "storage")
    bench.run(5_000)
    assert answers == ["unanswered"]
    assert bench.storage.last_payload(VOLUME) == 3


def test_a_silent_daemon_stalls_its_groups_until_it_is_marked_down() -> None:
    bench = Bench()
    instance = bench.open(N1)
    bench.storage.kill_node(N5)
    mounted: list[str] = []
    bench.storage.mount(instance, VOLUME, mounted.append, 10_000)
    probes = [bench.write(instance, ms_max=10_000) for _ in range(8)]
    bench.run(500)
    assert mounted == [], "a mount needs every group"
    assert len({len(answers) for answers in probes}) == 1, "the guard block is one object: all or none"
    bench.run(2_500)
    assert mounted == ["ok"]
    assert all(answers == ["ok"] for answers in probes)


def test_a_daemon_that_dies_loudly_is_hardly_noticed() -> None:
    bench = Bench()
    instance = bench.open(N1)
    bench.storage.osd_down(N5)
    answers = [bench.write(instance) for _ in range(64)]
    bench.run(420)
    assert all(a == ["ok"] for a in answers)


def test_with_two_of_three_copies_gone_writes_wait_without_error_and_finish_when_one_is_back() -> None:
    bench = Bench()
    instance = bench.open(N1)
    for node in (N3, N4, N5):
        bench.storage.osd_down(node)
    bench.run(1_000)
    answers = [bench.write(instance, ms_max=60_000) for _ in range(64)]
    bench.run(20_000)
    assert any(a == [] for a in answers)
    assert not bench.storage.probe_healthy(instance, VOLUME)
    assert not bench.storage.reachable(N1), "an outage that lasts is told to everybody"
    bench.storage.osd_up(N3)
    bench.storage.osd_up(N4)
    bench.run(5_000)
    assert all(a == ["ok"] for a in answers)
    assert bench.storage.probe_healthy(instance, VOLUME)
    assert bench.storage.reachable(N1)


def test_copies_of_a_lost_node_are_made_elsewhere_so_that_a_second_loss_does_not_block() -> None:
    bench = Bench()
    instance = bench.open(N1)
    bench.storage.kill_node(N5)
    bench.run(1_200_000)
    assert all(osd.node.id != N5 for group in bench.storage.map.groups for osd in group.copies)
    bench.storage.kill_node(N4)
    bench.run(10_000)
    assert bench.storage.probe_healthy(instance, VOLUME)


def test_a_failed_disk_is_replaced_and_filled_again() -> None:
    bench = Bench()
    bench.open(N1)
    bench.storage.disk_fail(N5, 0)
    bench.run(1_000)
    assert bench.storage.map.inactive == 0
    bench.storage.disk_replace(N5, 0)
    bench.run(10_000)
    osd = bench.storage.map.nodes[N5].osds[0]
    seen = [osd.empty]
    bench.run(600_000)
    assert [*seen, osd.empty] == [True, False]
    with pytest.raises(IndexError):
        bench.storage.disk_fail(N5, 2)


def test_a_slow_disk_delays_the_answer_not_the_acceptance() -> None:
    bench = Bench()
    instance = bench.open(N1)
    for node in NODES:
        bench.storage.disk_slow(node, 3_000)
    answers = bench.write(instance, 4, ms_max=1_000)
    bench.run(50)
    assert bench.storage.last_payload(VOLUME) == 4
    bench.run(4_000)
    assert answers == ["unanswered"]
    assert not bench.storage.probe_healthy(instance, VOLUME)


def test_a_flapping_daemon_comes_and_goes_until_healed() -> None:
    bench = Bench()
    bench.storage.osd_flap(N5, True)
    ups = []
    for _ in range(200):
        bench.run(200)
        ups.append(bench.storage.map.nodes[N5].osds[0].up)
    flips = sum(a != b for a, b in pairwise(ups))
    assert flips >= 4
    bench.storage.osd_flap(N5, False)
    bench.run(10_000)
    assert bench.storage.map.nodes[N5].osds[0].up
    assert bench.storage.map.inactive == 0


def test_a_frozen_node_hears_its_answers_at_the_thaw() -> None:
    bench = Bench()
    answers = bench.write(bench.open(N1), 6, ms_max=400)
    bench.storage.freeze_node(N1)
    bench.run(10_000)
    assert answers == []
    bench.storage.thaw_node(N1)
    assert answers == ["ok"]


def test_closing_waits_for_the_writes_on_their_way_and_frees_the_lock() -> None:
    bench = Bench()
    instance = bench.open(N1)
    answers = bench.write(instance, 2)
    bench.ask(N1, fx.CloseVolume(op=bench.op(), volume=VOLUME, instance=instance, ms_max=5_000))
    bench.run(500)
    assert answers == ["ok"]
    assert isinstance(bench.result(), OpSucceeded)
    assert bench.open(N2, epoch=2).node == N2
    late = bench.write(instance, 3)
    bench.run(100)
    assert late == ["refused"]


def test_closing_a_fenced_instance_is_refused() -> None:
    bench = Bench()
    instance = bench.open(N1)
    bench.fence(N2, instance)
    bench.ask(N1, fx.CloseVolume(op=bench.op(), volume=VOLUME, instance=instance, ms_max=5_000))
    bench.run(500)
    failed = bench.result()
    assert isinstance(failed, OpFailed)
    assert failed.reason == "refused"


def test_a_minority_of_the_monitors_side_does_not_reach_the_storage() -> None:
    bench = Bench()
    bench.fabric.split = (N1, N4)
    bench.fabric.link_down(N1, "data")
    assert [bench.storage.reachable(node) for node in NODES] == [False, True, True, False, True]


def test_the_nodes_of_a_warm_start_hold_all_copies_and_a_later_one_none_yet() -> None:
    bench = Bench(up=NODES[:4])
    assert bench.storage.map.inactive == 0
    assert all(osd.node.id != N5 for group in bench.storage.map.groups for osd in group.copies)
    assert all(len(group.copies) == 3 for group in bench.storage.map.groups)
    bench.storage.node_up(N5)
    bench.run(5_000)
    assert bench.storage.map.inactive == 0


def test_a_storage_that_starts_dark_serves_once_its_nodes_are_up() -> None:
    bench = Bench()
    for node in NODES:
        bench.storage.kill_node(node)
    bench.run(60_000)
    assert not bench.storage.reachable(N1)
    for node in NODES:
        bench.storage.node_up(node)
        bench.run(1_000)
    bench.run(5_000)
    assert bench.storage.map.inactive == 0
    assert all(bench.storage.reachable(node) for node in NODES)
    bench.fence(N2, Instance(node=N1, boot_id=BootId("n1.1"), epoch=Epoch(1), address="10.99.0.1:0/77"))


def test_the_same_seed_gives_the_same_history() -> None:
    def history(seed: int) -> list[tuple[int, int]]:
        bench = Bench(seed)
        instance = bench.open(N1)
        for payload in range(1, 100):
            bench.write(instance, payload)
            bench.run(7)
        return [(write.at_ms, write.payload) for write in bench.storage.accepted]

    assert history(3) == history(3)
    assert history(3) != history(4)
    assert [payload for _, payload in history(3)] == list(range(1, 100)), "a register keeps its order"
