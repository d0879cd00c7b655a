"""The twin against a real rack: the statistics, the comparison with its page, the fit, and both commands."""

import json
from math import comb
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from formats.paint import Paint
from trial.reports import half_of, read_outcomes
from trial.verdict import Failover, Outcome, to_json
from twin import calibration
from twin.cli import main
from twin.compare import Comparison, compare, near
from twin.compare import to_text as comparison_to_text
from twin.fit import SAMPLES_MIN, fit, interpolated, to_text, to_toml
from twin.kolmogorov import p_value, statistic, tail
from twin.report.fidelity import page


def move(total_ms: int, service: str = "mariadb") -> Failover:
    return Failover(
        service=service,
        cause="power_loss",
        source="n1",
        dest="n2",
        epoch=2,
        at_ms=60_000,
        detect_ms=total_ms // 2,
        fence_ms=100,
        start_ms=total_ms - total_ms // 2 - 100,
        total_ms=total_ms,
    )


def outcome(scenario: str = "s", *totals_ms: int, service: str = "mariadb", **changes: object) -> Outcome:
    plain = Outcome(
        verdict="pass",
        expected="pass",
        as_expected=True,
        scenario=scenario,
        seed=1,
        fidelity="lab",
        sim_ms=1,
        wall_ms=1,
        events=0,
        steps=0,
        digest="",
        failovers=tuple(move(ms, service) for ms in totals_ms),
        checks=(),
        expectations=(),
        unavailable_ms={},
        notes={},
        converged_ms=0,
    )
    return msgspec.structs.replace(plain, **changes)


def write(path: Path, *outcomes: Outcome) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(to_json(one) for one in outcomes))
    return str(path)


# -- Kolmogorov and Smirnov --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("critical", "level"),
    [(1.0727, 0.20), (1.2238, 0.10), (1.3581, 0.05), (1.4802, 0.025), (1.6276, 0.01), (1.7308, 0.005), (1.9495, 0.001)],
)
def test_the_tail_has_the_published_critical_values(critical: float, level: float) -> None:
    """Source: Smirnov 1948, and every table since."""
    assert tail(critical) == pytest.approx(level, abs=5e-5)


@pytest.mark.parametrize(("x", "below"), [(0.5, 0.036055), (0.8, 0.455857), (1.0, 0.730000), (1.18, 0.876548)])
def test_both_series_of_the_tail_agree_with_the_table(x: float, below: float) -> None:
    assert 1 - tail(x) == pytest.approx(below, abs=2e-6)


