"""Emulated machines of the lab as far as no machine is needed: their files, switches, and what is seen of them."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from core.ids import BootId, DomainId, Guid, NodeId, RackId, SessionId
from core.records import (
    AnyRecord,
    Change,
    Lifecycle,
    MachineRecord,
    MemberRecord,
    NodeRecord,
    machine_path,
    member_path,
    node_path,
)
from drivers.inventory import read_inventory
from drivers.lab import machines, machines_build, qemu
from drivers.lab.build import equal_nodes
from drivers.lab.layout import Guest, Layout, read_layout, write_layout
from drivers.lab.machines_cli import image_of
from drivers.lab.machines_watch import STAGES, Course, Tail, Watch, course_text
from formats.catalog import load_catalog

UUID = "66d3d323-61e6-4eed-a283-bd5b0de178d8"
ROOT = Path(__file__).parents[2]


def layout(folder: Path, *guests: Guest) -> Layout:
    return Layout(name="mxu", folder=folder, nodes=equal_nodes(1), volumes=False, guests=guests)


class Records:
    """What an operator reads of a rack."""

    def __init__(self) -> None:
        self.now: dict[str, Change] = {}

    def records(self) -> dict[str, Change]:
        return self.now

    def put(self, path: str, record: AnyRecord) -> None:
        self.now = {**self.now, path: Change(path=path, zxid=1, data=record)}


def node_record(state: Lifecycle, reason: str = "") -> NodeRecord:
    node, rack, domain = NodeId("n2"), RackId("r1"), DomainId("p1")
    return NodeRecord(node=node, rack=rack, power_domain=domain, state=state, reason=reason, boot_id=BootId("b1"))


# -- files and switches ------------------------------------------------------------------------------------------------


def test_a_layout_with_machines_is_kept(tmp_path: Path) -> None:
    kept = layout(tmp_path, Guest(slot=1, uuid=UUID), Guest(slot=2, uuid=UUID, firmware="uefi", memory_mib=512))
    write_layout(kept)
    assert read_layout(tmp_path) == kept


def test_no_two_machines_share_an_address_a_port_or_a_network_card() -> None:
    guests = [*machines.guests_of(9, 512, "bios"), Guest(slot=1, uuid=UUID, age=1)]
    for count, of in ((9, "bmc_address"), (9, "console_port"), (10, "mac"), (9, "tap")):
        assert len({getattr(guest, of) for guest in guests}) == count, of
    assert len({guest.uuid for guest in guests}) == 10


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose emulator only says what it was started with; ``nsenter`` just runs it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    emulator = 'echo "$@" >words; for word; do [ "$last" = -pidfile ] && file=$word; last=$word; done\n'
    emulator += 'sh -c "while :; do sleep 0.1; done" "$file" >/dev/null 2>&1 & echo $! >"$file"\n'
    for name, text in (("nsenter", 'shift; exec "$@"\n'), (qemu.PROGRAM, emulator)):
        (tools / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    guest = Guest(slot=1, uuid=UUID, disk_mib=1)
    qemu.write(layout(tmp_path, guest), guest)
    return layout(tmp_path, guest).case(guest)


def switch(case: Path, what: str) -> int:
    return subprocess.run((case / what,), check=False, timeout=20).returncode


def test_a_machine_is_off_until_it_is_switched_on_and_again_when_it_is_switched_off(case: Path) -> None:
    assert switch(case, "is-on") != 0
    assert switch(case, "power-on") == 0
    assert switch(case, "is-on") == 0
    before = (case / "qemu.pid").read_text(encoding="ascii")
    assert switch(case, "power-on") == 0
    assert (case / "qemu.pid").read_text(encoding="ascii") == before
    assert switch(case, "power-off") == 0
    assert switch(case, "is-on") != 0
    assert switch(case, "power-off") == 0


def test_a_machine_boots_from_the_network_once_and_then_from_its_disk(case: Path) -> None:
    for device, order in (("pxe", "order=c,once=n"), ("", "order=c"), ("pxe", "order=c,once=n")):
        if device:
            (case / "boot").write_text(f"{device}\n", encoding="ascii")
        assert switch(case, "power-on") == 0
        words = (case / "words").read_text(encoding="utf-8").split()
        assert words[words.index("-boot") + 1] == order
        assert switch(case, "power-off") == 0


def test_a_machine_shows_the_identity_of_its_bmc(case: Path) -> None:
    assert switch(case, "power-on") == 0
    words = (case / "words").read_text(encoding="utf-8")
    assert switch(case, "power-off") == 0
    assert f"-uuid {UUID}" in words
    assert "-accel tcg" in words
    guest = Guest(slot=1, uuid=UUID)
    bmc = qemu.bmc_of(layout(case.parents[1], guest), guest)
    assert (bmc.uuid, bmc.console) == (UUID, "127.0.0.1:23201")


def test_a_process_number_that_was_given_away_is_no_machine(case: Path) -> None:
    (case / "qemu.pid").write_text("1\n", encoding="ascii")
    assert switch(case, "is-on") != 0
    assert switch(case, "power-off") == 0


def test_the_inventory_names_native_nodes_and_where_to_look_for_more(tmp_path: Path) -> None:
    (tmp_path / "passwords").mkdir()
    file = tmp_path / "inventory.toml"
    file.write_text(machines_build._inventory(layout(tmp_path, Guest(slot=1, uuid=UUID))), encoding="utf-8")
    found = read_inventory(file)
    assert list(found.machines) == ["n1"]
    assert [(one.name, one.subnet) for one in found.networks] == [("mgmt", "10.98.1.0/24")]
    assert found.boot is not None
    assert found.boot.address_of(2) == "10.98.0.2"


def test_the_catalog_of_machines_keeps_no_volumes_and_no_address_that_boots_are_given(tmp_path: Path) -> None:
    catalog = load_catalog(ROOT / "catalog" / "machines.toml")
    assert [spec.volume for spec in catalog.specs if spec.volume] == []
    first, last = (int(address.rpartition(".")[2]) for address in machines_build.POOL.split("-"))
    assert not first <= int(catalog.get("counter").spec.address.rpartition(".")[2]) <= last


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_a_machine_is_seen_to_be_found_and_to_join(tmp_path: Path) -> None:
    records = Records()
    watch = Watch(layout(tmp_path, Guest(slot=1, uuid=UUID)), records)  # type: ignore[arg-type]  # reads records only
    assert watch.look() == []
    guid = Guid(UUID.replace("-", ""))
    machine = MachineRecord(
        guid=guid, bmc="10.98.1.111:623", rack=RackId("r1"), power_domain=DomainId("p1"), node=NodeId("n2"), number=2
    )
    records.put(machine_path(guid), machine)
    records.put(node_path(NodeId("n2")), node_record(Lifecycle.POWERING, "power on"))
    assert watch.look() == ["n2 found at 10.98.1.111:623: n2", "n2: powering – power on"]
    assert watch.look() == []
    course = watch.courses[UUID]
    course.at["powered"] = 0
    records.put(node_path(NodeId("n2")), node_record(Lifecycle.JOINED))
    member = MemberRecord(
        node=NodeId("n2"),
        session=SessionId(1),
        boot_id=BootId("b1"),
        rack=RackId("r1"),
        power_domain=DomainId("p1"),
        weight=100,
        cores=1,
        memory_bytes=1,
    )
    assert not watch.joined
    records.put(member_path(RackId("r1"), NodeId("n2")), member)
    assert [line.partition(" in ")[0] for line in watch.look()] == ["n2 joined"]
    assert watch.joined


def test_what_the_boot_service_notes_is_seen_in_order(tmp_path: Path) -> None:
    log = tmp_path / "nodes" / "n1" / "log" / "supervisor.log"
    log.parent.mkdir(parents=True)
    log.write_text("", encoding="utf-8")
    watch = Watch(layout(tmp_path, Guest(slot=1, uuid=UUID)), Records())  # type: ignore[arg-type]  # as above
    watch.courses[UUID].node = NodeId("n2")
    lines = [
        {"at_ms": 5, "kind": "note", "note": "boot_seen", "about": "n2", "detail": "script: to 52:54"},
        {"at_ms": 9, "kind": "note", "note": "join_admitted", "about": "n2", "detail": ""},
        {"at_ms": 9, "kind": "note", "note": "join_refused", "about": "n2", "detail": "token_spent: from 10.98.0.9"},
        {"at_ms": 9, "kind": "other"},
    ]
    log.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines) + b'no json "note"\n')
    assert watch.look() == [
        "n2 has its boot script",
        "n2 has its certificate",
        "n2: join refused: token_spent: from 10.98.0.9",
    ]
    assert watch.courses[UUID].at == {"script": 5, "admitted": 9}


def test_a_machine_that_lost_its_power_has_to_come_the_whole_way_again(tmp_path: Path) -> None:
    watch = Watch(layout(tmp_path, Guest(slot=1, uuid=UUID)), Records())  # type: ignore[arg-type]  # as above
    course = watch.courses[UUID]
    course.at = dict.fromkeys(STAGES, 1)
    assert watch.joined
    watch.again(course)
    assert (course.at, watch.joined) == ({"found": 1}, False)


def test_a_tail_gives_whole_lines_once_and_notices_a_file_that_began_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path, 1_000)
    assert tail.lines() == []
    path.write_bytes(b"one\ntw")
    assert tail.lines() == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert tail.lines() == [b"two", b"three"]
    path.write_bytes(b"new\n")
    assert tail.lines() == [b"new"]


def test_of_a_file_that_grew_much_a_tail_gives_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    tail = Tail(path, 10)
    path.write_bytes(b"x" * 100 + b"\nlast\n")
    assert tail.lines()[-1] == b"last"


def test_the_table_has_a_row_for_each_machine() -> None:
    courses = [
        Course(guest=Guest(slot=1, uuid=UUID), node=NodeId("n2"), at={"found": 3_000, "joined": 84_500}),
        Course(guest=Guest(slot=2, uuid=UUID), at={}),
    ]
    head, first, second = course_text(courses, 1_000).splitlines()
    assert head.split() == ["machine", "node", *STAGES]
    assert first.split() == ["m1", "n2", "2.0", "-", "-", "-", "-", "-", "83.5"]
    assert second.split() == ["m2", "-", *["-"] * 7]


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_more_memory_than_there_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "check_machine", lambda **_: None)
    monkeypatch.setattr(qemu, "check", lambda _: [])
    with pytest.raises(InputError, match="MiB are free; allowed: fewer machines, or a smaller --memory"):
        machines.check_guests(machines.guests_of(9, machines.free_mib(), "bios"))
    machines.check_guests(machines.guests_of(1, 1, "bios"), native=0)


def test_an_image_without_a_key_beside_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        image_of(tmp_path / "none", print)
    (tmp_path / "image").mkdir()
    with pytest.raises(InputError, match="no image in it"):
        image_of(tmp_path / "image", print)
    (tmp_path / "image" / "manifest.json").touch()
    with pytest.raises(InputError, match=r"images.pub is neither in it nor beside it"):
        image_of(tmp_path / "image", print)


def test_commands_of_machines_need_a_lab_that_is_up(tmp_path: Path) -> None:
    words = ("lab", "machine", "list", "--dir", str(tmp_path / "none"))
    done = subprocess.run(
        (sys.executable, "-m", "drivers.cli", *words), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "no lab is up here" in done.stderr) == (2, True)
