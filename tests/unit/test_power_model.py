"""The simulated power: PDUs and breakers, chassis and their boots, BMCs that die, hang and lie."""

from collections.abc import Iterable

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, PowerSeen
from core.ids import DomainId, NodeId, OpId
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.bmc import BmcMode, OrderTaken
from twin.world.chassis import Restore
from twin.world.fabric import Fabric
from twin.world.netboot import Netboot
from twin.world.power import ChassisSpec, Power

P1, P2 = DomainId("p1"), DomainId("p2")
NODES = [NodeId(f"n{i}") for i in range(1, 11)]
N1, N2, N3 = NODES[:3]


class Bench:
    """Ten machines on two PDUs; n1 runs, the others are off."""

    def __init__(self, seed: int = 1, restore: Restore = "last", watchdog_ms: int = 0, installed: bool = True) -> None:
        self.kernel = Kernel()
        self.fabric = Fabric()
        self.fabric.add_switch("s1")
        for node in NODES:
            self.fabric.add_node(node, ["s1"])
        specs = [
            ChassisSpec(
                node=node,
                pdu=P2 if node == N1 else P1,
                restore=restore,
                watchdog_ms=watchdog_ms,
                installed=installed or node == N1,
            )
            for node in NODES
        ]
        streams, calibration = Streams(seed), load()
        self.netboot = Netboot(self.kernel, streams, calibration, self.fabric)
        self.power = Power(self.kernel, streams, calibration, self.fabric, self.netboot, specs)
        self.log: list[tuple[int, str, NodeId]] = []
        self.power.on_up(lambda node, _: self.log.append((self.kernel.now, "up", node)))
        self.power.on_down(lambda node: self.log.append((self.kernel.now, "down", node)))
        self.orders: list[OrderTaken] = []
        self.power.on_order(self.orders.append)
        self.power.start_up([N1])
        self.clock_ahead_ms = 0
        self.port = self.power.port(N1, lambda: self.kernel.now + self.clock_ahead_ms)
        self.events: list[AnyEvent] = []
        self._op = 0

    def run(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)

    def states(self, nodes: Iterable[NodeId]) -> list[str]:
        return [self.power.chassis[node].state for node in nodes]

    def order(self, node: NodeId, action: str, within_ms: int = 8_000) -> None:
        self._op += 1
        deadline_ms = self.kernel.now + self.clock_ahead_ms + within_ms
        match action:
            case "on" | "off" | "cycle":
                order = fx.PowerOrder(
                    op=OpId(self._op), node=node, action=action, generation=1, deadline_ms=deadline_ms
                )
                self.port.submit(order, self.events.append)
            case _:
                raise ValueError(action)

    def read(self, node: NodeId, ms_max: int = 2_000) -> None:
        self._op += 1
        self.port.submit(fx.ReadPower(op=OpId(self._op), node=node, ms_max=ms_max), self.events.append)

    def seen(self) -> bool:
        event = self.events[-1]
        assert isinstance(event, OpSucceeded), event
        assert isinstance(event.result, PowerSeen)
        return event.result.on

    def failed(self) -> str:
        event = self.events[-1]
        assert isinstance(event, OpFailed), event
        return event.reason


def test_a_machine_goes_through_firmware_and_boot_device_and_gets_a_new_boot_id_each_time() -> None:
    bench = Bench()
    chassis = bench.power.chassis[N2]
    assert chassis.power_on()
    assert bench.states([N2]) == ["firmware"]
    bench.run(200_000)
    first = chassis.boot_id
    assert chassis.state == "up"
    assert 57_000 <= bench.log[-1][0] <= 195_000
    chassis.reset()
    assert chassis.boot_id == ""
    bench.run(200_000)
    assert chassis.boot_id not in ("", first)
    assert [what for _, what, node in bench.log if node == N2] == ["up", "down", "up"]


def test_a_pdu_takes_machines_and_bmcs_and_restore_policies_decide_what_comes_back() -> None:
    for restore, expected in (("on", "up"), ("off", "off"), ("last", "up")):
        bench = Bench(restore=restore)  # type: ignore[arg-type]  # a literal that the loop widens
        bench.power.chassis[N2].power_on()
        bench.run(200_000)
        bench.power.pdu_off(P1)
        assert bench.power.chassis[N2].state == "off"
        assert not bench.power.bmc.alive(N2)
        bench.power.pdu_on(P1)
        bench.run(10_000)
        assert not bench.power.bmc.alive(N2), "a BMC takes its time to start"
        bench.run(400_000)
        assert bench.power.bmc.alive(N2)
        assert bench.power.chassis[N2].state == expected
        assert bench.power.chassis[N3].state == ("up" if restore == "on" else "off")
        assert not bench.power.pdus[P1].tripped


