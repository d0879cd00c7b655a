"""The simulated slots: staged, tried, kept or taken back; and what flawed images do to their machines."""

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, Staged
from core.ids import ImageId, NodeId, OpId
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.netboot import Netboot
from twin.world.power import ChassisSpec, Power
from twin.world.slots import FIRST_IMAGE, Flaw, FlawKind, Slots, shared

N1, N2 = NodeId("n1"), NodeId("n2")
NEW, THIRD = ImageId("2" * 16), ImageId("3" * 16)
STAGE_MS = 600_000


class Bench:
    """Two machines that run; the slots of n1 are looked at."""

    def __init__(self, seed: int = 1) -> None:
        self.kernel = Kernel()
        self.fabric = Fabric()
        self.fabric.add_switch("s1")
        for node in (N1, N2):
            self.fabric.add_node(node, ["s1"])
        parts = (self.kernel, Streams(seed), load(), self.fabric)
        specs = [ChassisSpec(node=node, pdu="p1") for node in (N1, N2)]  # type: ignore[arg-type]
        self.power = Power(*parts, Netboot(*parts), specs)
        self.chassis = self.power.chassis[N1]
        self.sick: list[bool] = []
        self.rack = shared(
            *parts,
            lambda: [node for node in (N1, N2) if self.power.chassis[node].state == "up"],
            lambda _node, on: self.sick.append(on),
        )
        self.heard: list[tuple[str, ImageId]] = []
        self.rack.heard.append(lambda action, _node, image: self.heard.append((action, image)))
        self.slots = Slots(self.rack, self.chassis, lambda: self.kernel.now)
        self.power.on_up(lambda node, boot_id: self.slots.came_up(boot_id) if node == N1 else None)
        self.power.on_down(lambda node: self.slots.went_down() if node == N1 else None)
        self.power.start_up([N1, N2])
        self.events: list[AnyEvent] = []

    def run(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)

    def stage(self, image: ImageId = NEW, ms_max: int = STAGE_MS) -> AnyEvent | None:
        before = len(self.events)
        self.slots.submit(fx.StageImage(op=OpId(before + 1), image=image, ms_max=ms_max), self.events.append)
        self.run(ms_max)
        return self.events[-1] if len(self.events) > before else None

    def restart(self, image: ImageId = NEW) -> None:
        self.slots.submit(fx.RestartInto(image=image), self.events.append)
        self.run(400_000)

    def keep(self, image: ImageId = NEW) -> None:
        self.slots.submit(fx.KeepImage(image=image), self.events.append)

    def flaw(self, kind: FlawKind, after_ms: int = 5_000) -> None:
        self.rack.flaws[NEW] = Flaw(kind=kind, after_ms=after_ms)


def test_an_image_is_staged_restarted_into_and_kept() -> None:
    bench = Bench()
    assert bench.slots.running == FIRST_IMAGE
    answer = bench.stage()
    assert isinstance(answer, OpSucceeded)
    assert answer.result == Staged(slot="b")
    bench.restart()
    assert (bench.slots.running, bench.slots.good) == (NEW, "a")
    bench.keep()
    bench.chassis.reset()
    bench.run(400_000)
    assert (bench.slots.running, bench.slots.good) == (NEW, "b")


def test_an_image_that_nobody_keeps_is_left_again() -> None:
    bench = Bench()
    bench.stage()
    bench.restart()
    assert bench.slots.running == NEW
    bench.run(900_000)
    assert bench.slots.running == FIRST_IMAGE
    assert bench.heard == [("came_up", FIRST_IMAGE), ("restarts", NEW), ("came_up", NEW), ("came_up", FIRST_IMAGE)]


def test_a_trial_whose_power_is_cut_is_over() -> None:
    bench = Bench()
    bench.stage()
    bench.restart()
    bench.power.node_power_off(N1)
    bench.power.node_power_on(N1)
    bench.run(400_000)
    assert bench.slots.running == FIRST_IMAGE


def test_going_back_is_a_restart_into_the_good_slot() -> None:
    bench = Bench()
    bench.stage()
    bench.restart()
    bench.restart(FIRST_IMAGE)
    assert (bench.slots.running, bench.slots.next) == (FIRST_IMAGE, None)


def test_what_nothing_holds_cannot_be_restarted_into() -> None:
    bench = Bench()
    boot_id = bench.chassis.boot_id
    bench.restart(THIRD)
    assert bench.chassis.boot_id == boot_id


def test_staging_takes_its_time_and_ends_at_its_limit() -> None:
    bench = Bench()
    answer = bench.stage(ms_max=5_000)
    assert isinstance(answer, OpFailed)
    assert (answer.reason, bench.slots.holds("b")) == ("unanswered", "")
    assert isinstance(bench.stage(), OpSucceeded)
    assert isinstance(bench.stage(ms_max=2), OpSucceeded)  # it is there


def test_a_trial_that_was_armed_is_forgotten_when_its_slot_is_written_again() -> None:
    bench = Bench()
    bench.stage()
    bench.slots.next, bench.slots.tries = "b", 1
    bench.stage(THIRD)
    assert (bench.slots.next, bench.slots.holds("b")) == (None, THIRD)


def test_a_machine_that_goes_down_while_it_stages_answers_nothing_and_holds_nothing() -> None:
    bench = Bench()
    bench.slots.submit(fx.StageImage(op=OpId(1), image=NEW, ms_max=STAGE_MS), bench.events.append)
    bench.run(8_000)
    bench.chassis.reset()
    bench.run(STAGE_MS)
    assert (bench.events, bench.slots.holds("b")) == ([], "")


def test_nobody_to_send_the_image_is_unavailable() -> None:
    bench = Bench()
    bench.power.node_power_off(N2)
    answer = bench.stage()
    assert isinstance(answer, OpFailed)
    assert (answer.reason, answer.retryable) == ("unavailable", True)


def test_a_machine_installed_by_hand_takes_no_image() -> None:
    bench = Bench()
    bench.slots.forget()
    answer = bench.stage()
    assert isinstance(answer, OpFailed)
    assert (answer.reason, answer.retryable, bench.slots.running) == ("refused", False, "")


def test_an_image_that_fails_its_check_never_reaches_a_slot() -> None:
    bench = Bench()
    bench.flaw("fails_check")
    answer = bench.stage()
    assert isinstance(answer, OpFailed)
    assert (answer.reason, answer.retryable, bench.slots.holds("b")) == ("refused", False, "")


@pytest.mark.parametrize("kind", ["does_not_boot", "crashes_later"])
def test_an_image_that_dies_falls_back_by_itself(kind: FlawKind) -> None:
    bench = Bench()
    bench.stage()
    bench.flaw(kind)
    bench.restart()
    bench.run(100_000)
    assert (bench.slots.running, bench.chassis.state) == (FIRST_IMAGE, "up")


def test_an_unhealthy_image_has_no_way_to_the_storage_and_leaves_none_behind() -> None:
    bench = Bench()
    bench.stage()
    bench.flaw("unhealthy")
    bench.restart()
    assert not bench.fabric.storage_reachable(N1)
    bench.restart(FIRST_IMAGE)
    assert bench.fabric.storage_reachable(N1)


def test_an_image_whose_services_fail_makes_them_sick_while_it_runs() -> None:
    bench = Bench()
    bench.stage()
    bench.flaw("services_fail")
    bench.restart()
    assert bench.sick == [True]
    bench.restart(FIRST_IMAGE)
    assert bench.sick == [True, False]
