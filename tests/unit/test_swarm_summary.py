"""The summary of a swarm: counted in any order, judged by its worst campaign, its gates and what it has reached."""

import random
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from formats.paint import Paint
from formats.problems import Problems
from trial.expect import quantile
from trial.gates import Bounds
from trial.scenario import Expect
from trial.verdict import Verdict
from twin.faults import FAULTS
from twin.report.swarm import page, write_page
from twin.swarm.found import Found, Move
from twin.swarm.gates import read_gates
from twin.swarm.sometimes import SOMETIMES
from twin.swarm.spread import Spread, Times, bin_edge, bin_of, coarse, quantiles_of, shown
from twin.swarm.summary import LARGE, SEEDS_MAX, Failure, Summary, Tally, exit_code, to_json
from twin.swarm.summary_text import WIDTH, to_text

ALL = tuple(one.name for one in SOMETIMES)


def found(seed: int, verdict: Verdict = "pass", broken: str = "", moves: tuple[Move, ...] = ()) -> Found:
    return Found(
        seed=seed,
        verdict=verdict,
        broken=broken,
        detail=f"seed {seed} broke it" if broken else "",
        nodes=5,
        faults=3 + seed % 4,
        sim_ms=600_000,
        digest=f"{seed:064x}",
        kinds=("node_crash", "power_loss") if seed % 2 else ("partition",),
        reached=("claim_race",) if seed % 3 else (),
        moves=moves,
        unavailable_ms={"mariadb": 1_000 + seed},
    )


def move(total_ms: int, service: str = "mariadb", cause: str = "power_loss") -> Move:
    return Move(service=service, cause=cause, total_ms=total_ms)


def summary_of(*campaigns: Found, sometimes: tuple[str, ...] = (), expect: Expect | None = None) -> Summary:
    tally = Tally("default", sometimes, expect)
    for one in campaigns:
        tally.add(one)
    return tally.summary(wall_ms=1_000)


def many_campaigns() -> list[Found]:
    verdicts: list[tuple[Verdict, str]] = [("safety", "single_writer"), ("liveness", "convergence"), ("crash", "crash")]
    campaigns = [
        found(seed, moves=(move(seed * 10), move(90_000 + seed, "scheduler", "released"))) for seed in range(300)
    ]
    return campaigns + [found(1_000 + i, *verdicts[i % 3]) for i in range(200)]


# -- counting ----------------------------------------------------------------------------------------------------------


def test_the_order_in_which_campaigns_end_does_not_matter() -> None:
    campaigns = many_campaigns()
    first = summary_of(*campaigns)
    for shuffle in range(5):
        random.Random(shuffle).shuffle(campaigns)
        assert summary_of(*campaigns) == first


def test_a_campaign_that_comes_twice_counts_once() -> None:
    campaigns = [found(1, moves=(move(5),)), found(2, "safety", "single_writer")]
    assert summary_of(*campaigns, *campaigns) == summary_of(*campaigns)


def test_the_digest_of_a_swarm_changes_with_any_of_its_runs() -> None:
    one, other = found(1), found(2)
    changed = msgspec.structs.replace(other, digest="f" * 64)
    assert len({summary_of(*each).digest for each in ((one,), (one, other), (one, changed))}) == 3


def test_failures_are_grouped_by_what_is_broken_the_worst_first_with_their_lowest_seeds() -> None:
    summary = summary_of(*many_campaigns())
    assert [(one.verdict, one.broken, one.count) for one in summary.broken] == [
        ("safety", "single_writer", 67),
        ("crash", "crash", 66),
        ("liveness", "convergence", 67),
    ]
    assert summary.broken[0].seeds == tuple(range(1_000, 1_000 + 3 * SEEDS_MAX, 3))
    assert summary.broken[0].detail == "seed 1000 broke it"
    assert (summary.campaigns, summary.failed, summary.verdicts["pass"]) == (500, 200, 300)


def test_the_lowest_seed_of_each_way_to_fail_is_looked_at() -> None:
    tally = Tally("default")
    for one in reversed(many_campaigns()):
        tally.add(one)
    assert [one.seed for one in tally.failed_campaigns()] == [1_000, 1_002, 1_001]
    assert [one.seed for one in tally.failed_campaigns(each=2)] == [1_000, 1_003, 1_002, 1_005, 1_001, 1_004]


def test_faults_are_counted_by_their_number_and_kind_with_how_many_campaigns_failed() -> None:
    summary = summary_of(found(0), found(1), found(2, "liveness", "convergence"))
    assert [(s.name, s.campaigns, s.failed) for s in summary.by_kind] == [
        ("node_crash", 1, 0),
        ("partition", 2, 1),
        ("power_loss", 1, 0),
    ]
    assert [(s.name, s.campaigns, s.failed) for s in summary.by_faults] == [("3", 1, 0), ("4", 1, 0), ("5", 1, 1)]
    assert (summary.unavailable_ms, summary.unavailable_ms_max) == ({"mariadb": 3_003}, {"mariadb": 1_002})


