"""Racks whose machines must be found and admitted: who is let in, who is not, and which machine is which node."""

from functools import cache
from pathlib import Path

import msgspec
import pytest

from core.effects import AllowBoot
from core.events import AnyEvent, JoinAdmitted, JoinRefused
from core.identity import same_machine
from core.ids import Guid, ImageId, NodeId, RackId
from core.records import Lifecycle, MachineRecord, NodeRecord, machine_path, node_path
from formats.catalog import load_catalog
from formats.rack import load_rack
from trial.fault import Planned
from trial.scenario import Boots
from trial.targets import parse
from twin.faults import FAULTS
from twin.faults.base import Fault
from twin.inject import Injector
from twin.kernel import Kernel
from twin.truth import JoinMark
from twin.world.census import Census
from twin.world.gates import Claim, Gates, Ticket
from twin.world.identity import identity_of
from twin.world.world import World

ROOT = Path(__file__).parents[2]
SERVER, NODE, IMAGE = NodeId("n1"), NodeId("n2"), ImageId("1" * 16)
MINE = identity_of("mine")
ME = Claim(machine="mine", uuid=MINE.uuid, mac=MINE.mac)
THIEF = Claim(machine="thief", uuid=identity_of("thief").uuid, mac=identity_of("thief").mac)


class Door:
    """One boot server that expects one machine for a minute."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.gates = Gates(self.kernel, IMAGE)
        self.said: list[AnyEvent] = []
        self.marks: list[JoinMark] = []
        self.gates.tell = lambda _server, event: self.said.append(event)
        self.gates.mark = self.marks.append
        self.gates.open(SERVER, AllowBoot(node=NODE, ms_max=60_000, guid=MINE.guid))

    def script(self, claim: Claim = ME) -> Ticket:
        ticket = self.gates.ask(SERVER, claim)
        assert isinstance(ticket, Ticket)
        return ticket

    @property
    def refusals(self) -> list[str]:
        return [event.reason for event in self.said if isinstance(event, JoinRefused)]


def test_the_expected_machine_gets_one_script_and_one_certificate_and_both_are_told() -> None:
    door = Door()
    door.gates.redeem(door.script(), ME)
    assert door.refusals == []
    assert [event.node for event in door.said if isinstance(event, JoinAdmitted)] == [NODE]
    assert [(mark.act, mark.machine, mark.refused) for mark in door.marks] == [
        ("ask", "mine", ""),
        ("redeem", "mine", ""),
    ]


def test_a_token_is_worth_nothing_to_a_thief_and_after_him_to_nobody() -> None:
    door = Door()
    ticket = door.script()
    door.gates.redeem(ticket, THIEF)
    door.gates.redeem(ticket, ME)
    assert door.refusals == ["wrong_machine", "token_void"]


def test_a_replay_an_early_guest_a_late_one_and_another_image_are_refused() -> None:
    door = Door()
    ticket = door.script()
    door.gates.redeem(ticket, ME, ImageId("2" * 16))
    door.gates.redeem(ticket, ME)
    door.gates.redeem(ticket, ME)
    door.gates.ask(SERVER, THIEF)
    door.kernel.run(60_000)
    door.gates.ask(SERVER, ME)
    assert door.refusals == ["wrong_image", "token_spent", "unknown_machine", "window_closed"]


def test_a_server_gives_an_address_within_the_window_only_and_forgets_it_when_it_restarts() -> None:
    door = Door()
    assert door.gates.answers(SERVER, NODE, ME)
    assert not door.gates.answers(SERVER, NODE, THIEF)
    door.kernel.run(60_000)
    assert not door.gates.answers(SERVER, NODE, ME)
    door.gates.open(SERVER, AllowBoot(node=NODE, ms_max=60_000, guid=MINE.guid))
    door.gates.down(SERVER)
    assert not door.gates.answers(SERVER, NODE, ME)


def test_a_retired_machine_is_known_at_gates_that_are_opened_later_too() -> None:
    door = Door()
    door.gates.retire({MINE.guid: NODE})
    door.gates.ask(SERVER, ME)
    door.gates.ask(NodeId("n9"), ME)
    assert door.refusals == ["retired", "retired"]


def test_machines_differ_in_everything_and_vendors_in_the_order_of_bytes() -> None:
    made = [identity_of(f"n{number}") for number in range(1_000)]
    assert (
        len({one.guid for one in made}) == len({one.uuid for one in made}) == len({m for o in made for m in o.macs}) / 2
    )
    assert all(same_machine(one.guid, one.uuid) for one in made)
    plain = sum(one.guid == one.uuid.replace("-", "") for one in made)
    assert 500 <= plain <= 700


def test_the_census_names_a_machine_once_and_lists_it_where_it_is_cabled() -> None:
    named: list[tuple[NodeId, NodeId]] = []
    census = Census(load_rack(ROOT / "racks/six.toml"), SERVER, lambda place, node: named.append((place, node)))
    assert census.listing("r1") == tuple(NodeId(name) for name in ("n1", *(f"slot:n{n}" for n in range(2, 7))))
    seen = census.seen(NodeId("slot:n3"), "")
    record = MachineRecord(
        guid=seen.guid, bmc=seen.bmc, rack=seen.rack, power_domain=seen.power_domain, node=NodeId("n7"), number=7
    )
    census.learn(record)
    census.learn(record)
    assert named == [("slot:n3", "n7")]
    assert census.called(NodeId("n3")) == "n7"
    assert census.listing("r1")[2] == "n7"
    assert census.server(NodeId("n7")).id == "n3"
    census.take_address(NodeId("slot:n6"), NodeId("n7"))
    assert census.seen(NodeId("slot:n6"), "").bmc == seen.bmc
    assert census.seen(NodeId("n7"), "").bmc != seen.bmc


def planned(kind: str, target: str, **keys: object) -> Planned[Fault]:
    fault: Fault = msgspec.convert({"target": target, "at_ms": 0, **keys}, FAULTS[kind])
    return Planned(kind=kind, fault=fault, terms=parse(target) if target else ())


def rack_with(*faults: Planned[Fault], until_ms: int = 420_000) -> World:
    rack, catalog = load_rack(ROOT / "racks/five.toml"), load_catalog(ROOT / "catalog/minimal.toml")
    world = World(rack, catalog, seed=3, fidelity="campaign", start="first", boots=Boots(discover=True))
    Injector(world, faults).arm()
    world.start()
    world.run_until(until_ms)
    return world


@cache
def plain() -> World:
    return rack_with()


def test_one_server_finds_admits_and_names_the_others() -> None:
    world = plain()
    assert world.members() == ("n1", "n2", "n3", "n4", "n5")
    assert [mark.refused for mark in world.truth.joins] == [""] * 8
    for node in world.nodes:
        record = world.record(NodeRecord, node_path(node))
        assert record is not None
        assert record.state is Lifecycle.JOINED
        assert world.record(MachineRecord, machine_path(guid_of(world, node)))


def guid_of(world: World, node: NodeId) -> Guid:
    assert world.census is not None
    return world.census.seen(node, "").guid


def test_the_specs_of_found_nodes_say_where_they_stand() -> None:
    world = plain()
    assert [spec.number for spec in world.setup.nodes] == [1, 2, 3, 4, 5]
    assert {spec.rack for spec in world.setup.nodes} == {RackId("r1")}


@pytest.mark.parametrize(
    ("kind", "keys", "reason"),
    [
        ("token_stolen", {}, "wrong_machine"),
        ("mac_clone", {}, "unknown_machine"),
        ("mac_clone", {"uuid_too": True}, "asked_twice"),
        ("window_expired", {}, "window_closed"),
        ("image_swapped", {}, "wrong_image"),
    ],
)
def test_an_attack_on_the_first_boot_is_refused_and_the_machine_joins_in_the_end(
    kind: str, keys: dict[str, object], reason: str
) -> None:
    world = rack_with(planned(kind, "n2", **keys), until_ms=700_000)
    refused = [mark.refused for mark in world.truth.joins if mark.refused]
    assert reason in refused
    assert world.members() == ("n1", "n2", "n3", "n4", "n5")


def test_a_machine_with_another_board_never_joins_and_one_with_another_card_is_refused_once_its_card_is_known() -> None:
    world = rack_with(planned("wrong_uuid", "n2", card_too=True))
    assert world.members() == ("n1", "n3", "n4", "n5")
    loss = planned("power_loss", "n2", for_ms=40_000).fault
    late = [planned("card_swapped", "n2"), Planned(kind="power_loss", fault=loss, terms=parse("n2"))]
    moved = [Planned(kind=p.kind, fault=later(p, 430_000 + 5_000 * i), terms=p.terms) for i, p in enumerate(late)]
    world = rack_with(*moved, until_ms=900_000)
    assert "wrong_mac" in [mark.refused for mark in world.truth.joins]


def later(one: Planned[Fault], at_ms: int) -> Fault:
    return msgspec.structs.replace(one.fault, at_ms=at_ms)


@pytest.mark.parametrize(
    ("kind", "keys", "words"),
    [
        ("bmc_deaf_to_on", {}, "after on the BMC reports off"),
        ("bmc_bootdev_ignored", {"left_over": True}, "never asked for an address"),
        ("kernel_panic", {}, "sent its root image"),
    ],
)
def test_a_machine_that_cannot_join_is_quarantined_with_its_reason(
    kind: str, keys: dict[str, object], words: str
) -> None:
    world = rack_with(planned(kind, "n2", **keys), until_ms=2_400_000)
    record = world.record(NodeRecord, node_path(world.called(NodeId("n2"))))
    assert record is not None
    assert record.state is Lifecycle.QUARANTINED
    assert words in record.reason
    if kind == "kernel_panic":
        assert "Kernel panic" in record.console
    if kind == "bmc_bootdev_ignored":
        assert "left-over" in record.console


def test_a_bmc_that_refuses_every_password_is_left_alone_and_said_so() -> None:
    world = rack_with(planned("bmc_wrong_password", "n2"))
    assert world.members() == ("n1", "n2", "n3", "n4")
    assert "slot:n2" in world.nodes
    assert world.census is not None
    record = world.record(MachineRecord, machine_path(world.census.identities[NodeId("slot:n2")].guid))
    assert record is not None
    assert (record.node, record.problem) == ("", "the BMC refuses the password")
