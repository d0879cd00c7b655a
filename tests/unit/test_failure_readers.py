"""Readers of recorded failures by path: Backblaze, Failure Trace Archive, OpenDC; what they read and refuse."""

import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InputError
from tests.unit.recorded import BACKBLAZE, OUTAGES, needs_recordings
from twin.failures import backblaze, fta, lanl, service_outages
from twin.failures.likelihood import fit

DAY = "date,serial_number,model,capacity_bytes,failure,datacenter,smart_1_normalized\n"
EVENTS = (
    "#event_id\tcomponent_id\tnode_id\tplatform_id\tnode_name\tevent_type\tevent_start_time\tevent_stop_time\t"
    "event_end_reason\n"
)
OPENDC = "failure_interval,failure_duration,failure_intensity\n"


def day(date: str, *drives: str) -> str:
    return DAY + "".join(f"{date},{drive},x,1\n" for drive in drives)


def event(node: int, kind: int, start: float, stop: float, component: int = 1) -> str:
    return f"9\t{component}\t{node}\t1\tname\t{kind}\t{start}\t{stop}\tNULL\n"


def text_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_drives_live_from_their_first_day_to_their_failure_or_the_end(tmp_path: Path) -> None:
    days = [
        day("2024-01-01", "A,m1,10,0", "B,m1,10,0"),
        day("2024-01-02", "A,m1,10,1", "B,m1,10,0", "C,m2,10,0"),
        day("2024-01-03", "B,m1,10,0", "C,m2,10,0"),
    ]
    for number, text in enumerate(days, start=1):
        text_file(tmp_path, f"2024-01-0{number}.csv", text)
    found = backblaze.load(tmp_path)
    assert [array.tolist() for array in found.lifetimes_h()] == [[48.0], [72.0, 48.0]]
    assert [array.tolist() for array in found.lifetimes_h("m2")] == [[], [48.0]]
    table = found.by_model()
    assert table["model"].tolist() == ["m1", "m2"]
    assert table["drive_days"].tolist() == [5, 2]
    assert table["annual_rate"].tolist() == pytest.approx([365 / 5, 0.0])


def test_a_quarter_is_read_out_of_its_zip_and_columns_may_stand_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "data_Q1_2024.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/2024-01-02.csv", "failure,model,serial_number,date,capacity_bytes\n1,m,A,2024-01-02,5\n")
        archive.writestr("data/2024-01-01.csv", day("2024-01-01", "A,m,10,0"))
        archive.writestr("__MACOSX/data/._2024-01-01.csv", "junk")
        archive.writestr("readme.txt", "junk")
    found = backblaze.load(path)
    assert [array.tolist() for array in found.lifetimes_h()] == [[48.0], []]


def test_generated_drives_written_as_daily_tables_fit_to_what_was_generated(tmp_path: Path) -> None:
    lives = [3 + (17 * number) % 90 for number in range(300)]
    for number in range(60):
        drives = [f"S{i},m,1,{int(life == number + 1)}" for i, life in enumerate(lives) if life > number]
        text_file(tmp_path, f"{number:03}.csv", day(f"2024-{1 + number // 28:02}-{1 + number % 28:02}", *drives))
    ended, censored = backblaze.load(tmp_path).lifetimes_h()
    assert (len(ended), len(censored)) == (sum(life <= 60 for life in lives), sum(life > 60 for life in lives))
    found = fit("exponential", ended, censored).distribution
    assert found.mean_h == pytest.approx(float(ended.sum() + censored.sum()) / len(ended))  # type: ignore[union-attr]


def test_broken_lines_of_all_days_are_named_with_their_files(tmp_path: Path) -> None:
    text_file(tmp_path, "1.csv", day("2024-01-01", "A,m,10,0", "B,m,10,7") + "2024-01-01,C\n")
    text_file(tmp_path, "2.csv", day("2024-13-01", "A,m,10,0"))
    with pytest.raises(InputError) as caught:
        backblaze.load(tmp_path)
    first, second, third = caught.value.problems
    assert first.endswith("1.csv: line 3: failure: '7' is not a whole number from 0 to 1")
    assert "1.csv: line 4: 2 columns" in second
    assert "2.csv: line 2: date: '2024-13-01' is not a date" in third


@needs_recordings
def test_the_survival_summary_of_all_models_is_read() -> None:
    table = backblaze.load_survival(BACKBLAZE)
    assert len(table["model"]) == 81
    assert table["annual_rate"][0] == pytest.approx(102 / (11_616_742 / 365.25))


