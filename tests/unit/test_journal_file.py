"""The journal on disk: replays byte for byte, in segments that replay alone, through crashes and full disks."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.events import AnyEvent, PeerHeard, PeerSilent, SessionOpened, Started, StorageSeen, TimerFired
from core.ids import NO_SESSION, BootId, DomainId, NodeId, RackId, ServiceName, SessionId
from core.journal import Opening
from core.machine import Machine
from core.specs import NodeSpec, ServiceSpec, Timing
from drivers.journal_file import KEPT, JournalBroken, JournalFile, segments
from twin.journals import read_journal
from twin.replay import Replayed, replay

NODE = NodeSpec(id=NodeId("n1"), rack=RackId("r1"), power_domain=DomainId("p1"))
OTHER = NodeSpec(id=NodeId("n2"), rack=RackId("r1"), power_domain=DomainId("p1"))
OPENING = Opening(
    node=NODE,
    timing=Timing(),
    services=(ServiceSpec(name=ServiceName("dns"), run="everywhere"),),
    inventory=(NODE, OTHER),
)
BIG = 1 << 30


def events(start_ms: int, count: int) -> Iterator[AnyEvent]:
    """A life of a node: it starts, joins, and hears and misses a peer again and again."""
    yield Started(at_ms=start_ms, boot_id=BootId("b1"), session=NO_SESSION)
    yield SessionOpened(at_ms=start_ms + 1, session=SessionId(7), resumed=False)
    yield StorageSeen(at_ms=start_ms + 2, ok=True)
    for number in range(count):
        at_ms = start_ms + 10 + 10 * number
        yield PeerSilent(at_ms=at_ms, node=OTHER.id) if number % 2 else PeerHeard(at_ms=at_ms, node=OTHER.id)
        yield TimerFired(at_ms=at_ms + 1, timer="ensemble")


class Life:
    """One agent process that writes its journal."""

    def __init__(self, folder: Path, incarnation: int = 1, bytes_max: int = BIG, start_ms: int = 0) -> None:
        self.machine = Machine(OPENING)
        self.journal = JournalFile(folder, OPENING, incarnation, start_ms, bytes_max)
        self.start_ms = start_ms

    def live(self, count: int, after: Callable[[], None] = lambda: None) -> None:
        """Live through events; ``after`` each of them."""
        for event in events(self.start_ms, count):
            self.journal.event(event.at_ms, event)
            for effect in self.machine.step(event):
                self.journal.effect(event.at_ms, effect)
            self.journal.step(event.at_ms, self.machine.snapshot)
            after()


def replayed(path: Path) -> Replayed:
    return replay(read_journal(path), Machine, Machine.restore)


def test_a_journal_replays_byte_for_byte(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.live(100)
    life.journal.close()
    (path,) = segments(tmp_path)
    done = replayed(path)
    assert done.difference is None
    assert (done.machines, done.events, done.skipped) == (1, 203, 0)
    assert done.effects > 2


def test_a_journal_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.live(3)
    assert replayed(life.journal.path).events == 9
    life.journal.close()


def test_every_segment_of_a_rotated_journal_replays_alone(tmp_path: Path) -> None:
    life = Life(tmp_path, bytes_max=8_000)
    life.live(1_000)
    life.journal.close()
    found = segments(tmp_path)
    assert len(found) == KEPT
    assert found[0].name != "journal-00000001.jsonl"
    for path in found:
        assert [line.kind for line in read_journal(path)[:2]] == ["open", "snapshot"]
        done = replayed(path)
        assert done.difference is None
        assert done.events > 10
        assert path.stat().st_size < 8_000 + 4_000


def test_segments_in_a_row_replay_as_one_journal(tmp_path: Path) -> None:
    life = Life(tmp_path / "j", bytes_max=8_000)
    life.live(200)
    life.journal.close()
    whole = tmp_path / "whole"
    whole.write_bytes(b"".join(path.read_bytes() for path in segments(tmp_path / "j")))
    assert replayed(whole).difference is None


def test_the_next_agent_goes_on_in_the_same_segment(tmp_path: Path) -> None:
    for incarnation in (1, 2, 3):
        life = Life(tmp_path, incarnation, start_ms=10_000 * incarnation)
        life.live(5)
        life.journal.close()
    (path,) = segments(tmp_path)
    done = replayed(path)
    assert (done.machines, done.difference) == (3, None)


@pytest.mark.parametrize("lost", [1, 7, 60])
def test_what_a_crash_tears_off_the_last_line_is_cut_away_by_the_next_agent(tmp_path: Path, lost: int) -> None:
    life = Life(tmp_path, 1)
    life.live(5)
    life.journal.close()
    path = life.journal.path
    os.truncate(path, path.stat().st_size - lost)
    assert replayed(path).difference is None
    life = Life(tmp_path, 2, start_ms=1_000)
    life.live(5)
    life.journal.close()
    done = replayed(path)
    assert (done.machines, done.difference) == (2, None)


def test_a_segment_without_one_whole_line_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "journal-00000004.jsonl").write_bytes(b"x" * 200_000)
    life = Life(tmp_path)
    life.live(2)
    life.journal.close()
    assert life.journal.path.name == "journal-00000004.jsonl"
    assert replayed(life.journal.path).difference is None


def test_only_its_owner_may_read_a_journal(tmp_path: Path) -> None:
    life = Life(tmp_path / "journal")
    life.journal.close()
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert life.journal.path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalBroken, match="not a directory; remedy"):
        JournalFile(tmp_path / "file" / "journal", OPENING, 1, 0, BIG)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_ends_the_journal_at_a_whole_line(small_disk: Path) -> None:
    life = Life(small_disk)
    with pytest.raises(JournalBroken, match="no space left on device"):
        life.live(10_000)
    life.journal.close()
    assert life.journal.path.read_bytes().endswith(b"\n")
    assert replayed(life.journal.path).difference is None


def test_a_disk_that_is_full_at_the_start_is_noticed_at_the_start(small_disk: Path) -> None:
    (small_disk / "junk").write_bytes(b"x" * (64 << 10))
    with pytest.raises(JournalBroken, match="no space left on device"):
        JournalFile(small_disk, OPENING, 1, 0, BIG)


def test_rotation_makes_room_before_it_needs_it(small_disk: Path) -> None:
    life = Life(small_disk, bytes_max=5_000)
    life.live(200, after=lambda: wait_until_closed(small_disk))
    life.journal.close()
    assert len(segments(small_disk)) == KEPT


def wait_until_closed(folder: Path) -> None:
    """Wait for the thread that closes what was deleted in a folder: until then it takes up room there."""
    end = time.monotonic() + 30
    while any(name.startswith(str(folder)) and name.endswith("(deleted)") for name in open_files()):
        assert time.monotonic() < end, "a deleted segment is still open"
        time.sleep(0.001)


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(path.readlink()))
    return found


def test_a_disk_that_does_not_answer_breaks_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(tmp_path)
    monkeypatch.setattr(life.journal._sync, "_since_ms", 0)
    with pytest.raises(JournalBroken, match="does not answer"):
        life.live(1)
    life.journal.close()
