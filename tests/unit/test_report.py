"""The report: pictures that are the same each time, and a page that stands alone."""

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from core.ids import Epoch, NodeId, ServiceName
from formats.paint import Paint
from trial.junit import to_junit
from trial.marks import NoteMark
from trial.measures import failovers, unavailable_ms
from trial.verdict import Check, Expectation, Failover, Outcome
from twin.report import FILES, write_report
from twin.report.picture import ROWS_MAX, draw_png, draw_svg, rows_of
from twin.story import Incident, Story
from twin.telling import tell
from twin.timeline import clock, failover_lines, incident_lines, verdict_lines
from twin.truth import NodeChange, Truth

DB = ServiceName("mariadb")
NODES = tuple(NodeId(f"n{number}") for number in range(1, 6))


def note(at_ms: int, by: str, kind: str, service: str = "", node: str = "", epoch: int = 0) -> NoteMark:
    return NoteMark(
        at_ms=at_ms,
        by=NodeId(by),
        kind=kind,
        service=ServiceName(service),
        node=NodeId(node),
        epoch=Epoch(epoch),
        detail="",
    )


def power_loss() -> Truth:
    """n2 holds mariadb, loses its power at 60 s, n4 takes over, n2 is back at 120 s."""
    truth = Truth()
    for node in NODES:
        truth.nodes.append(NodeChange(at_ms=0, node=node, axis="power", state="up"))
        truth.notes.append(note(1000, node, "joined"))
    truth.notes.append(note(2000, "n2", "claimed", "mariadb", epoch=1))
    truth.serving.set(DB, NodeId("n2"), Epoch(1), True, 5000)
    mark = truth.fault_begins("power_loss", "n2 <loses> its power", (NodeId("n2"),), 60_000)
    truth.serving.set(DB, NodeId("n2"), Epoch(1), False, 60_000)
    for at_ms, state in ((60_000, "off"), (120_000, "firmware"), (150_000, "up")):
        truth.nodes.append(NodeChange(at_ms=at_ms, node=NodeId("n2"), axis="power", state=state))
    truth.notes.append(note(60_600, "n3", "suspect", node="n2"))
    truth.notes.append(note(60_700, "n3", "lost", node="n2"))
    truth.notes.append(note(60_800, "n4", "claimed", "mariadb", epoch=2))
    truth.notes.append(note(61_000, "n4", "fenced", "mariadb", epoch=2))
    truth.serving.set(DB, NodeId("n4"), Epoch(2), True, 64_000)
    truth.notes.append(note(64_000, "n4", "serving", "mariadb", epoch=2))
    truth.notes.append(note(155_000, "n2", "joined"))
    truth.fault_ends(mark, 120_000)
    truth.ends(200_000)
    return truth


def story() -> Story:
    return tell(power_loss(), NODES, (DB,), 120_000, "lose-the-holder", "The holder loses power & must be back.")


def outcome() -> Outcome:
    truth = power_loss()
    return Outcome(
        verdict="pass",
        expected="pass",
        as_expected=True,
        scenario="lose-the-holder",
        seed=7,
        fidelity="protocol",
        sim_ms=200_000,
        wall_ms=100,
        events=10,
        steps=5,
        digest="ab" * 16,
        failovers=failovers(truth, (DB,)),
        checks=(Check(name="single_writer", ok=True),),
        expectations=(Expectation(name="joined", ok=True, wanted="5 nodes", got="5 nodes"),),
        unavailable_ms=unavailable_ms(truth, (DB,)),
        notes={"claimed": 2},
        converged_ms=30_000,
    )


def test_a_failover_runs_from_the_fault_to_serving_again_in_three_phases_that_add_up() -> None:
    (move,) = failovers(power_loss(), (DB,))
    assert (move.cause, move.source, move.dest, move.epoch, move.at_ms) == ("power_loss", "n2", "n4", 2, 60_000)
    assert (move.detect_ms, move.fence_ms, move.start_ms, move.total_ms) == (800, 200, 3000, 4000)


def test_unavailable_time_counts_from_the_first_service_on() -> None:
    assert unavailable_ms(power_loss(), (DB,)) == {"mariadb": 4000}
    assert unavailable_ms(power_loss(), (ServiceName("never"),)) == {"never": 200_000}


def test_bands_follow_power_and_membership() -> None:
    bands = [(b.kind, b.from_ms, b.to_ms) for b in story().bands if b.node == "n2"]
    assert bands == [
        ("up", 0, 60_000),
        ("off", 60_000, 120_000),
        ("booting", 120_000, 150_000),
        ("up", 150_000, 200_000),
        ("joined", 1000, 60_600),
        ("suspect", 60_600, 60_700),
        ("lost", 60_700, 155_000),
        ("joined", 155_000, 200_000),
    ]


