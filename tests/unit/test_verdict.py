"""Verdicts, exit codes and expectations."""

import json

import msgspec
import pytest

from trial.expect import compare, quantile
from trial.gates import Bounds
from trial.scenario import Expect
from trial.verdict import Check, Crash, Expectation, Failover, Outcome, Verdict, exit_code, judge, to_json

GOOD = Check(name="single_writer", ok=True)
BROKEN = Check(name="single_writer", ok=False, detail="n1 and n2")
MET = Expectation(name="joined", ok=True, wanted="5", got="5")
LATE = Check(name="everywhere_running", ok=False, detail="dns not on n3")
UNMET = Expectation(name="joined", ok=False, wanted="5", got="4")
CRASH = Crash(at_ms=1, what="KeyError", traceback="")


def move(service: str = "mariadb", total_ms: int = 4000) -> Failover:
    return Failover(
        service=service,
        cause="power_loss",
        source="n1",
        dest="n2",
        epoch=2,
        at_ms=60_000,
        detect_ms=1000,
        fence_ms=100,
        start_ms=total_ms - 1100,
        total_ms=total_ms,
    )


def outcome(verdict: Verdict = "pass", expected: Verdict = "pass") -> Outcome:
    return Outcome(
        verdict=verdict,
        expected=expected,
        as_expected=verdict == expected,
        scenario="s",
        seed=7,
        fidelity="protocol",
        sim_ms=1,
        wall_ms=1,
        events=1,
        steps=1,
        digest="00",
        failovers=(move(),),
        checks=(GOOD,),
        expectations=(MET,),
        unavailable_ms={"mariadb": 4000},
        notes={},
        converged_ms=0,
    )


@pytest.mark.parametrize(
    ("crash", "check", "wish", "pending", "verdict"),
    [
        (None, GOOD, MET, (), "pass"),
        (None, GOOD, UNMET, (), "liveness"),
        (None, GOOD, MET, ("n1 did not join",), "liveness"),
        (None, LATE, MET, (), "liveness"),
        (None, BROKEN, UNMET, ("n1 did not join",), "safety"),
        (CRASH, BROKEN, UNMET, ("n1 did not join",), "crash"),
    ],
)
def test_a_crash_outranks_safety_which_outranks_liveness(
    crash: Crash | None, check: Check, wish: Expectation, pending: tuple[str, ...], verdict: Verdict
) -> None:
    assert judge(crash, (GOOD, check), (MET, wish), pending) == verdict


@pytest.mark.parametrize(
    ("verdict", "expected", "code"),
    [
        ("pass", "pass", 0),
        ("crash", "pass", 1),
        ("liveness", "pass", 3),
        ("safety", "pass", 4),
        ("liveness", "liveness", 0),
        ("safety", "liveness", 4),
        ("pass", "liveness", 3),
    ],
)
def test_the_exit_code_is_zero_only_for_the_expected_verdict(verdict: Verdict, expected: Verdict, code: int) -> None:
    assert exit_code(outcome(verdict, expected)) == code


def test_the_json_object_has_the_promised_keys() -> None:
    found = json.loads(to_json(outcome()))
    wanted = (
        "verdict scenario seed sim_ms wall_ms events steps digest failovers checks unavailable_ms expected as_expected"
    )
    assert set(wanted.split()) <= set(found)
    keys = {"service", "cause", "from", "to", "epoch", "detect_ms", "fence_ms", "start_ms", "total_ms"}
    assert keys <= set(found["failovers"][0])
    assert set(found["checks"][0]) == {"name", "ok", "detail"}
    assert to_json(outcome()).count(b"\n") == 1


def test_two_runs_that_differ_only_in_wall_time_are_otherwise_equal() -> None:
    one, other = outcome(), msgspec.structs.replace(outcome(), wall_ms=99)
    assert msgspec.structs.replace(other, wall_ms=one.wall_ms) == one


@pytest.mark.parametrize(("percent", "value"), [(50, 5), (90, 9), (99, 10), (100, 10)])
def test_quantiles_are_nearest_ranks(percent: int, value: int) -> None:
    assert quantile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == value


@pytest.mark.parametrize(
    ("expect", "ok", "got"),
    [
        (Expect(failover_ms={"mariadb": {"p99": 4000}}), True, "4,000 ms"),
        (Expect(failover_ms={"mariadb": {"p99": 3999}}), False, "4,000 ms"),
        (Expect(failover_ms={"scheduler": {"p99": 4000}}), False, "no failover"),
        (Expect(failover_ms={"p50": 4000}), True, "4,000 ms"),
        (Expect(failover_ms={"p50": 3999}), False, "4,000 ms"),
        (Expect(failover_ms={"mariadb": {"power_loss": Bounds(max=4000)}}), True, "4,000 ms"),
        (Expect(failover_ms={"mariadb": {"power_loss": Bounds(max=3999)}}), False, "4,000 ms"),
        (Expect(failover_ms={"mariadb": {"node_crash": Bounds(max=4000)}}), False, "no failover"),
        (Expect(failover_ms={"*": {"power_loss": Bounds(p90=4000)}}), True, "4,000 ms"),
        (Expect(failovers={"mariadb": 1}), True, "1"),
        (Expect(failovers={"mariadb": 0}), False, "1"),
        (Expect(failovers={"mariadb": (2, 3)}), False, "1"),
        (Expect(unavailable_ms={"mariadb": 4000}), True, "4,000 ms"),
        (Expect(unavailable_ms={"mariadb": 3999}), False, "4,000 ms"),
        (Expect(sometimes=("fenced",)), True, "once"),
        (Expect(sometimes=("brake_engaged",)), False, "never"),
        (Expect(never=("fenced",)), False, "once"),
        (Expect(never=("brake_engaged",)), True, "never"),
        (Expect(joined=5), True, "5 nodes"),
        (Expect(joined=4), False, "5 nodes"),
    ],
)
def test_each_expectation_is_met_exactly_up_to_its_bound(expect: Expect, ok: bool, got: str) -> None:
    (line,) = compare(expect, (move(),), {"mariadb": 4000}, {"fenced": 1}, 5)
    assert (line.ok, line.got) == (ok, got)


def test_nothing_expected_gives_no_lines() -> None:
    assert compare(Expect(), (), {}, {}, 0) == ()
