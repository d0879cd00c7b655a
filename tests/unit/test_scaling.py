"""The law of scalability is found in what follows it; a rack is measured; its page and its command hold together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from core.errors import InputError
from core.specs import Timing
from formats.catalog import load_catalog
from formats.rack import load_rack
from twin.cli import main
from twin.report.scale import draw_times, page
from twin.scaling.delivered import deliver, usable
from twin.scaling.figures import figures
from twin.scaling.scale import Scaling, scale, summed_up, time_to_join
from twin.scaling.site import Plan, Sample, grown, measure
from twin.scaling.usl import curve, fit, power

ROOT = Path(__file__).resolve().parents[2]
SIZES = (5, 10, 30, 100, 300, 1_000)
CATALOG = load_catalog(ROOT / "catalog/minimal.toml")


def made(sigma: float, kappa: float, noise: float = 1e-4) -> dict[int, list[float]]:
    """Throughputs of three seeds that follow the law, with some relative noise."""
    draws = np.random.default_rng(3)
    exact = curve(np.array(SIZES, float), 0.97, sigma, kappa)
    return {
        size: [float(x * (1 + noise * draws.standard_normal())) for _ in range(3)]
        for size, x in zip(SIZES, exact, strict=True)
    }


@pytest.mark.parametrize(("sigma", "kappa"), [(0.02, 0.0), (0.0, 1e-6), (0.01, 1e-5), (1e-3, 1e-8), (1.0, 0.0)])
def test_a_fit_finds_the_law_that_throughputs_were_made_with(sigma: float, kappa: float) -> None:
    found = fit(made(sigma, kappa))
    assert found.lambda_ == pytest.approx(0.97, rel=1e-3)
    assert found.sigma == pytest.approx(sigma, rel=0.01, abs=2e-6)
    assert found.kappa == pytest.approx(kappa, rel=0.02, abs=2e-9)
    assert found.sigma_ci[0] <= found.sigma <= found.sigma_ci[1]
    assert found.residual_max < 1e-3


def test_a_linear_rack_has_no_bend_beyond_its_noise() -> None:
    found = fit(made(0.0, 0.0))
    assert found.sigma_ci[1] < 1e-6
    assert found.kappa_ci[1] < 1e-9
    assert found.linear_ratio > 0.999


def test_a_rack_that_gains_more_than_its_nodes_is_not_said_to_bend() -> None:
    found = fit({size: [size * (1 - 1 / (2 * size))] for size in SIZES})
    assert found.sigma == pytest.approx(0, abs=1e-9)
    assert found.kappa == pytest.approx(0, abs=1e-12)


def test_the_same_measurements_give_the_same_fit() -> None:
    assert fit(made(0.01, 1e-7)) == fit(made(0.01, 1e-7))


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="three sizes"):
        fit({5: [1.0], 10: [2.0]})


def test_a_power_law_is_found_and_no_law_is_made_of_zeros() -> None:
    found = power({size: [2.0 * size**0.5] for size in SIZES})
    assert found is not None
    assert found.exponent == pytest.approx(0.5)
    assert found.factor == pytest.approx(2.0)
    assert power({size: [0.0] for size in SIZES}) is None


@pytest.fixture(scope="module")
def sample() -> Sample:
    return measure(6, 1, Plan(catalog=CATALOG))


def test_one_more_server_joins_and_both_losses_are_recovered_from(sample: Sample) -> None:
    assert 60_000 < sample.join_ms < 600_000
    assert 0 < sample.order_ms < sample.join_ms
    assert 500 < sample.failover_ms < sample.silent_failover_ms < 30_000


def test_what_is_counted_is_what_the_world_sent(sample: Sample) -> None:
    assert sample.join.changes == 3  # found, powered on, member: of which the members hear but one or two
    assert sample.join.watch_events >= sample.nodes
    assert sample.join.reads > 2 * sample.nodes  # the new node reads every member and every record
    assert sample.calm.watch_events == 0
    assert sample.znodes > 3 * sample.nodes
    assert sample.join.probe_ns == 0  # no clock was given


def test_the_same_seed_is_measured_alike_but_for_a_few_percent_of_memory(sample: Sample) -> None:
    again = measure(6, 1, Plan(catalog=CATALOG))
    assert again.memory_bytes == pytest.approx(sample.memory_bytes, rel=0.2)
    assert msgspec.structs.replace(again, memory_bytes=sample.memory_bytes) == sample


def test_capacity_is_that_of_the_survivors_less_replicas_and_overheads(sample: Sample) -> None:
    rack = grown(6, 0, Plan(catalog=CATALOG))
    room = usable(rack, CATALOG, sample)
    raw = 5 * 2 * 4_000 * 10**9
    assert 0.99 * raw * 0.85 / 3 < room.usable_bytes < raw * 0.85 / 3
    assert 0 < room.usable_vms <= 5 * 31 // 2


def test_more_churn_and_slower_joins_deliver_less(sample: Sample) -> None:
    rack = grown(6, 0, Plan(catalog=CATALOG))
    calm, wild = (deliver(sample, rack, Timing(), 100, yearly).node_equivalents for yearly in (1, 1_000))
    assert 5.9 < wild < calm < 6


def test_racks_are_made_of_the_servers_of_a_pattern() -> None:
    pattern = load_rack(ROOT / "racks/six.toml").nodes[0]
    rack = grown(45, 1, Plan(catalog=CATALOG, pattern=pattern))
    assert len(rack.nodes) == 46
    assert len({server.spec.rack for server in rack.nodes}) == 3
    assert rack.nodes[0].disks == pattern.disks
    assert [server.plugged for server in rack.nodes] == [True] * 45 + [False]


def test_the_time_to_join_is_that_of_the_measurement(sample: Sample) -> None:
    assert time_to_join(6, 1, catalog=ROOT / "catalog/minimal.toml") == sample.join_ms


@pytest.fixture(scope="module")
def found() -> Scaling:
    return scale((5, 6, 12), 2, catalog=ROOT / "catalog/minimal.toml")


def test_every_size_has_a_row_and_every_row_its_cold_start(found: Scaling) -> None:
    assert found.table["nodes"].tolist() == [5, 6, 12]
    assert [row.cold_start.nodes for row in found.rows if row.cold_start] == [5, 6, 12]
    assert found.rows[-1].delivered == pytest.approx(12, rel=0.01)
    assert found.rows[-1].usable_bytes > found.rows[0].usable_bytes
    assert all(row.usable_placed_bytes and row.usable_placed_bytes < 12 * 8e12 * 0.85 / 3 for row in found.rows)


def test_the_words_name_what_grows(found: Scaling) -> None:
    assert any("memory of one agent" in sentence and "Grows" in sentence for sentence in found.words)
    assert any("Membership is told to all" in sentence for sentence in found.words)


def test_the_page_shows_the_verdict_and_every_picture(found: Scaling) -> None:
    html = page(found)
    assert draw_times(found) == draw_times(found)
    assert html.count("<svg") == 4
    assert "node-equivalents" in html


def test_every_figure_names_its_unit_and_its_source() -> None:
    assert all(figure.unit and figure.what and figure.source for figure in figures().values())


def planted(change: Callable[[Sample], dict[str, Any]]) -> Scaling:
    """What is found of racks whose measurements were changed."""
    plan = Plan(catalog=CATALOG)
    one = measure(6, 1, plan)
    samples = {
        size: [msgspec.structs.replace(sized, **change(sized))]
        for size in SIZES
        for sized in (msgspec.structs.replace(one, nodes=size),)
    }
    return summed_up(samples, {}, plan, {})


def test_a_planted_bend_of_joins_is_red() -> None:
    assert not [problem for problem in planted(lambda s: {"nodes": s.nodes}).broken if "capacity" in problem]
    slow = planted(lambda s: {"join_ms": 60_000 * s.nodes})  # a minute for every member
    assert any(problem.startswith("capacity: sigma") for problem in slow.broken)
    assert any(problem.startswith("time to join one more grows as N^1.00") for problem in slow.broken)


def test_the_command_prints_one_object_and_writes_a_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = main(["scale", "--nodes", "5,6,8", "--seeds", "1", "--storms", "0", "--json", "--report", str(tmp_path)])
    assert code == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"sigma", "sigma_ci", "kappa", "kappa_ci", "lambda"} <= set(printed["usl"])
    assert [row["nodes"] for row in printed["rows"]] == [5, 6, 8]
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--nodes", "5,10"], "three different sizes"),
        (["--nodes", "2,10,20"], "--nodes 2: allowed: 3 to 10000"),
        (["--rack", "nowhere.toml"], "nowhere.toml"),
        (["--catalog", "racks/six.toml"], "six.toml"),
    ],
)
def test_nonsense_is_bad_input(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scale", *options]) == 2
    assert said in capsys.readouterr().err


def test_sizes_that_are_no_numbers_are_refused_by_the_command_line() -> None:
    for words in ("five", "5,,6", "1e3,5,6", "-5,6,7"):
        with pytest.raises(SystemExit):
            main(["scale", "--nodes", words])


def test_a_catalog_without_a_singleton_is_bad_input(tmp_path: Path) -> None:
    lines = (ROOT / "catalog/minimal.toml").read_text(encoding="utf-8").split("[[service]]")
    (tmp_path / "none.toml").write_text(lines[0] + "[[service]]" + lines[1], encoding="utf-8")
    with pytest.raises(InputError, match="singleton"):
        scale((5, 6, 7), 1, catalog=tmp_path / "none.toml")
