"""The supervisor of a simulated node: services, rights, suspension, and what outlives the agent."""

from core import effects as fx
from core.events import BeatAnswered, OpFailed, OpSucceeded, RightExpired, ServiceExited, Stopped
from core.ids import Epoch
from tests.unit.supervised import CRON, DB, DNS, EPOCH, INSTANCE, NODE, VOLUME, Node


def test_a_service_is_mounted_recovered_and_started_and_then_reported_healthy() -> None:
    node = Node()
    node.dirty[VOLUME] = True
    node.storage.payload = 41
    node.send(node.start())
    node.run(1_100)
    assert node.of(OpSucceeded) == []
    node.run(10)
    assert [event.op for event in node.of(OpSucceeded)] == [1]
    assert node.storage.asked == [(0, 0)]
    assert node.supervisor.units[DB].memory == 41


def test_a_refused_mount_fails_the_start_and_nothing_runs() -> None:
    node = Node()
    node.storage.outcome = "refused"
    node.send(node.start())
    node.run(5_000)
    assert [(event.op, event.reason) for event in node.of(OpFailed)] == [(1, "refused")]
    assert not node.supervisor.runs(DB)


def test_a_service_that_is_never_healthy_fails_at_its_limit_and_only_once() -> None:
    node = Node()
    node.sick.add(DB)
    node.send(node.start(ms_max=3_000))
    node.run(2_999)
    assert node.of(OpFailed) == []
    node.run(10_000)
    assert len(node.of(OpFailed)) == 1
    node.sick.remove(DB)
    node.send(node.start())
    node.run(3_000)
    assert [event.op for event in node.of(OpSucceeded)] == [2]


def test_the_address_goes_off_at_the_deadline_and_the_service_is_suspended_just_after() -> None:
    node = Node()
    node.serve()
    node.storage.outcome = "unanswered"
    asked_ms = node.storage.asked[-1][0]
    node.run(1_500)
    span = node.truth.spans[-1]
    assert span.to_ms == asked_ms + 500
    assert node.actions()[-3:] == ["expired", "withdrawn", "suspended"]
    expired = [at_ms for at_ms, event in node.heard if isinstance(event, RightExpired)]
    assert expired == [asked_ms + 500 + 20]


def test_storage_beats_push_the_right_forward_without_an_agent() -> None:
    node = Node()
    node.serve()
    node.supervisor.agent_died()
    heard = len(node.heard)
    node.run(10_000)
    assert node.supervisor.serves(DB)
    assert len(node.truth.spans) == 1
    assert len(node.heard) == heard


def test_coordination_beats_end_with_the_agent_and_so_does_the_right_they_gave() -> None:
    node = Node()
    node.send(node.start(CRON))
    node.run(200)
    node.send(fx.ArmRight(service=CRON, epoch=EPOCH, until_ms=1_500), node.check())
    node.run(300)
    node.supervisor.agent_died()
    asked = len(node.lease.asked)
    node.run(5_000)
    assert len(node.lease.asked) == asked
    assert node.actions(CRON)[-2:] == ["expired", "suspended"]
    assert node.truth.acting.all[-1].to_ms == 1_520


def test_an_expired_right_is_not_given_back_by_a_probe_but_only_by_the_agent() -> None:
    node = Node()
    node.serve()
    node.storage.outcome = "unanswered"
    node.run(1_500)
    node.storage.outcome = "ok"
    node.run(2_000)
    assert not node.supervisor.serves(DB)
    until_ms = node.clock.now() + 500
    node.send(fx.ArmRight(service=DB, epoch=EPOCH, until_ms=until_ms), fx.ResumeService(service=DB, epoch=EPOCH))
    assert not node.supervisor.serves(DB), "resuming brings no address up"
    node.send(fx.AnnounceAddress(service=DB, epoch=EPOCH))
    assert node.supervisor.serves(DB)


def test_a_right_is_only_pushed_forward() -> None:
    node = Node()
    node.serve()
    node.supervisor.evidence.stop(DB, EPOCH, "storage")
    now = node.clock.now()
    node.send(fx.ArmRight(service=DB, epoch=EPOCH, until_ms=now + 900))
    node.send(fx.ArmRight(service=DB, epoch=EPOCH, until_ms=now + 100))
    node.run(899)
    assert node.supervisor.serves(DB)
    node.run(1)
    assert not node.supervisor.serves(DB)


def test_a_refused_probe_stops_the_service_at_once_even_without_an_agent() -> None:
    node = Node()
    node.serve()
    node.supervisor.agent_died()
    node.storage.outcome = "refused"
    node.run(250)
    assert not node.supervisor.serves(DB)
    assert node.actions()[-3:] == ["refused", "withdrawn", "suspended"]
    asked = len(node.storage.asked)
    node.run(2_000)
    assert len(node.storage.asked) == asked, "a fenced instance is not probed any further"


def test_a_frozen_node_acts_on_passed_deadlines_at_the_thaw_before_anything_else() -> None:
    node = Node()
    node.serve()
    node.run(195)
    node.supervisor.freeze()
    node.run(5_000)
    assert "expired" not in node.actions()
    heard = len(node.heard)
    node.supervisor.thaw()
    assert node.actions()[-2:] == ["expired", "withdrawn"]
    assert node.truth.spans[-1].to_ms == 405
    assert not node.supervisor.serves(DB)
    late = [event for _, event in node.heard[heard:] if isinstance(event, BeatAnswered) and event.outcome == "ok"]
    assert all(event.asked_ms <= 405 for event in late), "what was asked before the freeze is as old as that"
    node.run(1_000)
    assert not node.supervisor.serves(DB)


