"""A look through a network: who is new, which credentials may be tried, and that no account is ever locked by us."""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core import effects as fx
from core.events import OpFailed, OpSucceeded, Scanned, Seen
from core.ids import DomainId, Guid, NodeId, OpId, RackId
from core.records import MachineRecord
from drivers import scan
from drivers.bmc import BmcFailure, Kind, Limit
from drivers.clock import now_ms
from drivers.inventory import BmcTable, Inventory, Machine
from drivers.networks import AccessTable, NetworkTable
from drivers.power import Power
from drivers.scan import Scans
from drivers.scan_login import REFUSED_MS
from tests.real.lab_bmc import free_port
from tests.unit.spoken_bmc import Answer, Speaker, honest

Speak = Callable[[str, Answer], Speaker]
ONE, TWO = "127.8.0.1", "127.8.0.2"
G1, G2 = "11" * 16, "22" * 16
U1 = "11111111-1111-1111-1111-111111111111"


class Chassis:
    """A machine that is off."""

    def __init__(self, guid: str) -> None:
        self._guid = guid

    def is_on(self) -> bool:
        return False

    def switch(self, on: bool) -> None:
        raise AssertionError("a look switches nothing")

    def boot_from_network(self) -> None:
        raise AssertionError("a look sets nothing")

    def identity(self) -> str:
        return self._guid


class Desk:
    """All BMCs of a test: which passwords they accept, or how they fail; and who was tried with what."""

    def __init__(self) -> None:
        self.accepts: dict[str, str] = {}
        self.fails: dict[str, Kind] = {}
        self.guids: dict[str, str] = {}
        self.tried: list[tuple[str, str]] = []

    def bmc_of(self, table: BmcTable) -> "Bmc":
        return Bmc(self, table)


