"""What an agent leaves in ``run_dir``: its view, its problems, where its journal went and why it stepped down."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from core import effects as fx
from core.events import StorageSeen
from core.ids import NodeId
from core.machine import Machine
from core.view import NodeView
from drivers import view_file
from drivers.config import NodeTables
from drivers.journal_file import JournalBroken, segments
from drivers.journal_place import clear_reason, give_reason, open_journal, reason_in
from drivers.view_file import ViewFile
from tests.unit.test_journal_file import OPENING, events
from twin.journals import read_journal
from twin.replay import replay


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    clock = [10_000]
    monkeypatch.setattr(view_file, "now_ms", lambda: clock[0])
    return clock


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((folder / "view.json").read_bytes())
    return found


def at(ms: int) -> NodeView:
    return msgspec.structs.replace(Machine(OPENING).view(), at_ms=ms)


def test_a_view_is_written_once_a_second_and_soon_after_a_note(tmp_path: Path, now: list[int]) -> None:
    shown = ViewFile(tmp_path, {"pid": 1})
    shown.take(at(1))
    shown.take(at(2))
    assert written(tmp_path)["at_ms"] == 1
    now[0] += 1_000
    shown.look()
    assert written(tmp_path)["at_ms"] == 2
    shown.note(fx.Note(kind="joined", node=NodeId("n1")))
    now[0] += 50
    shown.take(at(3))
    assert written(tmp_path)["at_ms"] == 2
    now[0] += 60
    shown.look()
    assert written(tmp_path)["at_ms"] == 3
    assert written(tmp_path)["agent"]["notes"][0]["kind"] == "joined"


def test_it_reads_back_as_a_view(tmp_path: Path) -> None:
    view = ViewFile(tmp_path, {}).take(at(7))
    assert msgspec.json.decode((tmp_path / "view.json").read_bytes(), type=NodeView) == view


def test_a_problem_of_the_agent_is_the_first_thing_pending(tmp_path: Path) -> None:
    shown = ViewFile(tmp_path, {})
    shown.take(at(1))
    shown.problem("journal", "the disk is full")
    shown.write()
    assert written(tmp_path)["pending"][0] == "the disk is full"
    shown.take(at(2))
    shown.write()
    assert [text for text in written(tmp_path)["pending"] if text == "the disk is full"] == ["the disk is full"]


def test_a_folder_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    ViewFile(tmp_path / "missing", {}).take(at(1))


def test_only_the_latest_notes_are_kept(tmp_path: Path) -> None:
    shown = ViewFile(tmp_path, {})
    for number in range(100):
        shown.note(fx.Note(kind="suspect", detail=str(number)))
    shown.take(at(1))
    assert [note["detail"] for note in written(tmp_path)["agent"]["notes"]] == [str(n) for n in range(80, 100)]


# -- where the journal goes --------------------------------------------------------------------------------------------


def tables(tmp_path: Path) -> NodeTables:
    state, run = tmp_path / "state", tmp_path / "run"
    run.mkdir()
    return NodeTables(node="n1", inventory=tmp_path, catalog=tmp_path, state_dir=state, run_dir=run)


def test_only_a_hand_over_may_write_elsewhere(tmp_path: Path) -> None:
    place = tables(tmp_path)
    place.state_dir.write_text("not a folder")
    with pytest.raises(JournalBroken):
        open_journal(place, OPENING, 1, 0, spill=False)
    journal = open_journal(place, OPENING, 1, 0, spill=True)
    journal.close()
    assert len(segments(place.run_dir / "journal")) == 1


def test_a_journal_that_breaks_during_a_hand_over_goes_on_from_the_state_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, machine = tables(tmp_path), Machine(OPENING)
    journal = open_journal(place, OPENING, 1, 0, spill=True)
    for number, event in enumerate([*events(0, 5), StorageSeen(at_ms=900, ok=False)]):
        if number == 4:
            first = journal._now  # type: ignore[attr-defined]
            monkeypatch.setattr(first, "step", _no_room)
        journal.event(event.at_ms, event)
        for effect in machine.step(event):
            journal.effect(event.at_ms, effect)
        journal.step(event.at_ms, machine.snapshot)
    journal.close()
    (path,) = segments(place.run_dir / "journal")
    done = replay(read_journal(path), Machine, Machine.restore)
    assert (done.difference, done.events) == (None, 9)


def _no_room(*_: object) -> None:
    raise JournalBroken("no room")


def test_the_reason_for_stepping_down_outlives_the_agent(tmp_path: Path) -> None:
    assert reason_in(tmp_path) == ""
    give_reason(tmp_path, "the disk is full")
    assert reason_in(tmp_path) == "the disk is full"
    clear_reason(tmp_path)
    clear_reason(tmp_path)
    assert reason_in(tmp_path) == ""
    give_reason(tmp_path / "missing", "and where nothing can be left, nothing is")