def test_while_only_processes_are_stopped_the_kernel_still_takes_the_address_off() -> None:
    node = Node()
    node.serve()
    node.supervisor.freeze(kernel_too=False)
    node.run(2_000)
    assert node.actions()[-2:] == ["expired", "withdrawn"]
    node.supervisor.thaw()
    node.run(50)
    assert node.actions()[-1] == "suspended"


def test_a_fast_clock_ends_the_right_early() -> None:
    node = Node()
    node.serve()
    node.supervisor.evidence.stop(DB, EPOCH, "storage")
    node.send(fx.ArmRight(service=DB, epoch=EPOCH, until_ms=node.clock.now() + 1_000))
    node.clock.set_drift(1_000_000)
    begun = node.kernel.now
    node.run(2_000)
    assert node.truth.spans[-1].to_ms == begun + 500


def test_a_jump_of_the_clock_ends_what_it_jumped_over() -> None:
    node = Node()
    node.serve()
    node.clock.jump(5_000)
    node.run(1)
    assert not node.supervisor.serves(DB)


def test_a_clean_stop_unmounts_and_a_failed_unmount_is_not_clean() -> None:
    for outcome, clean in (("ok", True), ("refused", False), ("unanswered", False)):
        node = Node()
        node.send(node.start())
        node.run(300)
        node.storage.outcome = outcome
        node.send(node.stop())
        node.run(5_000)
        results = [event.result for event in node.of(OpSucceeded)]
        assert results[-1] == Stopped(clean=clean), outcome
        assert len(results) == 2
        assert node.dirty[VOLUME] is not clean


def test_a_kill_is_never_clean_and_takes_the_address_off_first() -> None:
    node = Node()
    node.serve()
    node.send(node.stop(kill=True))
    assert not node.supervisor.serves(DB)
    node.run(100)
    assert node.of(OpSucceeded)[-1].result == Stopped(clean=False)


def test_stopping_a_service_that_is_starting_answers_both_orders() -> None:
    node = Node()
    node.send(node.start(), node.stop(kill=True))
    node.run(5_000)
    assert [(event.op, event.reason) for event in node.of(OpFailed)] == [(1, "failed")]
    assert [event.op for event in node.of(OpSucceeded)] == [2]


def test_orders_for_another_epoch_come_too_late() -> None:
    node = Node()
    node.serve()
    old = Epoch(7)
    node.send(fx.WithdrawAddress(service=DB, epoch=old), fx.SuspendService(service=DB, epoch=old))
    node.run(100)
    assert node.supervisor.serves(DB)


def test_a_service_that_dies_tells_the_agent_and_can_be_started_again() -> None:
    node = Node()
    node.serve()
    assert node.supervisor.fail(DB)
    node.run(50)
    assert [event.service for event in node.of(ServiceExited)] == [DB]
    assert not node.supervisor.serves(DB)
    node.send(node.start())
    node.run(2_000)
    assert node.supervisor.runs(DB)


def test_a_new_agent_is_told_what_outlived_the_last_one() -> None:
    node = Node()
    node.serve()
    node.send(node.start(DNS))
    node.run(200)
    node.supervisor.agent_died()
    running = node.supervisor.agent_started(node.emit, node.lease)
    assert [(r.service, r.epoch, r.instance, r.announced) for r in running] == [
        (DB, EPOCH, INSTANCE, True),
        (DNS, 0, None, False),
    ]


def test_everything_ends_when_the_operating_system_does() -> None:
    node = Node()
    node.serve()
    node.send(node.start(DNS))
    node.run(200)
    node.supervisor.die()
    heard = len(node.heard)
    node.run(5_000)
    assert node.actions()[-1] == "gone"
    assert node.actions(DNS)[-1] == "gone"
    assert node.truth.serving_nodes(DB) == ()
    assert len(node.heard) == heard


def test_clients_read_what_the_service_remembers_and_write_through_its_instance() -> None:
    node = Node()
    node.serve()
    answers: list[str] = []
    node.supervisor.write(DB, 5, answers.append)
    node.supervisor.write(DB, 6, answers.append)
    assert answers == ["failed"], "one write at a time"
    assert node.supervisor.read(DB) == 0
    node.run(10)
    assert answers == ["failed", "ok"]
    assert node.supervisor.read(DB) == 5
    node.storage.outcome = "refused"
    node.supervisor.write(DB, 7, answers.append)
    node.run(10)
    assert answers[-1] == "failed"
    assert node.supervisor.read(DB) in (5, None)


def test_nobody_is_answered_by_a_service_whose_address_is_off() -> None:
    node = Node()
    node.serve()
    node.send(fx.WithdrawAddress(service=DB, epoch=EPOCH))
    answers: list[str] = []
    node.supervisor.write(DB, 5, answers.append)
    assert node.supervisor.read(DB) is None
    assert answers == ["failed"]
    assert [(span.node, span.to_ms) for span in node.truth.spans] == [(NODE, node.kernel.now)]
