"""Timer advice: lateness read from journals, its tail, and the choice between false alarms and failover times."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from core.events import BeatAnswered
from core.ids import Epoch, NodeId, ServiceName
from core.journal import Line, encode
from formats.paint import Paint
from twin.advise.advice import Sweep, expiry_slack_ms, first_within, present_setting, with_fresh, with_session
from twin.advise.jitter import Jitter, Lateness, jitter_of
from twin.advise.sweep import Setting, Times, measure, quantile
from twin.advise.tail import HOURS_PER_YEAR, rarity_of
from twin.advise.words import to_text
from twin.cli import main
from twin.streams import Streams

ROOT = Path(__file__).parents[2]


def answered(asked_ms: int, at_ms: int, kind: str = "storage") -> Line:
    event = BeatAnswered(
        at_ms=at_ms,
        service=ServiceName("mariadb"),
        epoch=Epoch(1),
        kind="storage" if kind == "storage" else "coordination",
        asked_ms=asked_ms,
        outcome="ok",
    )
    return Line(at_ms=at_ms, node=NodeId("n1"), incarnation=1, kind="event", body=encode(event))


def pareto(count: int, hours: float, shape: float, scale_ms: float) -> Lateness:
    """Lateness whose excesses follow a generalized Pareto distribution, by its quantile function."""
    stream = Streams(7).get("lateness")
    draws = [scale_ms / shape * ((1 - stream.uniform()) ** -shape - 1) for _ in range(count)]
    return Lateness(hours=hours, late_ms=np.array(draws, np.int64))


def times_of(setting: Setting) -> Times:
    """A rack whose silent failovers take a session timeout and whose proven ones take the admission wait."""
    return Times(proven_ms=(setting.fresh_ms + 1_000,), silent_ms=(setting.session_timeout_ms + setting.tick_ms,))


def sweep(coordination: Lateness, storage: Lateness, yearly_max: float = 1.0, guessed: bool = False) -> Sweep:
    return Sweep(
        Jitter(coordination=coordination, storage=storage),
        times_of,
        nodes=5,
        holders=2,
        yearly_max=yearly_max,
        tick_ms=500,
        guessed=guessed,
        progress=lambda _done, _of: None,
    )


def test_lateness_is_what_exceeds_one_period_since_the_question_before() -> None:
    asked = [0, 200, 400, 600, 800]
    answers = [5, 205, 1_050, 1_060, 1_070]
    found = jitter_of([answered(q, a) for q, a in zip(asked, answers, strict=True)])
    assert found.storage.late_ms.tolist() == [5, 650, 460, 270]
    assert found.storage.hours == pytest.approx((answers[-1] - answers[0]) / 3_600_000)
    assert len(found.coordination.late_ms) == 0


def test_the_rate_beyond_what_was_seen_is_that_of_the_true_tail() -> None:
    shape, scale_ms, per_hour = 0.3, 20.0, 400.0
    late = pareto(40_000, 100.0, shape, scale_ms)
    found = rarity_of(late, "storage", Streams(1).get("x"))
    for limit_ms, factor in ((200, 2), (1_000, 3), (3_000, 6)):
        true = per_hour * (1 + shape * limit_ms / scale_ms) ** (-1 / shape) * HOURS_PER_YEAR
        fitted, upper = found.yearly(limit_ms)
        assert true / factor < fitted < true * factor
        assert upper >= true / 2, "the upper end is what advice goes by"


def test_a_tail_is_never_taken_to_end() -> None:
    late = Lateness(hours=1.0, late_ms=np.array([i % 50 for i in range(10_000)], np.int64))
    found = rarity_of(late, "storage", Streams(1).get("x"))
    assert found.tail.shape == 0.0
    assert found.yearly(200)[0] > 0.0


def test_too_few_answers_are_refused_with_what_is_needed() -> None:
    with pytest.raises(InputError, match="3 answered storage beats; needed: at least 600"):
        rarity_of(Lateness(hours=1.0, late_ms=np.array([1, 2, 3], np.int64)), "storage", Streams(1).get("x"))


def test_a_calm_rack_gets_shorter_timers_than_one_that_stalls() -> None:
    calm = sweep(pareto(20_000, 50.0, 0.05, 2.0), pareto(20_000, 50.0, 0.05, 2.0)).advise("r", "mariadb")
    stalling = sweep(pareto(20_000, 50.0, 0.25, 60.0), pareto(20_000, 50.0, 0.15, 30.0)).advise("r", "mariadb")
    assert calm.advised is not None
    assert stalling.advised is not None
    assert calm.advised.session_timeout_ms < stalling.advised.session_timeout_ms
    assert calm.advised.fresh_ms < stalling.advised.fresh_ms
    assert all(a.expiries_yearly >= b.expiries_yearly for a, b in itertools.pairwise(stalling.sessions))


def test_nothing_is_advised_where_no_setting_is_quiet_enough() -> None:
    found = sweep(pareto(20_000, 5.0, 0.9, 500.0), pareto(20_000, 50.0, 0.05, 2.0)).advise("r", "mariadb")
    assert found.advised is None
    assert "mend the stalls first" in found.reasons[0]
    assert "no setting can be advised" in to_text(found, Paint(False))


def test_a_guess_never_shortens_the_present_setting() -> None:
    found = sweep(pareto(20_000, 50.0, 0.05, 2.0), pareto(20_000, 50.0, 0.05, 2.0), guessed=True).advise("r", "mariadb")
    assert found.advised is not None
    assert found.advised.session_timeout_ms >= found.present.session_timeout_ms
    assert found.advised.fresh_ms >= found.present.fresh_ms


def test_a_setting_counts_only_if_all_longer_ones_are_good_too() -> None:
    one, two = present_setting(500), with_session(present_setting(500), 4_000)
    assert first_within([(one, 0.5), (two, 2.0)], 1.0) is None
    assert first_within([(one, 2.0), (two, 0.5)], 1.0) == two


def test_the_slack_of_a_session_is_what_its_pings_leave() -> None:
    assert expiry_slack_ms(with_session(present_setting(500), 6_000)) == 4_000
    assert with_fresh(present_setting(500), 1_000).probe_ms == 400


def test_quantiles_are_of_the_times_themselves() -> None:
    assert quantile((1, 2, 3, 4), 0.5) == 2
    assert quantile((1, 2, 3, 4), 0.99) == 4
    assert quantile((), 0.5) == -1


def test_a_longer_session_makes_silent_failovers_slower_and_proven_ones_not() -> None:
    rack, catalog = ROOT / "racks/five.toml", ROOT / "catalog/minimal.toml"
    short = measure(rack, catalog, "mariadb", with_session(present_setting(500), 2_000), 3)
    long = measure(rack, catalog, "mariadb", with_session(present_setting(500), 10_000), 3)
    assert quantile(long.silent_ms, 0.5) > quantile(short.silent_ms, 0.5) + 5_000
    assert math.isclose(quantile(long.proven_ms, 0.5), quantile(short.proven_ms, 0.5), abs_tol=500)


def test_nonsense_on_the_command_line_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["advise", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err
    journal = tmp_path / "j"
    journal.write_text("[1,2]\n")
    assert main(["advise", str(ROOT / "racks/five.toml"), "--journal", str(journal)]) == 2
    assert "line 1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        main(["advise", str(ROOT / "racks/five.toml"), "--yearly", "-1"])
    assert refused.value.code == 2


@pytest.mark.slow
def test_the_command_prints_what_it_swept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = main(["advise", str(ROOT / "racks/five.toml"), "--seeds", "1", "--json", "--report", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["advised"]["session_timeout_ms"] >= found["present"]["session_timeout_ms"]
    assert len(found["sessions"]) == 11
    assert "<svg" in (tmp_path / "advice.html").read_text()
