"""The page of a plan: one file that loads nothing, the same for the same plan, whatever the cluster."""

import re
from pathlib import Path

import pytest

from twin.capacity.joining import Joining, joining
from twin.capacity.plan import plan
from twin.report.plan import plan_page, write_plan_report
from twin.report.plan_pictures import draw_osd_pgs

ROOT = Path(__file__).parents[2]
JOIN = Joining(nodes=5, seeds=9, median_ms=150_000, low_ms=130_000, high_ms=260_000)


@pytest.fixture(scope="module")
def page() -> str:
    return plan_page(plan(ROOT / "racks" / "five-hosts", grow=(6, 7), lose="node"), JOIN)


def test_the_page_says_what_growth_brings_moves_and_takes(page: str) -> None:
    for words in ("From raw to usable bytes", "Placement groups", "What growth brings", "5 to 6 nodes", "is lost"):
        assert words in page
    assert "28 / 27" in page, "shards moved beside the least possible"
    assert "2.5 min" in page or "150.0 s" in page, "the time to join"


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "@import" not in page


def test_ids_in_its_pictures_are_not_shared(page: str) -> None:
    pictures = page.split("<svg")[1:]
    ids = [set(re.findall(r'<clipPath id="([^"]+)"', picture)) for picture in pictures]
    assert len(ids) >= 5
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_the_same_plan_gives_the_same_page(page: str) -> None:
    assert plan_page(plan(ROOT / "racks" / "five-hosts", grow=(6, 7), lose="node"), JOIN) == page


def test_a_plan_without_growth_or_loss_has_a_page_too(tmp_path: Path) -> None:
    found = plan(ROOT / "racks" / "five-hosts")
    target = write_plan_report(tmp_path / "made", found)
    assert target == tmp_path / "made" / "index.html"
    text = target.read_text("utf-8")
    assert "What growth brings" not in text
    assert "Virtual machines" in text


def test_many_osds_are_drawn_as_a_distribution() -> None:
    now = {osd: 90 + osd % 21 for osd in range(500)}
    assert "PGs on an OSD" in draw_osd_pgs(now, {osd: count - 3 for osd, count in now.items()})
    assert "PGs on an OSD" not in draw_osd_pgs({0: 3, 1: 4}, {})


def test_joining_is_measured_in_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    took = joining(5, seeds=3)
    assert 30_000 < took.low_ms <= took.median_ms <= took.high_ms < 1_200_000
    assert took == joining(5, seeds=3)