# -- times -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=60), st.sampled_from((50, 90, 99, 100)))
def test_quantiles_are_those_of_the_single_times(times_ms: list[int], percent: int) -> None:
    times = Times()
    for ms in times_ms:
        times.add(move(ms))
    assert quantiles_of(times.of("mariadb"), (50, percent)) == [quantile(times_ms, 50), quantile(times_ms, percent)]


@given(st.integers(0, 10_000_000))
def test_a_time_is_never_counted_as_shorter_than_it_was(ms: int) -> None:
    assert ms <= coarse(ms) <= ms + 100
    assert coarse(ms) == ms or ms > 60_000


@given(st.integers(1, 900_000))
def test_a_time_lies_in_its_bin(ms: int) -> None:
    assert bin_edge(bin_of(ms)) <= ms * 1.000_001
    assert ms < bin_edge(bin_of(ms) + 1) * 1.000_001


def test_times_are_told_by_service_and_cause_the_most_frequent_first() -> None:
    times = Times()
    for ms in range(1, 101):
        times.add(move(ms, "mariadb", "node_crash"))
    times.add(move(7, "mariadb", "partition"))
    times.add(move(9, "scheduler", "released"))
    spreads = times.spreads()
    assert [(s.service, s.cause, s.count) for s in spreads] == [
        ("*", "*", 102),
        ("mariadb", "*", 101),
        ("mariadb", "node_crash", 100),
        ("mariadb", "partition", 1),
        ("scheduler", "*", 1),
        ("scheduler", "released", 1),
    ]
    crash = spreads[2]
    assert (crash.p50, crash.p90, crash.p99, crash.max) == (50, 90, 99, 100)
    assert sum(count for _, count in crash.bins) == 100
    assert [s.cause for s in shown(spreads, 5)] == ["*", "*", "node_crash", "*"]
    assert [s.count for s in times.spreads(("partition",))[:2]] == [102, 1]


# -- verdict -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((), 0),
        (("pass",), 0),
        (("pass", "liveness"), 3),
        (("liveness", "crash"), 1),
        (("crash", "safety", "liveness"), 4),
    ],
)
def test_the_worst_campaign_decides_the_exit_code(verdicts: tuple[Verdict, ...], code: int) -> None:
    campaigns = [found(i, verdict, "" if verdict == "pass" else verdict) for i, verdict in enumerate(verdicts)]
    summary = summary_of(*campaigns)
    assert (exit_code(summary), summary.ok) == (code, code == 0)


def test_a_large_swarm_that_misses_a_rare_situation_fails_and_a_small_one_does_not() -> None:
    wanted = ("claim_race", "quarantined")
    small = summary_of(*map(found, range(LARGE - 1)), sometimes=wanted)
    large = summary_of(*map(found, range(LARGE)), sometimes=wanted)
    assert (small.missing, small.ok) == (("quarantined",), True)
    assert (large.missing, large.ok, exit_code(large)) == (("quarantined",), False, 3)
    assert "quarantined" in to_text(large, Paint(False))
    assert "1 rare situation not reached" in to_text(large, Paint(False))
    assert summary_of(*map(found, range(LARGE)), sometimes=("claim_race",)).ok


@pytest.mark.parametrize(
    ("expect", "ok", "got"),
    [
        (Expect(failover_ms={"p99": 99}), True, "99 ms (1 of 100 above)"),
        (Expect(failover_ms={"p99": 98}), False, "99 ms (2 of 100 above)"),
        (Expect(failover_ms={"mariadb": {"max": 100}}), True, "100 ms (0 of 100 above)"),
        (Expect(failover_ms={"mariadb": {"power_loss": Bounds(p50=49)}}), False, "50 ms (51 of 100 above)"),
        (Expect(failover_ms={"*": {"power_loss": Bounds(p50=50)}}), True, "50 ms (50 of 100 above)"),
        (Expect(failover_ms={"scheduler": {"p50": 1}}), True, "no failover"),
        (Expect(unavailable_ms={"mariadb": 1_001}), True, "1,001 ms in the worst one"),
        (Expect(unavailable_ms={"mariadb": 1_000}), False, "1,001 ms in the worst one"),
    ],
)
def test_a_gate_is_held_against_all_campaigns_together(expect: Expect, ok: bool, got: str) -> None:
    summary = summary_of(found(1, moves=tuple(move(ms) for ms in range(1, 101))), expect=expect)
    (line,) = summary.gates
    assert (line.ok, line.got, exit_code(summary)) == (ok, got, 0 if ok else 3)


def test_a_large_swarm_without_the_failovers_that_a_gate_is_for_fails() -> None:
    gate = Expect(failover_ms={"mariadb": {"p99": 5_000}})
    assert summary_of(*map(found, range(LARGE - 1)), expect=gate).ok
    assert not summary_of(*map(found, range(LARGE)), expect=gate).ok


