"""The loader of recorded failures: what it reads, merges and refuses."""

import lzma
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError
from twin.failures.lanl import load
from twin.failures.outage import CAUSES, Outage, merge

HEADER = (
    "System,machine type,nodes,procstot,procsinnode,nodenum,nodenumz,node install,node prod,node decom,fru type,mem,"
    "cputype,memtype,num intercon,purpose,Prob Started,Prob Fixed,Down Time,Facilities,Hardware,Human Error,Network,"
    "Undetermined,Software,Same Event"
)
MINUTE_MS = 60_000
DATA = Path(os.environ.get("MOXIE_DATA", Path(__file__).parents[3] / "shared" / "data"))
RECORDED = DATA / "failures" / "lanl" / "LA-UR-05-7318-failure-data-1996-2005.csv.xz"


def line(node: int = 0, started: str = "6/21/2005 10:00", fixed: str = "6/21/2005 11:00", **cause: str) -> str:
    causes = [
        cause.get(name, "") for name in ("facilities", "hardware", "human", "network", "undetermined", "software")
    ]
    head = f"2,cluster,49,6152,80,{node},{node},5-Apr,5-Jun,current,part,80,1,1,0,compute"
    return f"{head},{started},{fixed},60,{','.join(causes)},No"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return path


def test_time_counts_from_the_first_record_of_the_system(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(1, "6/22/2005 00:00", "6/22/2005 00:30", software="OS"),
        line(0, hardware="Power Supply"),
        "3," + line(0, "1/1/1999 00:00", "1/1/1999 01:00").split(",", 1)[1],
    )
    trace = load(path, 2)
    assert trace.nodes == 49
    assert trace.started == "2005-06-21"
    assert trace.outages == (
        Outage(node=0, start_ms=0, end_ms=60 * MINUTE_MS, cause="hardware", detail="Power Supply"),
        Outage(node=1, start_ms=840 * MINUTE_MS, end_ms=870 * MINUTE_MS, cause="software", detail="OS"),
    )
    assert [outage.fault for outage in trace.outages] == ["power_loss", "node_crash"]
    assert trace.duration_ms == 870 * MINUTE_MS
    assert trace.down_ms() == 90 * MINUTE_MS
    assert trace.causes()["hardware"] == 1


def test_overlapping_records_of_a_node_become_one_outage_with_the_first_cause(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(5, "6/21/2005 10:30", "6/21/2005 12:00", software="OS"),
        line(5, network="Network"),
        line(6, "6/21/2005 10:30", "6/21/2005 10:40"),
        line(5, network="Network"),
    )
    trace = load(path, 2)
    assert (trace.records, trace.merged) == (4, 2)
    assert [(o.node, o.start_ms, o.end_ms, o.cause) for o in trace.outages] == [
        (5, 0, 120 * MINUTE_MS, "network"),
        (6, 30 * MINUTE_MS, 40 * MINUTE_MS, "undetermined"),
    ]


def test_an_outage_of_no_length_lasted_a_minute(tmp_path: Path) -> None:
    trace = load(write(tmp_path, line(0, "6/21/2005 10:00", "6/21/2005 10:00", facilities="UPS")), 2)
    assert trace.outages[0].end_ms == MINUTE_MS
    assert trace.outages[0].fault == "power_loss"


def test_a_compressed_file_reads_the_same(tmp_path: Path) -> None:
    plain = write(tmp_path, line(0), line(3, network="Network"))
    packed = tmp_path / "trace.csv.xz"
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    assert load(packed, 2).outages == load(plain, 2).outages


def test_all_problems_of_a_file_are_named_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(0, "21.6.2005", "6/21/2005 11:00"),
        line(0),
        line(0, "6/21/2005 11:00", "6/21/2005 10:00"),
        line(0, network="Network", software="OS"),
        "2,cluster",
        "two" + line(0)[1:],
    )
    with pytest.raises(InputError) as caught:
        load(path, 2)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "line 2",
        "line 4",
        "line 5",
        "line 6",
        "line 7",
    ]
    assert "21.6.2005" in caught.value.problems[0]


def test_a_system_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trace\.system: 9: no record of it; systems there: 2$"):
        load(write(tmp_path, line(0)), 9)


def test_a_file_that_is_missing_or_torn_is_bad_input(tmp_path: Path) -> None:
    torn = tmp_path / "torn.csv.xz"
    torn.write_bytes(lzma.compress(HEADER.encode() * 100)[:60])
    for path in (tmp_path / "missing.csv", torn, tmp_path):
        with pytest.raises(InputError):
            load(path, 2)


CELL = st.sampled_from(
    ["", "2", "-1", "9" * 30, "²", "6/21/2005 10:00", "1/1/1 1:1", "Network", '"', "x,y", "\x00", "\n"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELL, min_size=24, max_size=27), max_size=4), junk=st.binary(max_size=40))
def test_no_file_makes_the_loader_fall_over(rows: list[list[str]], junk: bytes, tmp_path: Path) -> None:
    body = HEADER + "\n" + "\n".join("2," + ",".join(row[1:]) for row in rows)
    for name, content in (("a.csv", body.encode() + junk), ("b.csv", junk), ("c.csv.xz", junk)):
        path = tmp_path / name
        path.write_bytes(content)
        try:
            trace = load(path, 2)
        except InputError:
            continue
        assert all(outage.start_ms < outage.end_ms for outage in trace.outages)


OUTAGE = st.builds(
    lambda node, start, length, cause: Outage(node=node, start_ms=start, end_ms=start + length, cause=cause),
    st.integers(0, 2),
    st.integers(0, 40),
    st.integers(1, 10),
    st.sampled_from(CAUSES),
)


@given(st.lists(OUTAGE, max_size=12))
def test_merging_keeps_every_minute_down_and_leaves_no_overlap(outages: list[Outage]) -> None:
    def covered(some: tuple[Outage, ...] | list[Outage]) -> list[tuple[int, int]]:
        return sorted({(o.node, at) for o in some for at in range(o.start_ms, o.end_ms)})

    merged = merge(outages)
    assert covered(merged) == covered(outages)
    for node in range(3):
        own = [o for o in merged if o.node == node]
        assert all(a.end_ms < b.start_ms for a, b in pairwise(own))
    assert merge(list(reversed(outages))) == merged


@pytest.mark.skipif(
    not RECORDED.exists(), reason="the recorded failures are not shipped; set MOXIE_DATA to their folder"
)
def test_the_recorded_system_2_is_a_rack_of_49_nodes_over_eight_years() -> None:
    trace = load(RECORDED, 2)
    assert (trace.nodes, trace.records, trace.started) == (49, 7_104, "1997-01-23")
    assert 8.6 < trace.duration_ms / (365.25 * 86_400_000) < 8.7
    assert min(trace.causes().values()) > 0
    starts = [outage.start_ms for outage in trace.outages]
    assert max(starts.count(start) for start in starts) == 48
