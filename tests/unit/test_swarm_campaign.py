"""A swarm's course, what is told meanwhile, and its JUnit file."""

import io
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

from core.errors import InputError
from tests.unit.junit_schema import problems
from trial.junit import Case, Suite, to_xml, write_suite
from trial.scenario import Expect
from twin.swarm.campaign import Course, Standing, Watch, run_course, worst_failures
from twin.swarm.draw import Menu, make_menu
from twin.swarm.found import Found, Move
from twin.swarm.junit import RULES, to_suite
from twin.swarm.live import FAILURES_TOLD, Live, progress_line
from twin.swarm.sometimes import SOMETIMES
from twin.swarm.summary import Failure, Tally
from twin.swarm.tape import read_tape

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the racks and the catalogs are."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def menu() -> Menu:
    """What campaigns are drawn from."""
    return make_menu("default", None, None)


class Scripted:
    """An engine whose campaigns last a second each and fail as the table says; it stops like a Ctrl-C if told to."""

    def __init__(self, broken: dict[int, str], interrupt_at: int = 0) -> None:
        self.broken = broken
        self.interrupt_at = interrupt_at
        self.now_s = 100.0
        self.closed = False

    def clock(self) -> float:
        return self.now_s

    def run(self, menu: Menu, seeds: Iterable[int]) -> Generator[Found, None, None]:
        try:
            for seed in seeds:
                if seed == self.interrupt_at:
                    raise KeyboardInterrupt
                self.now_s += 1
                yield found(seed, self.broken.get(seed, ""))
        finally:
            self.closed = True


def found(seed: int, broken: str = "", **more: object) -> Found:
    """What came of a campaign: that it passed, or that something was broken."""
    verdict = "crash" if broken == "crash" else "safety" if broken else "pass"
    fields = {"nodes": 5, "faults": 2, "sim_ms": 600_000, "digest": f"d{seed}", "reached": ("came_back",), **more}
    return Found(seed=seed, verdict=verdict, broken=broken, detail=f"<{seed}> & more", **fields)  # type: ignore[arg-type]


def course(engine: Scripted, menu: Menu, course: Course, folder: Path) -> tuple[Tally, list[Standing], list[str], bool]:
    """Run a course: what was counted, what was told, and whether it came to its end."""
    tally, told, failed = Tally("default"), list[Standing](), list[str]()
    watch = Watch(
        progress=told.append, failure=lambda one, tape, file: failed.append(f"{tape.seed} {one.broken} {file.name}")
    )
    ended = run_course(engine, menu, course, tally, folder, engine.clock, watch)
    return tally, told, failed, ended


def test_each_failure_leaves_its_tape_while_the_swarm_goes_on(menu: Menu, tmp_path: Path) -> None:
    engine = Scripted({2: "single_writer", 4: "crash", 5: "single_writer"})
    tally, told, failed, ended = course(engine, menu, Course(first=1, last=6), tmp_path / "deep" / "failures")
    assert ended
    assert (tally.campaigns, tally.failed) == (6, 3)
    assert failed == ["2 single_writer 2.toml", "4 crash 4.toml", "5 single_writer 5.toml"]
    assert read_tape(tmp_path / "deep" / "failures" / "4.toml").seed == 4
    assert told[2] == Standing(done=3, wanted=6, failed=1, reached=1, passed_s=3.0, left_s=3.0)
    assert [one.found.seed for one in worst_failures(tally, menu, tmp_path)] == [2, 4]


def test_a_time_bound_ends_a_course_that_has_no_last_seed(menu: Menu, tmp_path: Path) -> None:
    tally, told, _, ended = course(Scripted({}), menu, Course(first=7, for_s=5), tmp_path)
    assert ended
    assert tally.summary().first_seed == 7
    assert tally.campaigns == 5
    assert told[1] == Standing(done=2, wanted=None, failed=0, reached=1, passed_s=2.0, left_s=3.0)


def test_an_interrupted_course_keeps_what_was_counted_and_closes_its_engine(menu: Menu, tmp_path: Path) -> None:
    engine = Scripted({}, interrupt_at=4)
    tally, _, _, ended = course(engine, menu, Course(first=1, last=9), tmp_path)
    assert (ended, tally.campaigns, engine.closed) == (False, 3, True)