def test_what_was_switched_off_on_order_stays_off_after_a_power_loss() -> None:
    bench = Bench()
    chassis = bench.power.chassis[N2]
    chassis.power_on()
    bench.run(200_000)
    chassis.power_off()
    bench.power.pdu_off(P1)
    bench.power.pdu_on(P1)
    bench.run(400_000)
    assert chassis.state == "off"


def test_too_many_power_ons_at_once_trip_the_breaker() -> None:
    bench = Bench()
    trips: list[tuple[DomainId, int]] = []
    bench.power.on_trip(lambda pdu, at_ms: trips.append((pdu, at_ms)))
    slots = bench.power.times.inrush_slots
    started = [bench.power.chassis[node].power_on() for node in NODES[1 : slots + 1]]
    assert all(started)
    assert trips == []
    assert not bench.power.chassis[NODES[slots + 1]].power_on()
    assert trips == [(P1, 0)]
    assert bench.states(NODES) == ["up"] + ["off"] * 9
    assert not bench.power.bmc.alive(N2)
    bench.power.pdu_on(P1)
    bench.run(400_000)
    assert bench.states(NODES[: slots + 1]) == ["up"] * (slots + 1), "one outlet after the other: no second trip"


def test_staggered_power_ons_never_trip_the_breaker() -> None:
    bench = Bench()
    for node in NODES[1:]:
        assert bench.power.chassis[node].power_on()
        bench.run(bench.power.times.inrush_window_ms // bench.power.times.inrush_slots + 1)
    assert not bench.power.pdus[P1].tripped


def test_the_main_rail_lost_leaves_the_bmc_that_proves_it() -> None:
    bench = Bench()
    bench.power.start_up([N2])
    bench.power.node_power_off(N2)
    bench.read(N2)
    bench.run(2_000)
    assert bench.seen() is False
    bench.order(N2, "on")
    bench.run(10_000)
    assert bench.failed() == "failed", "without power it does not come on, and the read-back says so"
    bench.power.node_power_on(N2)
    bench.run(300_000)
    assert bench.power.chassis[N2].state == "up"


def test_with_the_cord_pulled_the_bmc_is_silent_and_silence_is_not_off() -> None:
    bench = Bench()
    bench.power.node_power_off(N2, standby_too=True)
    bench.read(N2, ms_max=2_000)
    bench.run(1_999)
    assert bench.events == []
    bench.run(1)
    assert bench.failed() == "unanswered"


@pytest.mark.parametrize(
    ("mode", "action", "was_on", "on_after", "answer"),
    [
        ("ok", "on", False, True, "on"),
        ("ok", "on", True, True, "on"),
        ("ok", "off", True, False, "off"),
        ("ok", "off", False, False, "off"),
        ("ok", "cycle", True, True, "on"),
        ("contrary", "on", True, True, "on"),
        ("contrary", "off", False, False, "off"),
        ("contrary", "off", True, False, "off"),
        ("dead", "off", True, True, "unanswered"),
        ("hung", "off", True, True, "unanswered"),
        ("lying_off", "off", True, True, "off"),
        ("lying_off", "on", False, True, "failed"),
        ("lying_on", "off", True, False, "failed"),
        ("lying_on", "on", False, False, "on"),
    ],
)
def test_what_an_order_does_and_answers(mode: BmcMode, action: str, was_on: bool, on_after: bool, answer: str) -> None:
    bench = Bench()
    if was_on:
        bench.power.start_up([N2])
    bench.power.bmc.set_mode(N2, mode)
    bench.order(N2, action)
    bench.run(8_000)
    assert bench.power.chassis[N2].on == on_after
    assert len(bench.events) == 1
    if answer in ("on", "off"):
        assert bench.seen() == (answer == "on")
    else:
        assert bench.failed() == answer


def test_a_slow_bmc_answers_late_and_a_delay_adds_up() -> None:
    bench = Bench()
    bench.power.bmc.set_delay(N2, 5_000)
    bench.read(N2, ms_max=30_000)
    bench.run(30_000)
    assert bench.events[-1].at_ms >= 5_000
    bench.power.bmc.set_delay(N2, 0)
    bench.power.bmc.set_mode(N2, "slow")
    bench.read(N2, ms_max=30_000)
    bench.run(30_000)
    assert bench.events[-1].at_ms >= 31_000
    assert bench.seen() is False


def test_a_hung_bmc_is_well_after_a_power_loss_and_a_dead_one_is_not() -> None:
    bench = Bench()
    bench.power.bmc.set_mode(N2, "hung")
    bench.power.bmc.set_mode(N3, "dead")
    bench.power.pdu_off(P1)
    bench.power.pdu_on(P1)
    bench.run(200_000)
    assert bench.power.bmc.alive(N2)
    assert not bench.power.bmc.alive(N3)


@pytest.mark.parametrize("seed", range(10))
def test_no_order_reaches_a_bmc_after_its_deadline(seed: int) -> None:
    bench = Bench(seed)
    bench.power.bmc.set_mode(N2, "slow")
    for _ in range(10):
        bench.order(N2, "on", within_ms=4_000)
        bench.run(25_000)
    assert all(taken.at_ms <= taken.order.deadline_ms for taken in bench.orders)
    assert any(isinstance(event, OpFailed) for event in bench.events)


def test_a_paused_steward_does_not_send_its_order_when_it_wakes_too_late() -> None:
    bench = Bench()
    bench.power.start_up([N2])
    bench.order(N2, "cycle")
    bench.port.freeze()
    bench.run(60_000)
    assert bench.events == []
    bench.port.thaw()
    bench.run(10_000)
    assert bench.orders == []
    assert bench.power.chassis[N2].state == "up"
    assert len(bench.events) == 1
    assert bench.failed() in ("refused", "unanswered")


def test_a_deadline_is_judged_by_the_senders_own_clock() -> None:
    bench = Bench()
    bench.power.start_up([N2])
    bench.order(N2, "off")
    bench.clock_ahead_ms = 60_000
    bench.run(10_000)
    assert bench.orders == []
    assert bench.failed() == "refused"


def test_an_agent_that_died_sends_nothing_and_hears_nothing() -> None:
    bench = Bench()
    bench.power.start_up([N2])
    bench.order(N2, "off")
    bench.port.agent_died()
    bench.run(20_000)
    assert bench.orders == []
    assert bench.events == []


def test_a_bmc_behind_a_cut_management_network_is_silent() -> None:
    bench = Bench()
    bench.fabric.link_down(N2, "management")
    bench.read(N2)
    bench.run(3_000)
    assert bench.failed() == "unanswered"


def test_a_crashed_machine_stays_on_until_its_watchdog_resets_it() -> None:
    bench = Bench(watchdog_ms=60_000)
    chassis = bench.power.chassis[N1]
    chassis.crash()
    bench.read(N1)
    bench.run(2_000)
    assert bench.seen() is True, "the BMC sees power, not life"
    bench.run(400_000)
    assert chassis.state == "up"
    assert chassis.boots == 2


def test_a_frozen_machine_goes_on_with_the_same_boot_and_dies_only_once() -> None:
    bench = Bench()
    chassis = bench.power.chassis[N1]
    boot_id = chassis.boot_id
    chassis.freeze()
    assert chassis.state == "frozen"
    chassis.thaw()
    assert (chassis.state, chassis.boot_id) == ("up", boot_id)
    chassis.freeze()
    chassis.crash()
    chassis.power_off()
    chassis.power_off()
    assert [what for _, what, _ in bench.log] == ["up", "down"]


def test_an_order_on_boots_from_the_network_once_and_falls_back_to_the_disk() -> None:
    bench = Bench()
    bench.order(N2, "on")
    bench.run(160_000)
    assert bench.netboot.timeouts > 0, "nobody opened a window, so nobody answered"
    bench.run(200_000)
    assert bench.power.chassis[N2].state == "up"
    assert bench.power.chassis[N2].why == "no boot server answered"


def test_a_machine_with_nothing_to_boot_from_gives_up_and_a_window_helps_the_next_time() -> None:
    bench = Bench(installed=False)
    bench.order(N2, "on")
    bench.run(900_000)
    assert bench.power.chassis[N2].state == "no_boot"
    bench.netboot.port(N1).submit(fx.AllowBoot(node=N2, ms_max=240_000), bench.events.append)
    bench.order(N2, "cycle")
    bench.run(240_000)
    assert bench.power.chassis[N2].state == "up"
    assert bench.power.chassis[N2].installed


def test_the_same_seed_gives_the_same_boots() -> None:
    def boots(seed: int) -> list[tuple[int, str, NodeId]]:
        bench = Bench(seed)
        for node in NODES[1:6]:
            bench.power.chassis[node].power_on()
        bench.run(200_000)
        return bench.log

    assert boots(5) == boots(5)
    assert boots(5) != boots(6)