def test_events_of_the_failure_trace_archive_are_times_up_and_down(tmp_path: Path) -> None:
    rows = [event(2, 1, 7_200, 10_800), event(2, 0, 3_600.5, 7_200), event(1, 1, 0, 3_600), event(1, 3, 0, 9)]
    path = text_file(tmp_path, "event_trace.tab", EVENTS + "".join(rows))
    trace = fta.load(path)
    assert trace.node.tolist() == [1, 2, 2]
    assert trace.up_h().tolist() == [1.0, 1.0]
    assert trace.down_h().tolist() == [pytest.approx(3_599.5 / 3_600)]
    assert trace.other == 1
    packed = tmp_path / "trace.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(path, "set/event_trace.tab")
    assert fta.load(packed).start_s.tolist() == trace.start_s.tolist()


def test_the_documented_name_of_the_end_is_understood_too(tmp_path: Path) -> None:
    text = EVENTS.replace("event_stop_time", "event_end_time") + event(1, 0, 0, 7_200)
    assert fta.load(text_file(tmp_path, "event_trace.tab", text)).down_h().tolist() == [2.0]


def test_an_event_that_ends_before_it_starts_is_named(tmp_path: Path) -> None:
    path = text_file(tmp_path, "event_trace.tab", EVENTS + event(1, 0, 9, 5) + event(1, 0, 5, 9))
    with pytest.raises(InputError, match=r"line 2: event_stop_time: 5 is before event_start_time 9$"):
        fta.load(path)


def test_outages_of_a_service_start_after_one_another(tmp_path: Path) -> None:
    path = text_file(tmp_path, "x.csv", OPENDC + "300,100,1.0\n420,600,0.5\n")
    found = service_outages.load(path)
    assert (found.start_ms.tolist(), found.end_ms.tolist()) == ([300, 720], [400, 1_320])
    assert found.intensity.tolist() == [1.0, 0.5]


@needs_recordings
def test_all_traces_of_services_are_read() -> None:
    counts = {path.name.split("_")[0]: len(service_outages.load(path).start_ms) for path in sorted(OUTAGES.iterdir())}
    assert counts == {"Facebook": 4_069, "Instagram": 3_926, "Netflix": 3_388, "single": 1, "two": 2}


READERS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "lanl": (lanl.load, "a.csv", "System," + "x," * 24 + "y\n"),
    "backblaze": (backblaze.load, "a.csv", DAY),
    "survival": (
        backblaze.load_survival,
        "a.csv",
        "model,n_unique,drive_days,failed,surv_5yr_lower,surv_5yr,surv_5yr_upper\n",
    ),
    "fta": (fta.load, "a.tab", EVENTS),
    "opendc": (service_outages.load, "a.csv", OPENDC),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_missing_torn_empty_or_another_is_bad_input(name: str, tmp_path: Path) -> None:
    load, file, heading = READERS[name]
    whole = (heading + "1,2,3\n").encode() * 50
    torn = {
        "torn.xz": lzma.compress(whole)[:60],
        "torn.gz": gzip.compress(whole)[:60],
        "torn.zip": b"PK\x03\x04" + whole[:40],
        "wrong.gz": whole,
        "empty" + file[1:]: b"",
        "other" + file[1:]: b"a;b;c\n1;2;3\n",
        "heading" + file[1:]: heading.encode(),
        "long" + file[1:]: heading.encode() + b"9" * 200_000 + b"\n",
    }
    for path, content in torn.items():
        (tmp_path / path).write_bytes(content)
        with pytest.raises(InputError) as caught:
            load(tmp_path / path)
        assert path in caught.value.problems[0]
    with pytest.raises(InputError, match=r"cannot be read|holds no|no daily table"):
        load(tmp_path / ("missing" + file[1:]))


CELL = st.sampled_from(["", "0", "1", "-1", "1e400", "nan", "9" * 30, "²", "2024-01-01", "A", '"', "\x00", "1,1", "\t"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=10), max_size=4), junk=st.binary(max_size=30))
def test_no_file_makes_a_reader_fall_over(rows: list[list[str]], junk: bytes, tmp_path: Path) -> None:
    for load, file, heading in READERS.values():
        delimiter = "\t" if file.endswith(".tab") else ","
        path = tmp_path / file
        path.write_bytes((heading + "\n".join(delimiter.join(row) for row in rows) + "\n").encode() + junk)
        try:
            load(path)
        except InputError as error:
            named = [problem.startswith(str(path)) for problem in error.problems]
            if not all(named):
                raise


def test_a_million_lines_of_a_packed_file_are_never_in_memory_at_once(tmp_path: Path) -> None:
    path = tmp_path / "event_trace.tab.gz"
    with gzip.open(path, "wt", compresslevel=1) as out:
        out.write(EVENTS)
        for block in range(100):
            out.write("".join(event(block, 0, i, i + 60) for i in range(0, 60_000, 300)))
    assert len(fta.load(path).down_h()) == 20_000
