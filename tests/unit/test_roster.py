"""Machines that were found become entries of ``config.machines``, live, and again after a restart."""

from pathlib import Path

import pytest

from core.errors import InputError
from core.ids import DomainId, Guid, NodeId, RackId
from core.records import MACHINES, AnyRecord, Change, MachineRecord, machine_path
from drivers.agents import Life
from drivers.config import Config, load_config
from drivers.loop import Loop
from drivers.peers import Peers
from drivers.power import Power
from drivers.roster import FILE, Roster, address_and_port, encode, read
from drivers.supervision import Parts, Supervisor
from drivers.wire import Machines
from tests.unit.test_networks import BOOT, NETWORK, NODE

N6 = NodeId("n6")


def guid(number: int) -> Guid:
    return Guid(f"{number:032x}")


def record(of: int, **changes: object) -> MachineRecord:
    fields: dict[str, object] = {
        "guid": guid(of),
        "bmc": f"10.97.0.{of}:623",
        "rack": RackId("r1"),
        "power_domain": DomainId("p1"),
        "node": NodeId(f"n{of}"),
        "number": of,
        "access": "lab",
    }
    return MachineRecord(**{**fields, **changes})  # type: ignore[arg-type]  # as tests need them


def change(data: AnyRecord | None, zxid: int = 1, number: int = 6) -> Change:
    path = machine_path(data.guid if isinstance(data, MachineRecord) else guid(number))
    return Change(path=path, zxid=zxid, data=data)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "inventory.toml").write_text(NODE + NETWORK + BOOT, encoding="utf-8")
    (tmp_path / "catalog.toml").write_text('name = "none"\n[[service]]\nname = "ntp"\nrun = "everywhere"\n')
    node = 'node = "n1"\ninventory = "inventory.toml"\ncatalog = "catalog.toml"\nstate_dir = "s"\nrun_dir = "r"\n'
    (tmp_path / "node.toml").write_text(node, encoding="utf-8")
    return tmp_path / "node.toml"


@pytest.fixture
def config(file: Path) -> Config:
    return load_config(file)


def test_a_found_machine_is_there_for_everybody_who_holds_the_configuration(config: Config) -> None:
    peers, power = Peers(config), Power(config.machines, lambda: 0)
    told: list[tuple[MachineRecord, ...]] = []
    roster = Roster(config, config.tables.state_dir, told.append)
    assert roster.take([change(record(6))])
    machine = config.machines[N6]
    assert (machine.number, machine.address, machine.bmc.address) == (6, "10.98.0.6", "10.97.0.6")
    assert machine.bmc.password_file == config.file.parent / "bmc" / "lab"
    assert machine.uuid == "00000000-0000-0000-0000-000000000006"
    assert peers._machines.by_number(6) == N6
    assert power._machines[N6] is machine
    assert told == [(record(6),)]
    assert not roster.take([change(record(6))])
    assert len(told) == 1


def test_a_restart_knows_what_was_found_before_the_rack_answers(file: Path, config: Config) -> None:
    Roster(config, config.tables.state_dir).take([change(record(6))])
    assert load_config(file).machines[N6].address == "10.98.0.6"
    assert NodeId("n6") not in [spec.id for spec in load_config(file).opening.inventory]


def test_a_node_that_was_found_itself_starts_from_the_file_beside_its_inventory(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace('"n1"', '"n6"', 1), encoding="utf-8")
    (file.parent / FILE).write_bytes(encode([record(6)]))
    config = load_config(file)
    assert (config.me.address, config.me.number) == ("10.98.0.6", 6)
    assert config.opening.node.cores >= 1
    roster = Roster(config, config.tables.state_dir)
    assert roster.take([], roots=(MACHINES,)) is False
    assert config.me.address == "10.98.0.6"  # whatever the rack says: it runs


def test_a_node_that_was_found_starts_even_if_what_it_kept_has_lost_itself(file: Path) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace('"n1"', '"n6"', 1), encoding="utf-8")
    (file.parent / "s").mkdir()
    (file.parent / "s" / FILE).write_bytes(encode([record(7)]))
    (file.parent / FILE).write_bytes(encode([record(6)]))
    assert load_config(file).me.number == 6
    (file.parent / FILE).unlink()
    with pytest.raises(InputError, match=r'node = "n6": not in .*inventory\.toml; allowed: n1'):
        load_config(file)