def test_a_suspicion_that_nothing_follows_does_not_last() -> None:
    truth = power_loss()
    truth.notes.append(note(160_000, "n3", "suspect", node="n5"))
    bands = tell(truth, NODES, (DB,), 120_000, "t", "w").bands
    assert [(b.kind, b.from_ms, b.to_ms) for b in bands if b.node == "n5"][-3:] == [
        ("joined", 1000, 160_000),
        ("suspect", 160_000, 162_000),
        ("joined", 162_000, 200_000),
    ]


def test_holdings_are_claimed_then_serving() -> None:
    holds = [(h.node, h.epoch, h.serving, h.from_ms, h.to_ms) for h in story().holds]
    assert holds == [
        ("n2", 1, False, 2000, 5000),
        ("n2", 1, True, 5000, 60_000),
        ("n4", 2, False, 60_800, 64_000),
        ("n4", 2, True, 64_000, 200_000),
    ]


def test_the_same_story_gives_the_same_picture() -> None:
    assert draw_svg(story()) == draw_svg(story())
    assert draw_png(story()) == draw_png(story())


@pytest.mark.parametrize("count", [1, 5, 40, 1000])
def test_the_picture_has_a_row_for_every_node_of_a_rack_and_stays_small_for_a_cell(count: int) -> None:
    nodes = tuple(f"n{number}" for number in range(count))
    many = msgspec.structs.replace(story(), nodes=nodes)
    rows = rows_of(many)
    assert len(rows) == min(count, ROWS_MAX)
    assert count < 5 or {"n2", "n4"} <= set(rows)
    width, height = struct.unpack(">II", draw_png(many)[16:24])
    assert 1000 <= width <= 2000
    assert height <= 3000


def test_a_run_without_anything_in_it_can_be_drawn() -> None:
    empty = Story(title="", why="", nodes=(), heal_ms=0, end_ms=0, bands=(), holds=(), marks=(), incidents=())
    assert "<svg" in draw_svg(empty)


class Page(HTMLParser):
    """Collects the text and every reference of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_stands_alone_and_tells_everything(tmp_path: Path) -> None:
    page = write_report(tmp_path / "deep" / "report", story(), outcome())
    assert sorted(path.name for path in page.parent.iterdir()) == sorted(FILES)
    html = page.read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(html)
    assert [link for link in parsed.links if not link.startswith("#")] == []
    assert not re.search(r"url\((?!#)|@import|fetch\(|<link", html)
    text = " ".join(parsed.text)
    for word in ("lose-the-holder", "single writer", "power_loss", "ab" * 16, "n2 <loses> its power", "4,000 ms"):
        assert word in text
    assert json.loads((page.parent / "outcome.json").read_bytes())["verdict"] == "pass"


def test_a_report_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "file" / "report", story(), outcome())


def test_the_terminal_gets_colours_only_when_asked() -> None:
    for colours in (False, True):
        paint = Paint(colours)
        lines = [*incident_lines(story(), paint), *failover_lines(outcome().failovers, paint)]
        lines += verdict_lines(outcome(), paint)
        assert ("\x1b" in "\n".join(lines)) is colours


def test_the_same_fact_stated_by_many_nodes_is_one_line() -> None:
    lines = [line for line in incident_lines(story(), Paint(False)) if "joined" in line]
    assert len(lines) == 2
    assert "5 nodes" in lines[0]


def test_a_long_timeline_is_cut_in_the_middle() -> None:
    incidents = tuple(
        Incident(at_ms=at_ms, level="info", node="n1", service="", kind="x", text=f"line {at_ms}")
        for at_ms in range(0, 1_000_000, 2000)
    )
    lines = incident_lines(msgspec.structs.replace(story(), incidents=incidents), Paint(False))
    assert len(lines) == 121
    assert "380 more lines" in lines[60]


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0:00.000"), (61_007, "1:01.007"), (3_600_000, "1:00:00.000"), (90_000_000, "1d 1:00:00.000")]
)
def test_times_are_shown_as_clocks(ms: int, text: str) -> None:
    assert clock(ms) == text


def test_the_phase_bar_of_a_failover_has_no_letter_for_a_phase_of_no_length() -> None:
    move = Failover(
        service="s",
        cause="c",
        source="a",
        dest="b",
        epoch=2,
        at_ms=0,
        detect_ms=10,
        fence_ms=0,
        start_ms=10,
        total_ms=20,
    )
    assert failover_lines([move], Paint(False))[1].split()[0] == "d" * 24 + "s" * 24


def test_junit_has_a_case_for_each_check_expectation_and_the_verdict() -> None:
    broken = (Check(name="single_writer", ok=False, detail="n1 & n2 <both>\x00"),)
    bad = msgspec.structs.replace(outcome(), verdict="safety", as_expected=False, checks=broken)
    xml = to_junit(bad)
    assert xml.count("<testcase") == 3
    assert 'failures="2"' in xml
    assert "n1 &amp; n2 &lt;both&gt;?" in xml
    assert 'failures="0"' in to_junit(outcome())