class Bmc:
    def __init__(self, desk: Desk, table: BmcTable) -> None:
        self._desk = desk
        self._table = table

    @contextmanager
    def login(self, limit: Limit) -> Iterator[Chassis]:
        desk, table = self._desk, self._table
        assert table.password_file is not None
        word = table.password_file.read_text(encoding="utf-8").strip()
        desk.tried.append((table.address, word))
        if table.address in desk.fails:
            raise BmcFailure(desk.fails[table.address], "it failed")
        if desk.accepts.get(table.address) != word:
            raise BmcFailure("credentials", "no")
        yield Chassis(desk.guids.get(table.address, ""))


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.discovery.ROUND_MS", 40)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def network(tmp_path: Path) -> NetworkTable:
    for name in ("good", "old"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(f"{name}\n", encoding="utf-8")
    port = free_port(socket.SOCK_DGRAM)
    accesses = [AccessTable(name=name, password_file=tmp_path / name, port=port) for name in ("old", "good")]
    return NetworkTable(name="mgmt", subnet="127.8.0.0/29", rack="r2", power_domain="p2", access=tuple(accesses))


@pytest.fixture
def speak(network: NetworkTable) -> Iterator[Callable[[str, Answer], Speaker]]:
    made: list[Speaker] = []

    def begin(address: str, answer: Answer) -> Speaker:
        made.append(Speaker(address, network.access[0].at_port, answer))
        return made[-1]

    yield begin
    for speaker in made:
        speaker.close()


class Clock:
    """The node's clock, set forward by hand."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


def scans_of(
    desk: Desk,
    network: NetworkTable,
    machines: Iterable[Machine] = (),
    records: Iterable[MachineRecord] = (),
    clock: Callable[[], int] = now_ms,
) -> Scans:
    inventory = Inventory(machines={NodeId(m.id): m for m in machines}, networks=(network,))
    return Scans(inventory, lambda: tuple(records), desk.bmc_of, clock)


def look(scans: Scans, network: NetworkTable, clock: Callable[[], int] = now_ms) -> dict[str, Seen]:
    found = scans.look(network, clock() + 2_000)
    return {one.address: one.seen for one in found if one.seen is not None}


def on_record(guid: str, bmc: str, **changes: object) -> MachineRecord:
    fields: dict[str, object] = {"guid": Guid(guid), "bmc": bmc, "rack": RackId("r2"), "power_domain": DomainId("p2")}
    return MachineRecord(**{**fields, **changes})  # type: ignore[arg-type]  # as tests need them


def test_a_new_machine_is_told_with_the_credentials_that_it_accepts(
    desk: Desk, network: NetworkTable, speak: Speak
) -> None:
    speak(ONE, honest(G1))
    speak(TWO, honest(G2))
    desk.accepts = {ONE: "old", TWO: "good"}
    found = look(scans_of(desk, network), network)
    port = network.access[0].at_port
    assert found[ONE] == Seen(
        bmc=f"{ONE}:{port}", guid=Guid(G1), rack=RackId("r2"), power_domain=DomainId("p2"), access="old"
    )
    assert found[TWO].access == "good"
    assert sorted(desk.tried) == [(ONE, "old"), (TWO, "good"), (TWO, "old")]


def test_what_was_refused_is_not_tried_again_for_an_hour_unless_it_was_changed(
    desk: Desk, network: NetworkTable, speak: Speak
) -> None:
    speak(ONE, honest(G1))
    clock = Clock()
    scans = scans_of(desk, network, clock=clock)
    first = look(scans, network, clock)[ONE]
    assert first.access == ""
    assert first.problem.startswith("refuses every credential given for it (old, good)")
    assert len(desk.tried) == 2
    assert look(scans, network, clock)[ONE] == first  # the same words, so that no record changes
    assert len(desk.tried) == 2
    network.access[1].password_file.write_text("new\n", encoding="utf-8")
    desk.accepts[ONE] = "new"
    assert look(scans, network, clock)[ONE].access == "good"
    assert desk.tried[2:] == [(ONE, "new")]
    desk.accepts.clear()
    clock.ahead_ms = REFUSED_MS + 1
    look(scans, network, clock)
    assert len(desk.tried) == 5


def test_what_another_node_was_refused_is_not_tried_at_once_by_the_next(
    desk: Desk, network: NetworkTable, speak: Speak
) -> None:
    speak(ONE, honest(G1))
    told = look(scans_of(desk, network), network)[ONE]
    tried = list(desk.tried)
    record = on_record(G1, told.bmc, problem=told.problem)
    assert look(scans_of(desk, network, records=[record]), network)[ONE] == told
    assert desk.tried == tried


def test_a_machine_that_is_known_is_not_logged_into(desk: Desk, network: NetworkTable, speak: Speak) -> None:
    speak(ONE, honest(G1))
    record = on_record(G1, f"{ONE}:623", node=NodeId("n6"), number=6, access="good")
    seen = look(scans_of(desk, network, records=[record]), network)[ONE]
    assert (seen.bmc, seen.guid, seen.access, seen.problem) == (record.bmc, G1, "good", "")
    assert desk.tried == []


def test_another_machine_in_the_place_of_a_known_one_is_new(desk: Desk, network: NetworkTable, speak: Speak) -> None:
    speak(ONE, honest(G2))
    desk.accepts[ONE] = "good"
    record = on_record(G1, f"{ONE}:623", node=NodeId("n6"), number=6, access="good")
    seen = look(scans_of(desk, network, records=[record]), network)[ONE]
    assert (seen.guid, seen.access) == (G2, "good")
    assert (ONE, "good") in desk.tried


def test_a_machine_of_the_inventory_is_tried_with_its_own_credentials_only(
    desk: Desk, network: NetworkTable, tmp_path: Path, speak: Speak
) -> None:
    (tmp_path / "own").touch(mode=0o600)
    (tmp_path / "own").write_text("own\n", encoding="utf-8")
    table = BmcTable(driver="ipmi", address=ONE, port=network.access[0].at_port, password_file=tmp_path / "own")
    listed = Machine(id="n3", number=3, address="10.0.0.3", rack="r1", power_domain="p9", uuid=U1, bmc=table)
    speak(ONE, honest(G1))
    desk.accepts[ONE] = "own"
    seen = look(scans_of(desk, network, machines=[listed]), network)[ONE]
    assert (seen.node, seen.number, seen.access, seen.power_domain) == ("n3", 3, "inventory", "p9")
    assert desk.tried == [(ONE, "own")]
    other = Machine(id="n3", number=3, address="10.0.0.3", uuid="22222222-2222-2222-2222-222222222222", bmc=table)
    seen = look(scans_of(desk, network, machines=[other]), network)[ONE]
    assert (seen.node, seen.access) == ("", "")
    assert "not that of n3" in seen.problem


def test_a_machine_of_the_inventory_without_a_bmc_is_known_by_its_identity(
    desk: Desk, network: NetworkTable, speak: Speak
) -> None:
    speak(ONE, honest(G1))
    desk.accepts[ONE] = "good"
    listed = Machine(id="n3", number=3, address="10.0.0.3", uuid=U1)
    seen = look(scans_of(desk, network, machines=[listed]), network)[ONE]
    assert (seen.node, seen.number, seen.access) == ("n3", 3, "good")


def test_nobody_is_touched_where_no_credentials_are_given(desk: Desk, network: NetworkTable, speak: Speak) -> None:
    bare = NetworkTable(name="mgmt", subnet=network.subnet)
    network = NetworkTable(name="mgmt", subnet=network.subnet, access=(network.access[0],))
    speak(ONE, honest(G1))
    scans = scans_of(desk, bare)
    scans._find = lambda _, until_ms: Scans._find(scans, network, until_ms)  # type: ignore[method-assign]  # its port is none that a test can have
    seen = look(scans, bare)[ONE]
    assert seen.problem == "no [[network.access]] is given for mgmt, so it is left alone"
    assert desk.tried == []


@pytest.mark.parametrize("kind", ["silent", "failed", "unreachable"])
def test_a_bmc_that_merely_fails_is_tried_again_the_next_time(
    desk: Desk, network: NetworkTable, kind: Kind, speak: Speak
) -> None:
    speak(ONE, honest(G1))
    desk.fails[ONE] = kind
    scans = scans_of(desk, network)
    assert look(scans, network)[ONE].problem == "answers, yet nobody can log in: it failed"
    desk.fails.clear()
    desk.accepts[ONE] = "good"
    assert look(scans, network)[ONE].access == "good"


def test_a_password_file_that_others_may_read_is_said_and_not_used(
    desk: Desk, network: NetworkTable, speak: Speak
) -> None:
    speak(ONE, honest(G1))
    for access in network.access:
        access.password_file.chmod(0o644)
    assert "chmod 600" in look(scans_of(desk, network), network)[ONE].problem
    assert desk.tried == []


def test_a_bmc_without_identity_is_told_only_after_some_looks(
    desk: Desk, network: NetworkTable, monkeypatch: pytest.MonkeyPatch, speak: Speak
) -> None:
    speak(ONE, lambda packet: honest(G1)(packet) if packet[3] == 6 else ())
    desk.accepts[ONE] = "good"
    scans = scans_of(desk, network)
    assert [ONE in look(scans, network) for _ in range(scan.NAMELESS_MAX)] == [False, False, True]
    desk.guids[ONE] = G1  # what is asked for within a login counts as well
    assert look(scans, network)[ONE].guid == G1


def test_two_identities_from_one_address_are_a_problem(desk: Desk, network: NetworkTable, speak: Speak) -> None:
    speak(ONE, lambda packet: (*honest(G1)(packet), *honest(G2)(packet)))
    desk.accepts[ONE] = "good"
    seen = look(scans_of(desk, network), network)[ONE]
    assert seen.access == ""
    assert "sends two identities" in seen.problem


def test_the_power_port_answers_once_within_the_limit(desk: Desk, network: NetworkTable, speak: Speak) -> None:
    speak(ONE, honest(G1))
    desk.accepts[ONE] = "good"
    events: list[OpSucceeded | OpFailed] = []
    power = Power({}, now_ms, scans=lambda: scans_of(desk, network))
    began_ms = now_ms()
    power.submit(fx.Scan(op=OpId(1), network="nowhere", ms_max=500), events.append)  # type: ignore[arg-type]
    power.submit(fx.Scan(op=OpId(2), network="mgmt", ms_max=1_500), events.append)  # type: ignore[arg-type]
    while power.counts().busy and now_ms() - began_ms < 10_000:
        pass
    assert now_ms() - began_ms < 2_500
    events.sort(key=lambda event: event.op)
    assert [event.op for event in events] == [1, 2]
    assert isinstance(events[0], OpFailed)
    assert isinstance(events[1], OpSucceeded)
    assert isinstance(events[1].result, Scanned)
    assert [seen.access for seen in events[1].result.seen] == ["good"]


def test_a_large_network_is_looked_through_in_parts_and_who_is_known_is_always_asked(desk: Desk) -> None:
    network = NetworkTable(name="mgmt", subnet="10.97.0.0/20")
    record = on_record(G1, "10.97.9.9:623", node=NodeId("n6"), number=6, access="good")
    scans = scans_of(desk, network, records=[record])
    parts = [scans._window(network) for _ in range(scans.looks(network))]
    assert all(len(set(part)) == len(part) <= scan.WINDOW for part in parts)
    assert all("10.97.9.9" in part for part in parts)
    assert {address for part in parts for address in part} == set(map(str, network.net.hosts()))
    assert scans.looks(NetworkTable(name="mgmt", subnet="10.97.0.0/24")) == 1