def test_a_tape_that_cannot_be_written_is_bad_input_and_closes_the_engine(menu: Menu, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    engine = Scripted({1: "crash"})
    with pytest.raises(InputError, match=r"1\.toml: cannot be written"):
        course(engine, menu, Course(first=1, last=9), tmp_path / "file")
    assert engine.closed


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_now_and_then_and_a_terminal_one_that_changes() -> None:
    for stream, step_s, lines in ((io.StringIO(), 9.0, 3), (Terminal(), 0.09, 3)):
        now_s = [0.0]
        live = Live(stream, lambda now_s=now_s: now_s[0], of=28)
        for done in range(1, 11):
            now_s[0] += step_s
            live.progress(Standing(done=done, wanted=10, failed=0, reached=3, passed_s=now_s[0], left_s=1.0))
        live.done()
        text = stream.getvalue()
        assert text.count("seeds") == lines
        assert text.count("\n") == (0 if stream.isatty() else lines)
        assert text.endswith("\r\x1b[K") == stream.isatty()


def test_progress_says_everything_that_a_person_waits_for() -> None:
    half = Standing(done=1_200, wanted=10_000, failed=3, reached=9, passed_s=60.0, left_s=4_000.0)
    assert progress_line(half, 28) == "1,200 of 10,000 seeds, 20.0/s, 3 failed, 9 of 28 rare situations, 1:06:40 left"
    timed = Standing(done=7, wanted=None, failed=0, reached=0, passed_s=0.0, left_s=62.4)
    assert progress_line(timed, 28) == "7 seeds, 0.0/s, 0 failed, 0 of 28 rare situations, 1:02 left"


def test_only_the_first_failures_are_told_one_by_one(menu: Menu, tmp_path: Path) -> None:
    stream = io.StringIO()
    live = Live(stream, lambda: 0.0, of=1)
    engine = Scripted(dict.fromkeys(range(1, 60), "single_writer"))
    watch = Watch(progress=live.progress, failure=live.failure)
    run_course(engine, menu, Course(first=1, last=59), Tally("default"), tmp_path, engine.clock, watch)
    text = stream.getvalue()
    assert text.startswith(f"seed 1: SAFETY (single_writer), replay: twin run {tmp_path}/1.toml\n  ")
    assert text.count("replay: twin run") == FAILURES_TOLD
    assert text.endswith(f"further failures are only counted; their tapes are in {tmp_path}\n")


def broken_swarm() -> Tally:
    """A swarm with failures of three kinds, a gate that is not met, and words that XML cannot hold."""
    names = tuple(one.name for one in SOMETIMES[:3])
    expect = Expect(unavailable_ms={"mariadb": 10})
    tally = Tally("default", sometimes=names, expect=expect)
    for seed in range(1, 41):
        broken = {3: "single_writer", 5: "crash", 8: "single_writer", 9: "failovers.mariadb"}.get(seed, "")
        move = Move(service="mariadb", cause="power_loss", total_ms=seed)
        tally.add(found(seed, broken, reached=names[:1], moves=(move,), unavailable_ms={"mariadb": seed}))
    return tally


def test_the_junit_file_has_a_case_for_each_rule_gate_rare_situation_and_failing_seed() -> None:
    tally = broken_swarm()
    failures = [
        Failure(found=one, tape=f"failures/{one.seed}.toml", tape_text="a\x00b", blame=("because of <n1>",))
        for one in tally.failed_campaigns()
    ]
    failures[0] = Failure(
        found=failures[0].found,
        tape=failures[0].tape,
        shrunk="failures/3-shrunk.toml",
        shrunk_text='# Why: "x" < 3 & ]]> \x07\n',
        faults_left=1,
        runs=50,
        blame=("because of <n1>",),
    )
    suite = to_suite(tally.summary(failures, wall_ms=1_234))
    assert problems(to_xml(suite)) == []
    cases = {(case.group.rpartition(".")[2], case.name): case for case in suite.cases}
    assert len(cases) == len(suite.cases)
    assert {name for group, name in cases if group == "rule"} == {*RULES, "failovers.mariadb"}
    assert cases["rule", "single_writer"].result == cases["seed", "seed 3"].result == "failure"
    assert "3, 8" in cases["rule", "single_writer"].detail
    assert cases["rule", "epochs_grow"].result == "passed"
    assert cases["rule", "crash"].result == cases["seed", "seed 5"].result == "error"
    assert cases["gate", "unavailable_ms.mariadb"].result == "failure"
    assert [cases["sometimes", one.name].result for one in SOMETIMES[:3]] == ["passed", "skipped", "skipped"]
    assert cases["seed", "seed 8"].out == "fails as seed 3 does\nreplay: twin run failures/8.toml"
    lines = cases["seed", "seed 3"].out.splitlines()
    assert lines[:3] == [
        "replay: twin run failures/3.toml",
        "shrunk: twin run failures/3-shrunk.toml (1 of 2 faults left after 50 runs)",
        "because of <n1>",
    ]


def test_a_rare_situation_that_a_large_swarm_misses_is_a_failure() -> None:
    tally = Tally("default", sometimes=("came_back", "claim_race"))
    for seed in range(2_000):
        tally.add(found(seed))
    suite = to_suite(tally.summary())
    assert problems(to_xml(suite)) == []
    results = {case.name: case.result for case in suite.cases if case.group.endswith("sometimes")}
    assert results == {"came_back": "passed", "claim_race": "failure"}


def test_the_schema_check_sees_what_is_wrong() -> None:
    xml = to_xml(Suite(name="s", wall_ms=1, cases=(Case(group="g", name="a", result="failure", detail="d", out="o"),)))
    assert problems(xml) == []
    for good, bad in (
        ('tests="1"', 'tests="2"'),
        ('failures="1"', ""),
        ('name="a"', ""),
        ("<failure", "<failed"),
        ('name="a"', 'name="a" verdict="x"'),
        ('time="0.001"', 'time="soon"'),
        ("system-out>", "system-log>"),
    ):
        changed = xml.replace(good, bad).replace("</failure>", "</failed>" if bad == "<failed" else "</failure>")
        assert problems(changed) != [], bad


@pytest.mark.parametrize("name", ["folder", "file/junit.xml", "nul\0.xml"])
def test_a_junit_file_that_cannot_be_written_is_bad_input(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_suite(tmp_path / name, Suite(name="s", wall_ms=1, cases=()))
