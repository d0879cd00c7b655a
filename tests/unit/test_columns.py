"""Tables for a terminal: nothing runs over its edge, nothing is lost, and a table that fits is left as it is."""

import re

import pytest

from formats.columns import columns, in_order, room_here, wrapped
from formats.paint import Paint

PLAIN, COLOURED = Paint(False), Paint(True)
HEAD = ("FOUND AT", "MACHINE", "WHY")
UUID = "11111111-2222-3333-4444-555555555506"
WHY = "refuses every credential given for it (factory, lab); looking again and again, each is tried once an hour"


def bare(lines: list[str]) -> list[str]:
    """Lines without their colours."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


@pytest.mark.parametrize("paint", [PLAIN, COLOURED])
@pytest.mark.parametrize("room", [60, 79, 80, 100, 120, 200])
def test_no_line_runs_over_the_edge_and_no_word_is_lost(paint: Paint, room: int) -> None:
    rows = [("10.97.0.9:623", UUID, paint.bad(WHY)), ("10.97.0.10:623", UUID, "fine"), ("10.97.0.11:623", UUID, "")]
    lines = bare(columns(HEAD, rows, paint, room))
    assert max(map(len, lines)) <= room
    said = " ".join(" ".join(lines).split())
    for word in (*WHY.split(), "fine", "10.97.0.11:623"):
        assert word in said.split(), "whole words, each of them"
    assert said.count(UUID) == 3


def test_what_fits_is_one_line_a_row_and_without_a_terminal_everything_is() -> None:
    rows = [("a", UUID, WHY)]
    assert len(columns(HEAD, rows, PLAIN, 300)) == 2
    assert columns(HEAD, rows, PLAIN, 300) == columns(HEAD, rows, PLAIN) == columns(HEAD, rows, PLAIN, 0)
    assert columns(HEAD, [], PLAIN, 80) == []


def test_sentences_are_wrapped_in_their_column_or_below_their_row() -> None:
    rows = [("10.97.0.9:623", UUID, WHY), ("10.97.0.10:623", UUID, "as above")]
    wide = columns(HEAD, rows, PLAIN, 100, "as above")
    at = wide[0].index("WHY")
    assert [line[at:].strip() for line in wide[1:3]] == [
        "refuses every credential given for it",
        "(factory, lab); looking again and again, each",
    ]
    assert wide[2][:at].strip() == ""
    narrow = columns(HEAD, rows, PLAIN, 66, "as above")
    assert "WHY" not in narrow[0]
    assert narrow[2].startswith("    refuses every credential")
    assert narrow[-1].split() == ["10.97.0.10:623", UUID, "as", "above"]
    assert columns(HEAD, rows, PLAIN, 56, "as above")[-1].split() == ["10.97.0.10:623", UUID]


def test_each_line_of_a_coloured_text_has_its_colour_and_ends_it() -> None:
    lines = wrapped(COLOURED.bad(WHY), 50, 2, 4)
    assert len(lines) > 2
    assert all(re.fullmatch(r" +\x1b\[31m[^\x1b]+\x1b\[0m", line) for line in lines)
    assert [len(line) - len(line.lstrip()) for line in lines] == [2, *[4] * (len(lines) - 1)]
    assert wrapped("short", 50, 2, 4) == ["  short"]


def test_names_are_ordered_as_people_count() -> None:
    assert sorted(["n10", "n2", "r1-n3", "n1", "r1-n20", "7"], key=in_order) == [
        "7",
        "n1",
        "n2",
        "n10",
        "r1-n3",
        "r1-n20",
    ]


def test_a_pipe_gets_whole_lines_unless_it_says_how_wide_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del capsys  # standard output is no terminal here
    monkeypatch.delenv("COLUMNS", raising=False)
    assert room_here() == 0
    monkeypatch.setenv("COLUMNS", "97")
    assert room_here() == 97
    monkeypatch.setenv("COLUMNS", "3")
    assert room_here() == 40
