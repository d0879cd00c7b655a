"""The power port's own rules, over a BMC that does what a test says: dates, generations, reading back, one answer."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, PowerSeen
from core.ids import NodeId, OpId
from drivers.bmc import BmcFailure, Chassis, Kind, Limit, default_password, password_of, same_uuid
from drivers.config import BmcTable, Machine
from drivers.power import Power

N2, N3 = NodeId("n2"), NodeId("n3")
SOON_S = 10.0


class Clock:
    """A node's clock that a test can advance, on top of the real one."""

    def __init__(self) -> None:
        from drivers.clock import now_ms

        self._real, self.ahead_ms = now_ms, 0

    def __call__(self) -> int:
        return self._real() + self.ahead_ms


class Scripted:
    """A BMC of a machine: ``fails`` says how a command fails, ``obeys`` whether switching does anything."""

    def __init__(self) -> None:
        self.on = False
        self.obeys = True
        self.fails: dict[str, Kind] = {}
        self.sent: list[str] = []
        self.logged_in = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    @contextmanager
    def login(self, limit: Limit) -> Iterator[Chassis]:
        self._fail("login")
        self.logged_in.set()
        assert self.may_go_on.wait(SOON_S)
        yield self

    def is_on(self) -> bool:
        self._fail("is_on")
        return self.on

    def switch(self, on: bool) -> None:
        self.sent.append("on" if on else "off")
        self.on = on if self.obeys else self.on
        self._fail("switch")

    def boot_from_network(self) -> None:
        self.sent.append("network")
        self._fail("boot_from_network")

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise BmcFailure(self.fails[what], f"{what} fails")