def test_a_record_that_is_gone_takes_its_machine_with_it(config: Config) -> None:
    roster = Roster(config, config.tables.state_dir)
    roster.take([change(record(6), zxid=5), change(record(7), zxid=6)])
    roster.take([change(None, zxid=4)])
    assert N6 in config.machines  # older than what is known
    roster.take([change(None, zxid=9)])
    assert N6 not in config.machines
    roster.take([], roots=(MACHINES,))
    assert set(config.machines) == {NodeId("n1")}
    assert read(config.tables.state_dir) == ()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (record(6, number=1), "is n1's"),
        (record(6, number=200), "in the pool"),
        (record(6, number=254), "the gateway's"),
        (record(6, number=255), "beyond 10.98.0.0/24"),
        (record(6, node=NodeId("n1"), number=6), "the inventory says 1, which counts"),
        (record(6, node=NodeId("../x")), "what no node can be"),
        (record(6, rack=RackId("")), "what no node can be"),
    ],
)
def test_what_contradicts_the_inventory_is_said_and_left_out(config: Config, found: MachineRecord, said: str) -> None:
    before = dict(config.machines)
    roster = Roster(config)
    roster.take([change(found)])
    assert said in " ".join(roster.problems)
    assert dict(config.machines) == before or NodeId("n1") in config.machines
    assert config.machines[NodeId("n1")].number == 1
    roster.take([change(None, zxid=2)])
    assert roster.problems == ()


def test_two_machines_of_one_name_are_one_node_and_a_problem(config: Config) -> None:
    roster = Roster(config)
    roster.take([change(record(6)), change(record(7, node=N6, number=7))])
    assert config.machines[N6].number == 6
    assert "another machine is n6 already" in roster.problems[0]


def test_a_machine_without_usable_credentials_is_a_node_whose_power_has_no_switch(config: Config) -> None:
    roster = Roster(config)
    roster.take([change(record(6, access="gone"))])
    assert config.machines[N6].bmc.driver == "none"
    assert 'an access "gone"' in roster.problems[0]


def test_a_retired_machine_can_switch_nothing_any_more(config: Config) -> None:
    roster = Roster(config)
    roster.take([change(record(6, retired=True)), change(record(7, bmc="10.97.0.6:623"))])
    assert config.machines[N6].bmc.driver == "none"
    assert config.machines[NodeId("n7")].bmc.address == "10.97.0.6"
    assert roster.problems == ()


def test_a_machine_of_the_inventory_gets_the_bmc_that_was_found(config: Config) -> None:
    Roster(config).take([change(record(1))])
    machine = config.machines[NodeId("n1")]
    assert (machine.address, machine.bmc.driver, machine.bmc.address) == ("10.98.0.1", "ipmi", "10.97.0.1")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"machines":[{"record":"node"}]}', b"\xff", b"x" * 2_000_000])
def test_a_broken_file_costs_nothing_but_what_it_knew(file: Path, data: bytes) -> None:
    (file.parent / "s").mkdir()
    (file.parent / "s" / FILE).write_bytes(data)
    assert set(load_config(file).machines) == {NodeId("n1")}


@pytest.mark.parametrize(
    ("bmc", "parts"),
    [
        ("10.97.0.6:623", ("10.97.0.6", 623)),
        ("[fd00::6]:443", ("fd00::6", 443)),
        ("10.97.0.6", ("10.97.0.6", 0)),
        ("10.97.0.6:x", ("10.97.0.6", 0)),
        ("", ("", 0)),
    ],
)
def test_a_bmcs_name_is_an_address_and_a_port(bmc: str, parts: tuple[str, int]) -> None:
    assert address_and_port(bmc) == parts


def test_a_supervisor_that_is_told_hears_the_heartbeats_of_who_was_found(config: Config) -> None:
    loop, peers = Loop(), Peers(config)
    life = Life(agent=("true",), spare=("true",), hand_over=("true",), hold=Path("hold"), restart_ms=1, give_up_ms=1)
    supervisor = Supervisor(config, loop, Parts(life=life, peers=peers, cgroups=False))
    try:
        supervisor._heard(Machines(records=(record(6),)))
        assert peers._machines.by_number(6) == N6
        supervisor._heard(Machines(records=()))
        assert N6 not in config.machines
    finally:
        supervisor.close()
