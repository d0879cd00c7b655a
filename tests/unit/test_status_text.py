"""``rack status``: one table that says what a person needs to know, also of a rack that is in trouble."""

import json

from core.ids import NodeId
from core.records import CLUSTER, ENSEMBLE, AnyRecord, Lifecycle, lease_path, member_path, node_path
from drivers.status import to_json
from drivers.status_text import short_time, status_text
from formats.columns import columns
from formats.paint import Paint, harmless
from tests.unit.made_rack import DB, R1, member_record, node_record, rack_state

PLAIN = Paint(False)


def row(text: str, first: str) -> str:
    """The line that begins with a word."""
    return next(line for line in text.splitlines() if line.split()[:1] == [first])


def test_the_headline_counts_members_and_shows_the_ensembles_change() -> None:
    first = status_text(rack_state(), PLAIN).splitlines()[0]
    assert "4 of 5 nodes are members" in first
    assert "ensemble of 3, configuration 0x100000005; led by n2" in first
    assert "its change under way: n4 n5 joining" in first


def test_each_node_has_its_state_its_session_and_what_is_special_about_it() -> None:
    text = status_text(rack_state(), PLAIN)
    assert row(text, "n1").split() == ["n1", "joined", "0x1001", "0", "voter"]
    assert row(text, "n2").split() == ["n2", "joined", "0x1002", "0", "leader", "unfit", "for", "mariadb"]
    assert "lost" in row(text, "n3")
    assert "its session ended; cycle ordered by n1, generation 3" in row(text, "n3")


def test_a_singleton_shows_its_holder_and_how_long_it_serves_by_its_own_clock() -> None:
    text = status_text(rack_state(), PLAIN)
    assert row(text, "mariadb").split()[:6] == ["mariadb", "n4", "7", "serving", "42", "s"]
    assert "1 to be fenced; 1 kept blocked" in row(text, "mariadb")
    assert "mariadb: the opening 10.0.0.1:0/6 of n3 at epoch 6 is to be fenced" in text
    assert "stays blocked until n2 boots" in text


def test_a_singleton_without_lease_is_said_to_be_held_by_nobody() -> None:
    assert "nobody holds it" in row(status_text(rack_state({lease_path(DB): None}), PLAIN), "mariadb")


def test_copies_are_counted_against_what_is_wanted() -> None:
    text = status_text(rack_state(), PLAIN)
    assert row(text, "ntp").split() == ["ntp", "3", "of", "4", "all", "but", "n5"]
    assert row(text, "web").split() == ["web", "1", "of", "3", "n1"]


def test_power_in_flight_brake_pending_and_what_is_not_reached_are_all_said() -> None:
    text = status_text(rack_state(), PLAIN)
    assert "n3: cycle, generation 3 (fence)" in row(text, "p1")
    assert "storm brake: n1 saw too many members disappear" in text
    assert "n4: mariadb epoch 7 on n4 waits for the storage to confirm a fence" in text
    assert "the agent of n5 shows nothing: connection refused" in text
    assert "the agent of n3" not in text  # a lost node's agent is not expected to answer
    assert "the ZooKeeper server of n3 does not answer: no answer in time" in text


def test_what_a_record_says_cannot_steer_the_terminal() -> None:
    evil = node_record("n5", Lifecycle.JOINED, "x\x1b]0;title\x07\x1b[2J\nn6 joined")
    text = status_text(rack_state({node_path(NodeId("n5")): evil}), PLAIN)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert not any(line.startswith("n6") for line in text.splitlines())
    assert harmless("plain é – text") == "plain é – text"


def test_colours_do_not_move_columns() -> None:
    plain = status_text(rack_state(), PLAIN)
    painted = status_text(rack_state(), Paint(True))
    assert painted != plain
    stripped = painted
    for code in ("1", "2", "31", "32", "33", "34", "0"):
        stripped = stripped.replace(f"\x1b[{code}m", "")
    assert stripped == plain


def test_a_rack_that_has_no_records_yet_is_shown_without_a_word_too_many() -> None:
    nothing: dict[str, AnyRecord | None] = dict.fromkeys(rack_state().records)
    text = status_text(rack_state(nothing), PLAIN)
    assert "0 of 5 nodes are members" in text
    assert row(text, "n1").split()[:2] == ["n1", "unknown"]
    assert "ensemble" not in text.splitlines()[0]


def test_a_large_rack_shows_only_the_nodes_that_matter() -> None:
    many = {node_path(NodeId(f"m{n:03d}")): node_record(f"m{n:03d}", Lifecycle.JOINED) for n in range(200)}
    joined = {member_path(R1, f"m{n:03d}"): member_record(f"m{n:03d}") for n in range(200)}  # type: ignore[arg-type]
    text = status_text(rack_state({**many, **joined}), PLAIN)
    assert "202 more" in text
    assert row(text, "n3")
    assert len(text.splitlines()) < 60


def test_the_object_has_what_the_table_has() -> None:
    text = to_json(rack_state())
    assert text.count("\n") == 1
    found = json.loads(text)
    assert found["nodes"]["n3"]["state"] == "lost"
    assert found["nodes"]["n2"]["unfit"] == ["mariadb"]
    assert found["singletons"]["mariadb"]["holder"] == "n4"
    assert found["singletons"]["mariadb"]["unfenced"][0]["node"] == "n3"
    assert found["copies"]["web"] == ["n1"]
    assert found["ensemble"] == {
        "voters": ["n1", "n2", "n3"],
        "config": 0x100000005,
        "leader": "n2",
        "joining": ["n4", "n5"],
        "leaving": [],
    }
    assert found["slots"]["p1"][0]["generation"] == 3
    assert found["brake"] == ["n1"]
    assert len(found["not_reached"]) == 2


def test_a_missing_cluster_record_is_no_change_under_way() -> None:
    assert "under way" not in status_text(rack_state({CLUSTER: None}), PLAIN)
    assert "led by" not in status_text(rack_state({ENSEMBLE: None}), PLAIN).splitlines()[0]


def test_columns_without_rows_are_nothing_at_all() -> None:
    assert columns(("A", "B"), [], PLAIN) == []


def test_durations_are_shown_in_their_largest_fitting_unit() -> None:
    assert [short_time(ms) for ms in (0, 1_500, 61_000, 119_000, 7_200_000, 259_200_000)] == [
        "0 s",
        "1 s",
        "61 s",
        "119 s",
        "2 h",
        "3 d",
    ]
