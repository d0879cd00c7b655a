"""``rack status`` about machines: who was found and left alone, why boots failed, who was refused, how upgrades go."""

import json
import re
from typing import get_args

import msgspec
import pytest

from core.gate import Refusal
from core.ids import NO_NODE, BootId, Guid, ImageId, NodeId
from core.records import (
    UPGRADE,
    AnyRecord,
    Lifecycle,
    MachineRecord,
    Turn,
    UpgradeRecord,
    machine_path,
    member_path,
    node_path,
)
from drivers.rack_state import Heard, RackState
from drivers.refusals import WORDS
from drivers.status import to_json
from drivers.status_text import status_text
from formats.paint import Paint
from tests.unit.made_rack import P1, R1, agents, member_record, node_record, rack_state, view

PLAIN = Paint(False)
LOCKED = MachineRecord(
    guid=Guid("00112233445566778899aabbccddeeff"),
    bmc="10.97.0.9:623",
    rack=R1,
    power_domain=P1,
    problem="refuses every credential given for it (factory)",
)
NEW, OLD = ImageId("aaaa000011112222"), ImageId("bbbb000011112222")


def with_machines(*machines: MachineRecord) -> dict[str, AnyRecord | None]:
    return {machine_path(machine.guid): machine for machine in machines}


def test_only_machines_that_need_a_person_are_listed() -> None:
    fine = msgspec.structs.replace(LOCKED, guid=Guid("1" * 32), node=NodeId("n6"), number=6, access="lab", problem="")
    gone = msgspec.structs.replace(fine, guid=Guid("2" * 32), node=NodeId("n7"), number=7, retired=True)
    text = status_text(rack_state(with_machines(LOCKED, fine, gone)), PLAIN)
    lines = [line for line in text.splitlines() if line.startswith("10.97.0.9")]
    assert len(lines) == 2
    assert "n7" in lines[0]
    assert "retired: it never boots here again" in lines[0]
    assert "00112233-4455-6677-8899-aabbccddeeff  –     –       refuses every credential" in lines[1]
    assert "FOUND AT" not in status_text(rack_state(with_machines(fine)), PLAIN)


def test_a_quarantined_node_shows_its_reason_and_the_end_of_its_console() -> None:
    said = "\n".join(f"line {n} \x1b[31m" + "x" * 200 for n in range(40))
    life = msgspec.structs.replace(node_record("n5", Lifecycle.QUARANTINED, "did not join in 5 boots"), console=said)
    text = status_text(rack_state({node_path(NodeId("n5")): life, member_path(R1, NodeId("n5")): None}), PLAIN)
    part = text[text.index("QUARANTINED") :].split("\n\n")[0].splitlines()
    assert part[1] == "  n5: did not join in 5 boots"
    assert part[2].startswith("    │ line 28 ")
    assert part[-1].startswith("    │ line 39 ")
    assert len(part) == 14
    assert max(map(len, part)) < 120
    assert "\x1b" not in text


def refused(*said: str) -> list[list[str]]:
    """The lines of the table of refusals, cell by cell, as an operator sees them half a minute after noon."""
    views: dict[NodeId, Heard] = agents() | {NodeId("n1"): Heard(view=view("n1", refusals=said))}
    text = status_text(msgspec.structs.replace(rack_state(), agents=views, at="2026-05-01T12:00:30Z"), PLAIN)
    part = text[text.index("REFUSED  ") :].split("\n\n")[0].splitlines()
    return [re.split(r"  +", line) for line in part[1:]]


def test_a_refusal_says_when_how_often_as_whom_by_whom_why_and_who_it_was() -> None:
    who = "machine 11111111-2222-3333-4444-555555555506 with 52:54:00:77:00:06 from 10.98.0.66"
    lines = refused(
        f"token_spent as n6: {who} at 2026-05-01T11:58:20Z",
        f"unknown_machine: {who} at 2026-05-01T11:00:00Z",
        f"token_spent as n6: {who} at 2026-05-01T12:00:10Z",
    )
    card = who.removeprefix("machine ").removesuffix(" from 10.98.0.66")
    never = "nobody expects this machine (unknown_machine)"
    assert lines == [
        ["60 min ago", "1", "–", "n1", never, "10.98.0.66", card],
        ["20 s ago", "2", "n6", "n1", "its token was used before (token_spent)", "10.98.0.66", card],
    ]


def test_what_one_machine_tries_again_and_again_is_one_line_whatever_it_calls_itself() -> None:
    who = "11111111-2222-3333-4444-55555555550{} with 52-54-00-77-00-06 from 10.98.0.66 at 2026-05-01T12:00:0{}Z"
    (line,) = refused(*(f"unknown_machine: {who.format(n, n)}" for n in range(4)))
    assert line[:2] == ["27 s ago", "4"]
    assert line[-1] == "11111111-2222-3333-4444-555555555503 with 52:54:00:77:00:06, and 3 other UUIDs"


def test_every_reason_for_a_refusal_has_words_of_its_own() -> None:
    assert set(WORDS) == set(get_args(Refusal))
    assert len(set(WORDS.values())) == len(WORDS)
    for reason in WORDS:
        (line,) = refused(f"{reason}: too slow from 10.98.0.66; 25 more were refused at 2026-05-01T12:00:00Z")
        assert line[4] == f"{WORDS[reason]} ({reason})"
        assert line[5:] == ["10.98.0.66", "too slow; 25 more were refused"]