def test_the_tail_is_a_falling_probability() -> None:
    found = [tail(step / 50) for step in range(200)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1.0
    assert 0.0 <= found[-1] < 1e-12


@pytest.mark.parametrize(("size", "steps"), [(10, 6), (10, 7), (20, 9), (30, 12)])
def test_the_p_value_is_near_the_exact_one_for_equal_sizes(size: int, steps: int) -> None:
    """Source of the exact one: Gnedenko and Korolyuk 1951."""
    terms = [(-1) ** (k - 1) * comb(2 * size, size - k * steps) for k in range(1, size // steps + 1)]
    assert p_value(steps / size, size, size) == pytest.approx(2 * sum(terms) / comb(2 * size, size), abs=0.01)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ((1, 2, 3), (1, 2, 3), 0.0),
        ((1, 2, 3), (4, 5), 1.0),
        ((1, 3), (2, 4), 0.5),
        ((1, 1, 1, 2), (1, 2, 2, 2), 0.5),
        ((5,), (5, 5, 5, 6), 0.25),
    ],
)
def test_the_statistic_is_the_largest_distance_also_with_ties(
    one: tuple[int, ...], other: tuple[int, ...], distance: float
) -> None:
    assert statistic(one, other) == pytest.approx(distance)
    assert statistic(other, one) == pytest.approx(distance)


# -- reports -----------------------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_of_its_files(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", outcome("two"), outcome("three"))
    write(tmp_path / "a" / "outcome.json", outcome("one"))
    (tmp_path / "notes.txt").write_text("no report")
    assert [found.scenario for found in read_outcomes(tmp_path)] == ["one", "two", "three"]


def test_an_outcome_comes_back_as_it_was_written(tmp_path: Path) -> None:
    wanted = outcome("s", 4_000, samples={"fence_ms": (130, 140)}, lost_writes=1, client_gap_ms=4_100)
    assert read_outcomes(Path(write(tmp_path / "r.jsonl", wanted))) == (wanted,)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "holds no outcome"),
        (b"{", "line 1: is no outcome"),
        (b"{}", "verdict"),
        (b"\n[1]\n", "line 2"),
        (b"\xff\xfe", "line 1"),
        (b"[" * 100_000, "line 1"),
    ],
)
def test_a_report_that_is_none_is_refused_with_the_line(tmp_path: Path, text: bytes, word: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(text)
    with pytest.raises(InputError, match=word):
        read_outcomes(path)


def test_a_missing_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file and no folder"):
        read_outcomes(tmp_path / "none")
    with pytest.raises(InputError, match="holds no outcome"):
        read_outcomes(tmp_path)


def test_the_halves_take_turns_in_order_of_names() -> None:
    names = ("d", "a", "c", "b", "a", "e")
    assert half_of(names, "odd") == ("a", "c", "e")
    assert half_of(names, "even") == ("b", "d")
    assert half_of(names, None) == ("a", "b", "c", "d", "e")


# -- the comparison ----------------------------------------------------------------------------------------------------


def compared(predicted: int, measured: int) -> Comparison:
    return compare([outcome("s", predicted)], [outcome("s", measured)])


@pytest.mark.parametrize(
    ("predicted", "met"), [(4_000, True), (4_600, True), (3_400, True), (4_601, False), (3_399, False)]
)
def test_a_median_may_be_off_by_15_percent_of_the_measured_one(predicted: int, met: bool) -> None:
    assert compared(predicted, 4_000).met is met


def test_a_tail_may_be_off_by_30_percent() -> None:
    measured = [outcome("s", *([4_000] * 9), 6_000)]
    assert compare([outcome("s", *([4_000] * 9), 7_800)], measured).met
    found = compare([outcome("s", *([4_000] * 9), 7_801)], measured)
    (total,) = found.totals
    assert (found.met, total.p50_ok, total.p99_ok) == (False, True, False)


def test_a_few_milliseconds_are_no_difference() -> None:
    assert near(5, 0, 0.15)
    assert not near(6, 0, 0.15)


def test_the_parts_are_shown_and_only_the_total_is_judged() -> None:
    other = msgspec.structs.replace(move(4_000), detect_ms=100, start_ms=3_800)
    found = compare([outcome("s", 4_000)], [outcome("s", failovers=(other,))])
    assert [(row.part, row.ok) for row in found.rows] == [
        ("detect", False),
        ("fence", True),
        ("start", False),
        ("total", True),
    ]
    assert found.met


def test_a_service_that_moved_in_one_world_only_is_missing() -> None:
    found = compare([outcome("s", 4_000)], [outcome("s", 4_000), outcome("s", 3_000, service="queue")])
    assert not found.met
    assert found.missing == ("s: queue moved only as measured (1 times in 2 runs)",)
    assert "queue" in comparison_to_text(found, Paint(False))


def test_runs_that_were_not_as_expected_count_and_are_told_of() -> None:
    odd = outcome("s", 9_000, verdict="liveness", as_expected=False)
    found = compare([outcome("s", 4_000)], [outcome("s", 4_000), odd])
    assert found.totals[0].measured.p99_ms == 9_000
    assert found.notes == ("s: 1 of 2 measured runs were not as expected (liveness)",)


def test_what_only_one_report_has_is_told_of() -> None:
    found = compare([outcome("a", 1), outcome("b", 1)], [outcome("b", 1), outcome("c", 1)])
    assert found.notes == ("c: measured, not predicted", "a: predicted, not measured")


def test_half_of_the_measured_scenarios_is_judged() -> None:
    names = ("a", "b", "c", "d")
    both = [outcome(name, 4_000) for name in names]
    assert [row.scenario for row in compare(both, both, "even").totals] == ["b", "d"]
    with pytest.raises(InputError, match="no scenario of the even half is in both"):
        compare([outcome("a", 1)], both[:1], "even")


def test_the_page_stands_alone_and_is_the_same_each_time() -> None:
    found = compare([outcome("<s>", 4_000, 4_100), outcome("t", 90)], [outcome("<s>", 3_000), outcome("t", 95)])
    text = page(found)
    assert text == page(found)
    assert "<s>" not in text
    assert text.count("<svg") == 2
    for outside in ("http://", "https://", "<script", "<link", "@import"):
        assert outside not in text.replace("http://www.w3.org", "").replace("https://matplotlib.org", "").replace(
            "http://purl.org", ""
        ).replace("http://creativecommons.org", "")


def test_the_command_compares_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted = write(tmp_path / "p.jsonl", outcome("s", 4_000))
    measured = write(tmp_path / "m.jsonl", outcome("s", 4_400))
    html = tmp_path / "pages" / "p.html"
    assert main(["compare", predicted, measured, "--html", str(html)]) == 0
    assert "1 of 1 totals are near" in capsys.readouterr().out
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    far = write(tmp_path / "far.jsonl", outcome("s", 8_000))
    assert main(["compare", predicted, far, "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["met"] is False
    assert found["rows"][3]["p50_ratio"] == 0.5
    assert main(["compare", predicted, str(tmp_path / "none")]) == 2
    assert main(["compare", predicted, measured, "--html", str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().err


# -- the fit -----------------------------------------------------------------------------------------------------------

BASE = calibration.load()


def sampled(**samples: tuple[int, ...]) -> list[Outcome]:
    return [outcome("s", samples=samples)]


def test_quantiles_are_linear_between_neighbours() -> None:
    assert [interpolated([10, 20, 40], share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [10, 15, 20, 30, 40]


def test_an_entry_gets_the_quantiles_of_its_phase() -> None:
    (one,) = fit(sampled(attach_ms=(100, 200, 300, 400, 500)), BASE).entries
    assert one.entry == "storage.open_ms"
    assert (one.after.min, one.after.p50, one.after.p90, one.after.max) == (100, 300, 460, 500)


def test_what_is_timed_along_with_an_entry_is_taken_off() -> None:
    found = {one.entry: one.after for one in fit(sampled(commit_ms=(10,) * 5, reconnect_ms=(100,) * 5), BASE).entries}
    assert found["zookeeper.reconnect_ms"].number == 90


def test_an_outage_among_the_samples_does_not_become_the_usual() -> None:
    (one,) = fit(sampled(commit_ms=(*range(10, 30), 2_000)), BASE).entries
    assert one.after.max == 29


@pytest.mark.parametrize("samples", [(30, 31, 32, 33, 34), (0, 0, 0, 0, 0), (89, 120, 130, 150, 187), (900,) * 5])
def test_a_fence_divided_is_as_long_as_the_whole(samples: tuple[int, ...]) -> None:
    found = {one.entry: one.after for one in fit(sampled(fence_ms=samples), BASE).entries}
    fixed = found["storage.command_ms"].number + found["storage.command_answer_ms"].number
    assert fixed + found["storage.barrier_ms"].number == samples[2]
    spread = found.get("storage.spread_ms", BASE["storage.spread_ms"])
    assert spread.ms_max <= max(1, samples[0] - found["storage.command_ms"].number)


def test_an_expiry_is_fitted_by_what_exceeds_its_model() -> None:
    (one,) = fit(sampled(session_expiry_ms=(2_300,) * 5), BASE).entries
    assert (one.entry, one.after.number) == ("zookeeper.expiry_lag_ms", 50)
    (one,) = fit(sampled(session_expiry_ms=(1_000,) * 5), BASE).entries
    assert one.after.number == 0


def test_few_samples_and_unknown_phases_change_nothing() -> None:
    few = (1,) * (SAMPLES_MIN - 1)
    found = fit([outcome("s", samples={"attach_ms": few, "x_ms": (1,) * 9, "commit_ms": (1,) * 9})], BASE)
    assert [one.entry for one in found.entries] == ["zookeeper.write_ms"]
    assert found.skipped == ("attach_ms: 4 samples, 5 needed", "x_ms: no such phase")
    with pytest.raises(InputError, match="no samples to fit from"):
        fit([outcome("s")], BASE)


def test_only_one_half_is_fitted() -> None:
    outcomes = [outcome(name, samples={"commit_ms": (ms,) * 5}) for name, ms in (("a", 3), ("b", 9), ("c", 3))]
    found = fit(outcomes, BASE, "odd")
    assert found.scenarios == ("a", "c")
    assert found.entries[0].after.number == 3
    assert found.entries[0].samples == 10


def test_a_fitted_file_is_read_back_as_it_was_fitted(tmp_path: Path) -> None:
    samples = {
        "fence_ms": (89, 120, 130, 150, 187),
        "attach_ms.mariadb": (100, 200, 300, 400, 500),
        "service_start_ms": (300,) * 5,
        "service_start_ms.mariadb": (900, 950, 1_000, 1_100, 1_200),
        'service_start_ms.a"b': (1,) * 5,
    }
    found = fit([outcome("two\nlines", samples=samples)], BASE)
    assert found.skipped == ('service_start_ms.a"b: no such phase',)
    path = tmp_path / "fit.toml"
    path.write_text(to_toml(found, "lab.jsonl"), encoding="utf-8")
    read = calibration.load_over(path)
    assert {one.entry: read[one.entry] for one in found.entries} == {one.entry: one.after for one in found.entries}
    other = read.of_service("web", "start_ms", BASE["agent.start_ms"])
    assert (other.number, read.of_service("mariadb", "start_ms", other).number) == (300, 1_000)
    assert read.of_service("mariadb", "stop_ms", other) is other
    assert "storage.open_ms" in to_text(found)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('[storage]\nopen = { value = 1, source = "s" }', "no such quantity"),
        ('[service]\nstop = { value = 1, source = "s" }', "service.stop"),
        ('[service.x]\nstart_ms = { valu = 1, source = "s" }', "valu"),
        ('[service.x]\nbegin_ms = { value = 1, source = "s" }', "no such quantity"),
        ("service = 1", "section"),
        ("[service]\nx = 1", "service.x"),
        ("a = [", "not TOML|TOML"),
    ],
)
def test_a_file_that_replaces_what_is_not_there_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "over.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=word):
        calibration.load_over(path)


def test_the_command_fits_and_its_file_changes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = write(tmp_path / "lab.jsonl", outcome("s", samples={"service_start_ms.mariadb": (3_000,) * 5}))
    assert main(["fit", report]) == 0
    assert "[service.mariadb]" in capsys.readouterr().out
    over = tmp_path / "made" / "fit.toml"
    assert main(["fit", report, "--half", "odd", "--out", str(over)]) == 0
    assert "catalog ->     3000" in capsys.readouterr().out
    scenario = str(Path(__file__).parents[2] / "scenarios" / "lose-the-holder")
    main(["run", scenario, "--json", "--calibration", str(over)])
    (found,) = json.loads(capsys.readouterr().out)["failovers"]
    assert found["start_ms"] >= 3_000
    assert main(["fit", report, "--half", "even"]) == 2
    assert main(["fit", report, "--out", str(tmp_path)]) == 2
    assert main(["run", scenario, "--calibration", str(tmp_path / "none.toml")]) == 2
    assert "calibration file" in capsys.readouterr().err
