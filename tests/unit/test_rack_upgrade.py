"""``rack upgrade``: what may begin, how far it is in words, and the rehearsal that a snapshot carries."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core.errors import InputError
from core.ids import BootId, ImageId, NodeId
from core.records import (
    UPGRADE,
    AnyRecord,
    Change,
    Lifecycle,
    MemberRecord,
    Turn,
    UpgradeRecord,
    member_path,
    node_path,
)
from drivers.access import load_access
from drivers.init import operator_file, prepare
from drivers.snapshot import take
from drivers.upgrade import Pace, begin, headline, progress, set_state, span
from drivers.upgrade_images import give, lacks, named, servers_with
from tests.real.slot_disk import an_image
from tests.unit.made_rack import NODES, R1, member_record, node_record, plan, rack_state
from twin.run import Options, run
from twin.scenario import load_scenario

OLD, NEW = ImageId("0" * 15 + "1"), ImageId("0" * 15 + "2")
N1, N2, N4, N5 = NodeId("n1"), NodeId("n2"), NodeId("n4"), NodeId("n5")


class Desk:
    """The record of the upgrade; ``meddle`` changes it between a read and the next write, so many times."""

    def __init__(self, record: UpgradeRecord | None = None, meddle: int = 0) -> None:
        self.record = record
        self.version = 3
        self.meddle = meddle

    def read(self, path: str) -> Change:
        assert path == UPGRADE
        return Change(path=path, zxid=1, version=self.version, data=self.record)

    def put(self, path: str, record: AnyRecord, version: int) -> bool:
        if self.meddle:
            self.meddle, self.version = self.meddle - 1, self.version + 1
        if version != self.version:
            return False
        return self.create(path, record)

    def create(self, path: str, record: AnyRecord) -> bool:
        assert isinstance(record, UpgradeRecord)
        self.record, self.version = record, self.version + 1
        return True


def members(**images: str) -> dict[NodeId, MemberRecord]:
    return {NodeId(node): member_record(node, image=ImageId(image)) for node, image in images.items()}


def record(**changes: object) -> UpgradeRecord:
    fields: dict[str, object] = {"image": NEW, "previous": OLD}
    return UpgradeRecord(**{**fields, **changes})  # type: ignore[arg-type]


# -- wishes ------------------------------------------------------------------------------------------------------------


def test_an_upgrade_begins_from_what_most_nodes_run() -> None:
    desk, other = Desk(), "0" * 15 + "7"
    said = begin(desk, members(n1=OLD, n2=OLD, n4=other, n5=""), NEW, 2)
    assert desk.record == record(parallel=2)
    assert said == f"upgrade of 3 nodes from {OLD} to {NEW} has begun (1 run {other}: they are taken along)"


def test_an_upgrade_that_is_done_makes_room_for_the_next() -> None:
    desk = Desk(record(state="done", done=(N1,)))
    begin(desk, members(n1=NEW), OLD, 1)
    assert desk.record == UpgradeRecord(image=OLD, previous=NEW)


@pytest.mark.parametrize(
    ("before", "images", "said"),
    [
        (None, {"n1": ""}, "no member was booted from an image"),
        (None, {"n1": NEW, "n2": NEW}, "every node that was booted from an image runs it already"),
        (
            record(image=ImageId("7" * 16)),
            {"n1": OLD},
            "an upgrade to 7777777777777777 is under way; 'rack upgrade halt'",
        ),
        (record(), {"n1": OLD}, "is under way; 'rack upgrade status' shows how far it is"),
        (
            record(state="halted", current=(Turn(node=N1, boot_id=BootId("b")),)),
            {"n1": OLD},
            "n1 is still taken back from the last one",
        ),
    ],
)
def test_what_cannot_begin_is_refused_and_says_why(
    before: UpgradeRecord | None, images: dict[str, str], said: str
) -> None:
    desk = Desk(before)
    with pytest.raises(InputError, match=said):
        begin(desk, members(**images), NEW, 1)
    assert desk.record == before


def test_halt_and_resume_keep_everything_but_the_state() -> None:
    desk = Desk(record(done=(N1,), current=(Turn(node=N2, boot_id=BootId("b")),)), meddle=2)
    assert set_state(desk, "halt") == f"the upgrade to {NEW} is halted: by the operator"
    assert desk.record == record(
        state="halted", reason="by the operator", done=(N1,), current=(Turn(node=N2, boot_id=BootId("b")),)
    )
    assert set_state(desk, "resume") == f"the upgrade to {NEW} goes on"
    assert desk.record == record(done=(N1,), current=(Turn(node=N2, boot_id=BootId("b")),))


def test_a_halt_keeps_the_reason_that_there_was() -> None:
    desk = Desk(record(state="halted", reason="n2 came back with its old image"))
    assert set_state(desk, "halt") == f"the upgrade to {NEW} is halted: n2 came back with its old image"
    assert desk.version == 3


@pytest.mark.parametrize(
    ("before", "said"), [(None, "no upgrade was ever begun"), (record(state="done"), "the upgrade to .* is done")]
)
def test_there_must_be_something_to_halt(before: UpgradeRecord | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        set_state(Desk(before), "halt")


def test_a_record_that_never_stands_still_ends_the_attempts() -> None:
    with pytest.raises(InputError, match="changed 20 times meanwhile"):
        set_state(Desk(record(), meddle=100), "halt")


# -- how far it is -----------------------------------------------------------------------------------------------------


def seen(upgrade: UpgradeRecord, **nodes: object) -> dict[str, str]:
    """What each node of a rack of four is about, by id; n3 is lost there."""
    changed: dict[str, AnyRecord | None] = {UPGRADE: upgrade}
    for node in ("n1", "n2", "n4", "n5"):
        changed[member_path(R1, NodeId(node))] = member_record(node, image=OLD)
    for node, value in nodes.items():
        path = node_path(NodeId(node)) if isinstance(value, Lifecycle) else member_path(R1, NodeId(node))
        changed[path] = node_record(node, value) if isinstance(value, Lifecycle) else value  # type: ignore[assignment]
    found = progress(rack_state(changed))
    assert found is not None
    return {row.node: row.step for row in found.rows}


def test_every_stage_of_a_turn_has_its_words() -> None:
    turn = record(current=(Turn(node=N1, boot_id=BootId("boot-n1")),))
    back = member_record("n1", image=NEW, boot_id=BootId("later"))
    bad = member_record("n1", image=NEW, boot_id=BootId("later"), storage_ok=False)
    old = member_record("n1", image=OLD, boot_id=BootId("later"))
    assert seen(turn, n1=Lifecycle.DRAINING)["n1"] == "gives its services away"
    assert seen(turn, n1=Lifecycle.MAINTENANCE)["n1"] == "stages the image"
    assert seen(turn, n1=None)["n1"] == "restarts into the new image"
    assert seen(turn, n1=back)["n1"] == "passes the health gate"
    assert seen(turn, n1=bad)["n1"] == "is back, and does not reach the storage"
    assert seen(turn, n1=old)["n1"] == "came back with its old image"
    assert seen(turn)["n2"] == "waits for its turn"
    halted = record(state="halted", current=turn.current)
    assert seen(halted, n1=None)["n1"] == "is taken back"
    assert seen(halted, n1=old)["n1"] == "goes back into service"


def test_what_is_done_and_what_is_left_is_counted_by_power_domain() -> None:
    changed: dict[str, AnyRecord | None] = {UPGRADE: record(parallel=2, done=(N1,))}
    for node, domain in (("n1", "p1"), ("n2", "p1"), ("n4", "p2"), ("n5", "p2")):
        image = NEW if node == "n1" else OLD
        changed[member_path(R1, NodeId(node))] = member_record(node, image=image, power_domain=domain)
    found = progress(rack_state(changed))
    assert found is not None
    assert (found.done, found.total, found.rounds, found.over) == (1, 4, 2, False)
    assert headline(found, Pace()).endswith("1 of 4 nodes, running; about 6 min left (3 min a turn, assumed)")


def test_the_time_left_is_measured_as_soon_as_a_whole_turn_was_seen() -> None:
    clock = [0.0]
    pace = Pace(lambda: clock[0])

    def look(at_s: float, done: tuple[NodeId, ...]) -> None:
        clock[0] = at_s
        changed: dict[str, AnyRecord | None] = {UPGRADE: record(done=done)}
        for node in ("n1", "n2", "n4", "n5"):
            image = NEW if NodeId(node) in done else OLD
            changed[member_path(R1, NodeId(node))] = member_record(node, image=image)
        found = progress(rack_state(changed))
        assert found is not None
        pace.saw(found)

    look(100, (N1,))  # we came in the middle: this turn is no measure
    look(130, (N1, N2))
    assert not pace.measured
    look(170, (N1, N2))
    look(190, (N1, N2, N4))
    assert (pace.measured, pace.turn_s) == (True, 60.0)


def test_a_halt_is_said_with_its_reason() -> None:
    found = progress(rack_state({UPGRADE: record(state="halted", reason="n4 was not back")}))
    assert found is not None
    assert (headline(found).endswith("HALTED: n4 was not back"), found.over) == (True, True)
    assert progress(rack_state()) is None


def test_durations_are_for_people() -> None:
    assert [span(seconds) for seconds in (7, 99, 130, 7_200)] == ["7 s", "99 s", "2 min", "2.0 h"]


# -- images ------------------------------------------------------------------------------------------------------------


def test_an_image_is_named_by_its_id_or_its_folder(tmp_path: Path) -> None:
    image = an_image(tmp_path, "x", 1_000)
    assert named(image) == (image, None)
    assert named(str(tmp_path / image)) == (image, tmp_path / image)
    for nonsense in ("", "x", "0123456789abcdeg", str(tmp_path), "\0", "a" * 5_000):
        with pytest.raises(InputError, match=r"--image .*: no such image; needed: an image's id"):
            named(nonsense)


def test_an_operator_has_no_boot_server_to_give_an_image_to(tmp_path: Path) -> None:
    image = an_image(tmp_path / "images", "x", 1_000)
    wanted = plan(tmp_path)
    prepare(wanted)
    with pytest.raises(InputError, match="nobody to give it to"):
        give(load_access(operator_file(wanted.out)), image, tmp_path / "images" / image)


def test_an_image_that_nobody_serves_is_not_begun_with(tmp_path: Path) -> None:
    text = "".join(f'[[node]]\nid = "n{n}"\nnumber = {n}\naddress = "127.0.0.{n + 70}"\n' for n in (1, 2, 3))
    wanted = plan(tmp_path)
    (tmp_path / "inventory.toml").write_text(text, encoding="utf-8")
    prepare(wanted)
    with pytest.raises(
        InputError, match=r"no boot server of this rack has image 0{15}2 \(n1 n2 n3: connection refused\)"
    ):
        servers_with(load_access(operator_file(wanted.out)), NEW)


def test_a_server_that_still_checks_an_image_is_waited_for() -> None:
    """Right after an image was given to it, it is busy reading all of it, and says so."""
    manifest, asked = b"{}", []

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if len(asked) > 2 else 503)
            self.end_headers()
            self.wfile.write(manifest if len(asked) > 2 else b"")

        def log_message(self, *_: object) -> None:
            """Tests say nothing."""

    image = ImageId(hashlib.sha256(manifest).hexdigest()[:16])
    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert lacks(f"127.0.0.1:{server.server_port}", image) == ""
        server.shutdown()
    assert asked == [f"/images/{image}/manifest.json"] * 3


# -- the rehearsal -----------------------------------------------------------------------------------------------------


def test_a_snapshot_carries_a_rehearsal_that_the_simulated_rack_runs(tmp_path: Path) -> None:
    """Four nodes are there, one of them installed by hand; three are upgraded."""
    wanted = plan(tmp_path, nodes=5)
    prepare(wanted)
    changed: dict[str, AnyRecord | None] = {
        member_path(R1, node): member_record(node, image=OLD if node != N1 else "") for node in NODES if node != "n3"
    }
    changed[node_path(NodeId("n3"))] = node_record("n3", Lifecycle.RETIRED)
    take(load_access(operator_file(wanted.out)), rack_state(changed), tmp_path / "snap")
    scenario = load_scenario(tmp_path / "snap" / "upgrade")
    assert [str(node) for node in scenario.rack.node_ids] == ["n1", "n2", "n4", "n5"]
    outcome = run(scenario, Options()).outcome
    assert (outcome.verdict, outcome.figures["upgraded_nodes"]) == ("pass", 3)
    assert 3 * 60_000 < outcome.figures["upgrade_ms"] < 3 * 420_000


def test_who_has_no_vote_in_the_rack_has_none_in_its_rehearsal(tmp_path: Path) -> None:
    """A rack of small images: the node that was installed by hand runs the only ZooKeeper server."""
    wanted = plan(tmp_path, nodes=5)
    prepare(wanted)
    records = {n: member_record(n, image="" if n == N1 else OLD, voter=n == N1) for n in NODES}
    changed: dict[str, AnyRecord | None] = {member_path(R1, node): member for node, member in records.items()}
    take(load_access(operator_file(wanted.out)), rack_state(changed), tmp_path / "snap")
    scenario = load_scenario(tmp_path / "snap" / "upgrade")
    assert [spec.id for spec in scenario.rack.specs if spec.voter] == [N1]
    ran = run(scenario, Options())
    assert (ran.outcome.verdict, ran.outcome.figures["upgraded_nodes"]) == ("pass", 4)
    assert {leader.voters for leader in ran.truth.leaders} == {(N1,)}
