"""Explaining a move from its journal alone: cause, chain, the previous holder's own view."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core import effects as fx
from core import events as ev
from core.effects import AnyEffect
from core.errors import InputError
from core.events import AnyEvent
from core.ids import BootId, DomainId, Epoch, NodeId, OpId, RackId, ServiceName, SessionId, VolumeName
from core.journal import Opening, encode, write_line
from core.records import Change, Instance, LeaseRecord, TermRecord, lease_path, term_path
from core.specs import NodeSpec, ServiceSpec, Timing
from formats.paint import Paint
from twin.explain import explain, to_text
from twin.journals import read_journal

DB = ServiceName("mariadb")
VOLUME = VolumeName("mariadb-data")
OLD = Instance(node=NodeId("n2"), boot_id=BootId("b2"), epoch=Epoch(1), address="10.0.0.2:0/11")
NEW = Instance(node=NodeId("n4"), boot_id=BootId("b4"), epoch=Epoch(2), address="10.0.0.4:0/12")


class Writer:
    """Writes journal lines of any node."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def open(self, *nodes: str) -> None:
        for node in nodes:
            spec = NodeSpec(id=NodeId(node), rack=RackId("r1"), power_domain=DomainId("p1"))
            service = ServiceSpec(name=DB, run="singleton", volume=VOLUME)
            opening = Opening(node=spec, timing=Timing(), services=(service,))
            self.raw.append(write_line(0, NodeId(node), 1, "open", encode(opening)))

    def event(self, node: str, event: AnyEvent) -> None:
        self.raw.append(write_line(event.at_ms, NodeId(node), 1, "event", encode(event)))

    def effect(self, node: str, at_ms: int, effect: AnyEffect) -> None:
        self.raw.append(write_line(at_ms, NodeId(node), 1, "effect", encode(effect)))

    def done(self, node: str, at_ms: int, op: int, result: ev.Result | None = None) -> None:
        self.event(node, ev.OpSucceeded(at_ms=at_ms, op=OpId(op), result=result or ev.Done()))

    def save(self, folder: Path) -> Path:
        path = folder / "journal.jsonl"
        path.write_bytes(b"".join(self.raw))
        return path


def claim(node: str, epoch: int, op: int, unfenced: tuple[Instance, ...] = ()) -> fx.Commit:
    session = SessionId(100 + epoch)
    term = TermRecord(epoch=Epoch(epoch), holder=NodeId(node), session=session, unfenced=unfenced)
    lease = LeaseRecord(node=NodeId(node), session=session, epoch=Epoch(epoch))
    writes = (
        fx.Create(path=lease_path(DB), data=lease, ephemeral=True),
        fx.Put(path=term_path(DB), data=term, version=epoch - 1),
    )
    return fx.Commit(op=OpId(op), session=session, writes=writes, ms_max=2000)


def first_holder(writer: Writer) -> None:
    writer.open("n2", "n3", "n4")
    writer.effect("n2", 1000, claim("n2", 1, 1))
    writer.done("n2", 1010, 1)
    writer.effect("n2", 1010, fx.Note(kind="claimed", service=DB, epoch=Epoch(1)))
    writer.effect("n2", 3000, fx.Note(kind="serving", service=DB, epoch=Epoch(1)))
    writer.event("n2", ev.TimerFired(at_ms=59_990, timer="beat"))


def takeover(writer: Writer, at_ms: int) -> None:
    """n4 claims at ``at_ms``, fences, opens, starts and serves."""
    gone = Change(path=lease_path(DB), zxid=9)
    writer.event("n4", ev.RecordsChanged(at_ms=at_ms - 10, changes=(gone,)))
    writer.effect("n4", at_ms - 10, claim("n4", 2, 5, (OLD,)))
    writer.done("n4", at_ms, 5)
    writer.effect("n4", at_ms, fx.Note(kind="claimed", service=DB, epoch=Epoch(2)))
    fence = fx.FenceInstance(op=OpId(6), volume=VOLUME, instance=OLD, block_ms=3_600_000, ms_max=5000)
    writer.effect("n4", at_ms, fence)
    writer.done("n4", at_ms + 87, 6)
    opening = fx.OpenVolume(op=OpId(7), service=DB, volume=VOLUME, epoch=Epoch(2), ms_max=5000)
    writer.effect("n4", at_ms + 87, opening)
    writer.done("n4", at_ms + 100, 7, ev.VolumeOpened(instance=NEW))
    start = fx.StartService(op=OpId(8), service=DB, epoch=Epoch(2), instance=NEW, ms_max=30_000)
    writer.effect("n4", at_ms + 110, start)
    writer.done("n4", at_ms + 2110, 8)
    writer.effect("n4", at_ms + 2110, fx.Note(kind="serving", service=DB, epoch=Epoch(2)))


def power_loss(writer: Writer) -> None:
    first_holder(writer)
    for node in ("n3", "n4"):
        writer.event(node, ev.PeerSilent(at_ms=60_600, node=NodeId("n2")))
    writer.effect("n3", 60_600, fx.ReadPower(op=OpId(3), node=NodeId("n2"), ms_max=2000))
    writer.done("n3", 60_640, 3, ev.PowerSeen(on=False))
    writer.effect("n3", 60_640, fx.CloseSession(op=OpId(4), session=SessionId(101), ms_max=2000))
    writer.done("n3", 60_660, 4)
    takeover(writer, 60_700)


