"""Streams are reproducible, independent of each other, and draw what they say; calibration entries are checked."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import InputError
from twin.calibration import Sampled, load
from twin.streams import Stream, Streams


def test_the_same_seed_and_name_draw_the_same_numbers_in_another_process() -> None:
    here = [Streams(7).get("power/n1").word() for _ in range(1)]
    code = "from twin.streams import Streams; print(Streams(7).get('power/n1').word())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [int(there.stdout)] == here


def test_draws_from_one_stream_change_no_other() -> None:
    first, second = Streams(1), Streams(1)
    for _ in range(1_000):
        first.get("a").uniform()
    assert [first.get("b").word() for _ in range(50)] == [second.get("b").word() for _ in range(50)]
    assert Streams(2).get("b").word() != Streams(1).get("b").word()


def test_draws_stay_in_range_and_have_the_right_mean() -> None:
    stream = Stream(3, "range")
    whole = [stream.integers(5, 9) for _ in range(4_000)]
    assert sorted(set(whole)) == [5, 6, 7, 8]
    assert stream.integers(4, 4) == 4
    assert 6.4 < sum(whole) / len(whole) < 6.6
    assert all(0.0 <= stream.uniform() < 1.0 for _ in range(1_000))
    assert 95 < sum(stream.exponential(100) for _ in range(10_000)) / 10_000 < 105
    assert 0.27 < sum(stream.chance(0.3) for _ in range(10_000)) / 10_000 < 0.33
    assert sorted(stream.lognormal(50, 0.5) for _ in range(4_001))[2_000] == pytest.approx(50, rel=0.06)
    assert sorted(stream.shuffled(range(10))) == list(range(10))
    assert stream.choice("x") == "x"


def test_a_sampled_quantity_draws_between_its_quantiles() -> None:
    quantity = Sampled(source="test", min=10, p50=20, p90=100, max=200)
    draws = sorted(quantity.draw(Stream(1, "q")) for _ in range(1)) + sorted(
        quantity.draw(stream) for stream in [Stream(2, "q")] for _ in range(2_000)
    )
    draws.sort()
    assert draws[0] >= 10
    assert draws[-1] <= 200
    assert draws[1_000] == pytest.approx(20, abs=3)
    assert draws[1_800] == pytest.approx(100, abs=10)


def test_every_shipped_quantity_says_where_it_comes_from() -> None:
    quantities = load().quantities
    assert len(quantities) > 20
    assert all(len(entry.source) > 10 for entry in quantities.values())


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[a]\nx_ms = { value = 1 }", "source"),
        ('[a]\nx_ms = { source = "s" }', "either value"),
        ('[a]\nx_ms = { value = 1, min = 1, p50 = 2, p90 = 3, max = 4, source = "s" }', "either value"),
        ('[a]\nx_ms = { min = 3, p50 = 2, p90 = 3, max = 4, source = "s" }', "rising"),
        ('[a]\nx_ms = { value = -1, source = "s" }', "negative"),
        ('[a]\nx_ms = { valu = 1, source = "s" }', "valu"),
        ('[a]\nx_ms = { value = 1, source = " " }', "source"),
        ("a = 1", "section"),
        ("a = [", "TOML"),
    ],
)
def test_a_broken_calibration_file_is_refused_with_a_reason(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "calibration.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=word):
        load(path)


def test_streams_that_share_a_generator_draw_as_if_each_had_its_own() -> None:
    streams = Streams(7)
    names = [f"stream-{number}" for number in range(5)]
    shared: dict[str, list[int]] = {name: [] for name in names}
    for turn in range(1_000):
        name = names[turn * turn % 5]
        shared[name].append(streams.get(name).word())
    for name in names:
        alone = Stream(7, name)
        assert shared[name] == [alone.word() for _ in shared[name]]