class Bench:
    """A power port over scripted BMCs of n2 and n3; ``off`` lists who was proved off."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.bmcs = {N2: Scripted(), N3: Scripted()}
        self.bmc = self.bmcs[N2]
        self.off: queue.SimpleQueue[NodeId] = queue.SimpleQueue()
        machines = {node: Machine(id=node, number=int(node[1:]), address=f"10.0.0.{node[1:]}") for node in self.bmcs}
        self.port = Power(machines, self.clock, self.off.put, lambda machine: self.bmcs[NodeId(machine.id)])
        self._events: queue.SimpleQueue[AnyEvent] = queue.SimpleQueue()

    def read(self, node: NodeId = N2, ms_max: int = 5_000) -> None:
        self.port.submit(fx.ReadPower(op=OpId(1), node=node, ms_max=ms_max), self._events.put)

    def order(self, action: Literal["on", "off", "cycle"], generation: int = 1, within_ms: int = 5_000) -> None:
        deadline_ms = self.clock() + within_ms
        order = fx.PowerOrder(op=OpId(2), node=N2, action=action, generation=generation, deadline_ms=deadline_ms)
        self.port.submit(order, self._events.put)

    def answer(self) -> OpSucceeded | OpFailed:
        event = self._events.get(timeout=SOON_S)
        assert isinstance(event, OpSucceeded | OpFailed)
        return event

    def said(self) -> str:
        event = self.answer()
        if isinstance(event, OpFailed):
            return event.reason
        assert isinstance(event.result, PowerSeen)
        return "on" if event.result.on else "off"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_on_asks_for_one_boot_from_the_network_first(bench: Bench) -> None:
    bench.order("on")
    assert bench.said() == "on"
    assert bench.bmc.sent == ["network", "on"]


def test_what_is_so_already_is_success_and_nothing_is_sent(bench: Bench) -> None:
    bench.order("off")
    assert bench.said() == "off"
    bench.bmc.on = True
    bench.order("on")
    assert bench.said() == "on"
    assert bench.bmc.sent == []


def test_a_cycle_is_an_off_that_was_read_back_and_then_an_on(bench: Bench) -> None:
    bench.bmc.on = True
    bench.order("cycle")
    assert bench.said() == "on"
    assert bench.bmc.sent == ["off", "network", "on"]
    assert bench.off.get(timeout=SOON_S) == N2


def test_a_cycle_of_what_is_off_switches_it_on(bench: Bench) -> None:
    bench.order("cycle")
    assert bench.said() == "on"
    assert bench.bmc.sent == ["network", "on"]


def test_an_error_to_an_order_that_is_fulfilled_is_success(bench: Bench) -> None:
    bench.bmc.fails["switch"] = "failed"
    bench.order("on")
    assert bench.said() == "on"


def test_an_error_to_an_order_that_is_not_fulfilled_is_a_failure_with_the_reason(bench: Bench) -> None:
    bench.bmc.fails["switch"], bench.bmc.obeys = "failed", False
    bench.order("on")
    event = bench.answer()
    assert isinstance(event, OpFailed)
    assert (event.reason, event.retryable) == ("failed", True)
    assert "switch fails" in event.detail


def test_a_bmc_that_reports_the_contrary_until_the_limit_has_failed(bench: Bench) -> None:
    bench.bmc.obeys = False
    bench.order("on", within_ms=400)
    event = bench.answer()
    assert isinstance(event, OpFailed)
    assert (event.reason, event.detail) == ("failed", "after on the BMC still reports off")


def test_a_bmc_without_boot_devices_is_switched_on_all_the_same(bench: Bench) -> None:
    bench.bmc.fails["boot_from_network"] = "failed"
    bench.order("on")
    assert bench.said() == "on"


@pytest.mark.parametrize(
    ("kind", "reason", "retryable"),
    [
        ("silent", "unanswered", True),
        ("unreachable", "unavailable", True),
        ("credentials", "refused", False),
        ("failed", "failed", True),
    ],
)
def test_each_kind_of_failure_has_its_reason(bench: Bench, kind: Kind, reason: str, retryable: bool) -> None:
    bench.bmc.fails["login"] = kind
    bench.read()
    event = bench.answer()
    assert isinstance(event, OpFailed)
    assert (event.reason, event.retryable, event.detail) == (reason, retryable, "login fails")


def test_an_order_that_waits_for_its_login_is_not_sent_after_a_newer_one(bench: Bench) -> None:
    bench.bmc.may_go_on.clear()
    bench.order("on", generation=1)
    assert bench.bmc.logged_in.wait(SOON_S)
    bench.order("off", generation=2)
    bench.bmc.may_go_on.set()
    assert [bench.said(), bench.said()] == ["refused", "off"]
    assert bench.bmc.sent == []


def test_an_order_whose_date_passes_during_the_login_is_not_sent(bench: Bench) -> None:
    bench.bmc.may_go_on.clear()
    bench.order("on")
    assert bench.bmc.logged_in.wait(SOON_S)
    bench.clock.ahead_ms = 5_001
    bench.bmc.may_go_on.set()
    assert bench.said() in ("refused", "unanswered")
    assert bench.bmc.sent == []


@pytest.mark.parametrize("within_ms", [-5_000, 0, 20])
def test_an_order_too_late_to_send_is_refused_at_once(bench: Bench, within_ms: int) -> None:
    bench.order("on", within_ms=within_ms)
    assert bench.said() == "refused"
    assert bench.bmc.sent == []
    assert not bench.bmc.logged_in.is_set()


def test_a_question_is_answered_at_its_limit_whatever_the_driver_does(bench: Bench) -> None:
    bench.bmc.may_go_on.clear()
    bench.read(ms_max=50)
    event = bench.answer()
    assert isinstance(event, OpFailed)
    assert event.reason == "unanswered"
    bench.read(N3)
    assert bench.said() == "off"
    bench.bmc.may_go_on.set()
    bench.read()
    assert bench.said() == "off"  # the first question's answer came to nobody


def test_who_was_proved_off_is_told_and_who_was_not_is_not(bench: Bench) -> None:
    bench.bmcs[N3].on = True
    bench.read(N3)
    bench.read(N2)
    assert {bench.said(), bench.said()} == {"on", "off"}
    assert bench.off.get(timeout=SOON_S) == N2
    assert bench.off.empty()


def test_a_node_without_a_bmc_is_unavailable_and_says_why() -> None:
    events: list[AnyEvent] = []
    port = Power({N2: Machine(id="n2", number=2, address="10.0.0.2")}, Clock())
    for node in (N2, N3):
        port.submit(fx.ReadPower(op=OpId(1), node=node, ms_max=1_000), events.append)
    said = [(event.reason, event.detail) for event in events if isinstance(event, OpFailed)]
    assert said == [
        ("unavailable", "n2 has no BMC in the inventory"),
        ("unavailable", "n3 is not in the inventory"),
    ]


def test_a_password_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\nsecond line\n")
    table = BmcTable(driver="ipmi", address="10.0.0.2", password_file=file)
    file.chmod(0o600)
    assert password_of(table) == "s3cret"
    for mode, text in ((0o640, "s3cret\n"), (0o600, "\n")):
        file.write_text(text)
        file.chmod(mode)
        with pytest.raises(BmcFailure) as failure:
            password_of(table)
        assert failure.value.kind == "credentials"
        assert "s3cret" not in failure.value.detail


def test_a_missing_password_is_said_with_its_file(tmp_path: Path) -> None:
    for table in (BmcTable(), BmcTable(password_file=tmp_path / "none")):
        with pytest.raises(BmcFailure, match=r"password") as failure:
            password_of(table)
        assert failure.value.kind == "credentials"


def test_factory_passwords_are_known_with_their_vendor() -> None:
    assert default_password("ADMIN", "ADMIN") == "Supermicro"
    assert default_password("root", "calvin") == "Dell iDRAC"
    assert default_password("moxie", "moxie") == "the user's own name"
    assert default_password("admin", "s3cret") == ""


def test_a_uuid_is_the_same_however_it_is_written() -> None:
    found = ("70dce487-582e-5e56-a3ed-a1541ed73826",)
    assert same_uuid("70DCE487582E5E56A3EDA1541ED73826", found) is True
    assert same_uuid("00000000-582e-5e56-a3ed-a1541ed73826", found) is False
    assert same_uuid("", found) is None
    assert same_uuid("70dce487-582e-5e56-a3ed-a1541ed73826", ()) is None