def test_refusals_that_say_it_otherwise_are_shown_as_they_are_and_not_without_end() -> None:
    assert refused("no x")[0][-1] == "no x"
    lines = refused(
        *(f"unknown_machine: machine {n:02d} from 10.98.0.{n} at 2026-05-01T11:{n:02d}:00Z" for n in range(50))
    )
    assert lines[0][:2] == ["earlier", "30"]
    assert [line[-1] for line in lines[1:]] == [f"{n:02d}" for n in range(30, 50)]


def upgraded(state: str, **changes: object) -> RackState:
    record = UpgradeRecord(
        image=NEW,
        previous=OLD,
        state=state,
        done=(NodeId("n1"),),
        current=(Turn(node=NodeId("n2"), boot_id=BootId("b")),),
    )
    member = member_record("n1", image=NEW)
    record = msgspec.structs.replace(record, **changes)
    return rack_state({UPGRADE: record, member_path(R1, NodeId("n1")): member})


def test_an_upgrade_shows_how_far_it_is_and_each_node_what_it_runs() -> None:
    text = status_text(upgraded("running"), PLAIN)
    assert f"upgrade to image {NEW}: running, 1 of 5 nodes run it and are well; before: {OLD}; now: n2" in text
    head = next(line for line in text.splitlines() if line.startswith("NODE"))
    row = next(line for line in text.splitlines() if line.startswith("n1 "))
    assert row[head.index("IMAGE") :].startswith(NEW)
    assert "IMAGE" not in status_text(rack_state(), PLAIN)


def test_a_halted_upgrade_says_why_and_what_to_do() -> None:
    text = status_text(upgraded("halted", reason="n2 came back on the old image"), PLAIN)
    assert "halted, 1 of 5" in text
    assert "  n2 came back on the old image" in text
    assert "rack upgrade resume" in text


def test_the_json_has_all_of_it_by_name() -> None:
    rack = msgspec.structs.replace(upgraded("halted", reason="why"), problems=("n6: its address is in the pool",))
    rack = msgspec.structs.replace(rack, records={**rack.records, **rack_state(with_machines(LOCKED)).records})
    shown = json.loads(to_json(rack))
    assert shown["machines"][0]["problem"] == LOCKED.problem
    assert shown["machines"][0]["node"] == NO_NODE
    assert "00112233-4455-6677-8899-aabbccddeeff" in shown["machines"][0]["uuids"]
    assert shown["machine_problems"] == ["n6: its address is in the pool"]
    assert shown["upgrade"]["state"] == "halted"
    assert shown["upgrade"]["current"][0]["node"] == "n2"
    assert shown["images"] == {} or shown["images"] == {"n1": NEW}
    assert shown["nodes"]["n1"]["console"] == ""
    assert shown["refusals"] == {}
    assert "its address is in the pool" in status_text(rack, PLAIN)


def test_what_a_bmc_says_cannot_steer_the_terminal() -> None:
    evil = msgspec.structs.replace(LOCKED, problem="x\x1b[2J\nn9 joined", bmc="\x1b]0;t\x07")
    text = status_text(rack_state(with_machines(evil)), PLAIN)
    assert "\x1b" not in text
    assert not any(line.startswith("n9") for line in text.splitlines())


@pytest.mark.parametrize("room", [80, 120])
def test_a_rack_in_trouble_fits_the_terminal(room: int) -> None:
    """Forty machines that refuse a password, seven nodes given up with long reasons: no line runs over the edge."""
    locked = [
        msgspec.structs.replace(LOCKED, guid=Guid(f"{number:032x}"), bmc=f"10.97.0.{number}:623")
        for number in range(1, 46)
    ]
    given_up: dict[str, AnyRecord | None] = {}
    reason = "did not join within 300 s in 5 boots; it came as far as: script; its BMC said: unspecified error (0xff)"
    for node in ("n5", *(f"n{number}" for number in range(11, 17))):
        life = node_record(node, Lifecycle.QUARANTINED, reason)
        said = "\n".join(f"[ {line}.123456] pci 0000:00:02.0: " + "type 00 class " * 9 for line in range(30))
        given_up[node_path(NodeId(node))] = msgspec.structs.replace(life, console=said)
        given_up[member_path(R1, NodeId(node))] = None
    text = status_text(rack_state({**with_machines(*locked), **given_up}), PLAIN, room)
    assert max(map(len, text.splitlines())) <= room
    assert text.count("refuses every") == 1
    assert text.count("as above") == 39
    assert "5 more" in text
    quarantined = text[text.index("\nQUARANTINED") :].split("\n\n")[0].splitlines()
    assert sum(line.startswith("    │ ") for line in quarantined) == 5 * 12
    assert sum(line.startswith("  n") for line in quarantined) == 7
    assert "rack status --json" in quarantined[-1]
    order = [
        line.split()[0]
        for line in text[text.index("\nNODE") :].split("\n\n")[0].splitlines()
        if "why: see below" in line
    ]
    assert order == ["n5", "n11", "n12", "n13", "n14", "n15", "n16"]