@pytest.fixture
def told(tmp_path: Path) -> Callable[[Writer], str]:
    def tell(writer: Writer) -> str:
        path = writer.save(tmp_path)
        return to_text(explain(read_journal(path), "mariadb", str(path)), Paint(False))

    return tell


def test_a_power_loss_is_told_from_the_silence_to_serving_again(tmp_path: Path) -> None:
    writer = Writer()
    power_loss(writer)
    path = writer.save(tmp_path)
    first, move = explain(read_journal(path), "mariadb", str(path)).moves
    assert (first.source, first.dest, first.epoch) == ("", "n2", 1)
    assert (move.source, move.dest, move.epoch, move.claim_ms, move.serving_ms) == ("n2", "n4", 2, 60_700, 62_810)
    assert move.first_ms == 59_990
    assert "BMC proved it off" in move.cause
    kinds = [step.kind for step in move.steps]
    wanted = ["silence", "silent", "power_off", "closed_session", "lease_gone", "claim", "fenced", "opened"]
    wanted += ["admission", "started_service", "note:serving"]
    assert [kind for kind in kinds if kind in wanted] == wanted
    assert [step.at_ms for step in move.steps] == sorted(step.at_ms for step in move.steps)


def test_the_text_gives_times_relative_to_the_first_cause_and_how_long_the_fence_took(
    told: Callable[[Writer], str],
) -> None:
    writer = Writer()
    power_loss(writer)
    text = told(writer)
    assert "serving again 2820 ms after the first cause" in text
    assert "+0 ms  n2" in text
    assert "10.0.0.2:0/11, n2's opening of epoch 1 (87 ms)" in text
    assert "(so do n4)" in text
    assert "\x1b" not in text


def test_without_an_early_close_a_silent_holder_lost_its_session_by_expiry(told: Callable[[Writer], str]) -> None:
    writer = Writer()
    first_holder(writer)
    takeover(writer, 62_500)
    assert "why: n2 went silent and its session expired" in told(writer)


def test_a_holder_that_lived_on_was_cut_off_and_its_own_view_is_told(told: Callable[[Writer], str]) -> None:
    writer = Writer()
    first_holder(writer)
    for at_ms in range(60_000, 62_500, 100):
        writer.event("n2", ev.TimerFired(at_ms=at_ms, timer="beat"))
    takeover(writer, 62_500)
    for at_ms in range(62_500, 63_000, 100):
        writer.event("n2", ev.TimerFired(at_ms=at_ms, timer="beat"))
    writer.event("n2", ev.RightExpired(at_ms=63_000, service=DB, epoch=Epoch(1)))
    text = told(writer)
    assert "expired though it was alive: it was cut off" in text
    assert "what n2 saw:" in text
    assert "its right to serve ran out" in text


def test_a_clean_hand_over_names_the_drain(told: Callable[[Writer], str]) -> None:
    writer = Writer()
    first_holder(writer)
    writer.effect("n2", 60_000, fx.Note(kind="draining", detail="the operator asked"))
    term = TermRecord(epoch=Epoch(1), holder=NodeId("n2"), released=(OLD,), stopped=True)
    writes = (fx.Put(path=term_path(DB), data=term, version=1), fx.Remove(path=lease_path(DB), version=0))
    writer.effect("n2", 60_500, fx.Commit(op=OpId(9), session=SessionId(101), writes=writes, ms_max=2000))
    writer.done("n2", 60_510, 9)
    writer.event("n2", ev.TimerFired(at_ms=60_600, timer="beat"))
    takeover(writer, 60_700)
    text = told(writer)
    assert "why: the holder was drained" in text
    assert "gave the lease up after a clean stop" in text


def test_a_claim_that_never_served_says_so(told: Callable[[Writer], str]) -> None:
    writer = Writer()
    writer.open("n2")
    writer.effect("n2", 1000, claim("n2", 1, 1))
    writer.done("n2", 1010, 1)
    assert "it never admitted clients in this epoch" in told(writer)


def test_an_unknown_service_is_bad_input_with_the_nearest_name(tmp_path: Path) -> None:
    writer = Writer()
    writer.open("n2")
    path = writer.save(tmp_path)
    with pytest.raises(InputError, match='did you mean "mariadb"'):
        explain(read_journal(path), "mariabd", str(path))


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    writer = Writer()
    power_loss(writer)
    writer.raw.append(b'[99,"n2",1,"ev')
    path = writer.save(tmp_path)
    assert len(read_journal(path)) == len(writer.raw) - 1


@pytest.mark.parametrize(
    "junk", [b"", b"nonsense\n\n", b'[1,"n1",1,"event",{}]\nx\n', b"\xff\xfe\n\n", b"[" * 5000 + b"\n\n"]
)
def test_a_file_that_is_no_journal_is_bad_input(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(junk)
    with pytest.raises(InputError):
        read_journal(path)


def test_a_missing_journal_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_journal(tmp_path / "nowhere")