def test_the_gates_of_a_profile_are_read_and_everything_else_is_refused() -> None:
    problems = Problems("p.toml")
    table = {"failover_ms": {"p99": 5_000, "mariadb": {"power_loss": {"p50": 3_000}}}, "unavailable_ms": {"mariadb": 9}}
    expect = read_gates(table, problems, FAULTS)
    assert [gate.name for gate in expect.gates] == ["failover_ms.p99", "failover_ms.mariadb.power_loss.p50"]
    assert not problems.found
    wrong = {"failover_ms": {"p95": 1, "mariadb": {"power_los": {"p50": 3}}}, "failovers": {"mariadb": 1}, "joined": 5}
    read_gates(wrong, problems, FAULTS, ("mariadb",))
    told = "\n".join(problems.found)
    for words in ("expect.failovers", "expect.joined", "p95 = 1: no such quantile", 'did you mean "power_loss"?'):
        assert words in told


# -- what a person sees ------------------------------------------------------------------------------------------------

NASTY = "<script>alert(1)</script>\x1b[31m"


def rich() -> Summary:
    tally = Tally("everything", ALL, Expect(failover_ms={"p99": 50, "mariadb": {"power_loss": Bounds(max=9_999_999)}}))
    for one in many_campaigns():
        tally.add(one)
    tally.add(msgspec.structs.replace(found(7_777, "safety", "address_unique"), detail=NASTY))
    (worst, *_) = tally.failed_campaigns()
    failure = Failure(
        found=worst,
        tape="failures/1000.toml",
        tape_text="# Why: <b>drawn</b>\nseed = 1000\n",
        shrunk="failures/1000-shrunk.toml",
        shrunk_text="# Why: <b>shrunk</b>\nseed = 1000\n",
        faults_left=2,
        runs=87,
        blame=("power loss of n3 at 1:02.000: necessary",),
        reason=(NASTY, "Rule 3 was broken: " + "much was written and " * 8, "  1:02.000  n3: power loss"),
    )
    return tally.summary([failure], wall_ms=4_000)


def test_the_text_has_what_a_person_needs_and_fits_a_terminal() -> None:
    text = to_text(rich(), Paint(False))
    for words in (
        "501 campaigns, seeds 0 to 7777",
        "SAFETY  single_writer, 67 campaigns",
        "1000, 1003",
        "twin run failures/1000.toml",
        "twin run failures/1000-shrunk.toml",
        "2 of 3 faults left after 87 runs",
        "1:02.000  n3: power loss",
        "NOT MET    failover_ms.p99: wanted at most 50 ms",
        "met        failover_ms.mariadb.power_loss.max",
        "claim_race",
        "MISSING    quarantined",
        "x real time",
        "FAIL   201 campaigns of 501 failed; 1 gate not met",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_what_a_campaign_said_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in to_text(rich(), Paint(False))
    assert "\x1b[31m" not in re.sub(r"\x1b\[(?:1|2|32|31|33|34|36|1;31|0)m", "", to_text(rich(), Paint(True)))


def test_colours_change_nothing_but_colours() -> None:
    summary = rich()
    assert re.sub(r"\x1b\[[0-9;]*m", "", to_text(summary, Paint(True))) == to_text(summary, Paint(False))


def test_an_empty_swarm_is_told_too() -> None:
    assert "no seeds" in to_text(summary_of(), Paint(False))
    assert "No singleton moved" in page(summary_of())


def test_the_page_has_everything_in_it_and_loads_nothing() -> None:
    text = page(rich())
    assert not re.search(r'(?:src|href)\s*=\s*"(?!#)', re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL))
    assert "<script" not in text
    assert "&lt;b&gt;shrunk&lt;/b&gt;" in text
    assert "&lt;script&gt;alert(1)" in text
    for words in (
        "twin run failures/1000-shrunk.toml",
        "not met",
        "quarantined",
        "p99 ≤ 50 ms",
        "power loss",
        "scheduler",
    ):
        assert words in text


def test_the_page_is_written_with_the_summary_beside_it(tmp_path: Path) -> None:
    summary = rich()
    target = write_page(tmp_path / "a" / "b", summary)
    assert target.read_text(encoding="utf-8") == page(summary)  # the same swarm gives the same bytes
    assert msgspec.json.decode(target.with_name("summary.json").read_bytes(), type=Summary) == summary
    assert to_json(summary).endswith(b"}\n")


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_page(tmp_path / "file", summary_of())


def test_a_picture_draws_a_spread_of_one_time() -> None:
    tally = Tally("default")
    tally.add(found(1, moves=(move(0),)))
    assert isinstance(tally.summary().failovers[0], Spread)
    assert "<svg" in page(tally.summary())
