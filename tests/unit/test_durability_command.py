"""The command ``twin durability``, its page, its file of behaviour, and what it says of bad input."""

import json
from pathlib import Path

import pytest

from core.errors import InputError
from twin.cli import main
from twin.durability.assess import data_loss
from twin.durability.durations import Fixed, mean_hours
from twin.durability.figures import load_figures
from twin.durability.layout import synthetic
from twin.durability.measured import measured, read_behaviour
from twin.durability.schemes import PUBLISHED, make_copysets
from twin.durability.singletons import availability

ROOT = Path(__file__).parents[2]
FIVE = ROOT / "racks" / "five-hosts"
OWN = """
recovery = { type = "fixed", hours = 3 }

[disk]
life = { type = "weibull", shape = 1.2, scale_hours = 100_000 }
down = { type = "fixed", hours = 3 }
lost_ratio = 1.0
source = "our own log"

[node]
life = { type = "exponential", mean_hours = 3_000 }
down = { type = "lognormal", mu = -1.0, sigma = 1.4 }
lost_ratio = 0.0
source = "our own log"

[[bursts]]
name = "power"
every = { type = "exponential", mean_hours = 9_000 }
nodes = [[3, 0.5], [5, 0.5]]
down = { type = "fixed", hours = 1 }
lost_ratio = 0.05
source = "our own log"
"""


def test_a_real_cluster_gets_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["durability", str(FIVE), "--samples", "300", "--json", "--set", "recovery_hours=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    pool = found["pools"][0]
    assert pool["recovery_hours"] == 2
    assert (pool["pgs"], pool["size"], pool["tolerance"], pool["copysets"]) == (64, 3, 2, 10)
    assert pool["scatter_width"] == 4
    once = {(row["unit"], row["lost"]): row["probability"] for row in pool["at_once"]}
    assert once["node", 2] == 0
    assert once["node", 3] == 1
    figures = {name: variant["loss"] for name, variant in pool["variants"].items()}
    assert list(figures) == ["independent", "components", "bursts"]
    for loss in figures.values():
        assert loss["converged"] == (loss["value"] is not None)
        assert loss["effective_samples"] > 0
    assert figures["independent"]["value"] == pytest.approx(pool["markov"], rel=0.4)


def test_text_and_page_show_the_same_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["durability", str(FIVE), "--samples", "200", "--bursts", "none", "--report", str(tmp_path / "page")]
    assert main([*given, "--set", "recovery_hours=2"]) == 0
    said = capsys.readouterr().out
    assert "Pool rbd: 64 PGs, 3 copies" in said
    assert "after 2 h (recovery_hours, as set)" in said
    assert "bursts " not in said.split("What the lines mean")[1]
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").split("<svg")[0]


def test_the_recovery_time_is_that_of_the_plan() -> None:
    found = data_loss(FIVE, bursts="none", samples=100)
    assert found.pools[0].recovery_source.startswith("twin plan")
    assert 10 / 60 < mean_hours(found.pools[0].recovery) < 1.0
    assert len(found.survival["years"]) == 2 * 41
    assert found.survival["survival"][0] == 1.0


def test_a_file_of_ones_own_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    found = data_loss(FIVE, bursts=str(path), samples=600)
    assert mean_hours(found.pools[0].recovery) == 3
    assert list(found.pools[0].behaviours) == ["independent", "components", "bursts"]
    rows = {row["variant"]: row for row in found.table.rows}
    loss, lone = rows["bursts"]["loss"], rows["independent"]["loss"]
    assert isinstance(loss, float)
    assert isinstance(lone, float)
    assert loss > 10 * lone


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("hours = 3 }", 'hours = "long" }', "recovery"),
        ("shape = 1.2", "shape = 0", "disk.life"),
        ("lost_ratio = 1.0", "lost_ratio = 0.5", "disk.lost_ratio"),
        ("lost_ratio = 0.05", "lost_ratio = 5", "power.lost_ratio"),
        ("nodes = [[3, 0.5], [5, 0.5]]", "", "nodes or ratios"),
        ("nodes = [[3, 0.5], [5, 0.5]]", "nodes = [[3, -1], [5, 0.5]]", "weights"),
        ("nodes = [[3, 0.5], [5, 0.5]]", "ratios = [[1.5, 1]]", "ratios from 0 to 1"),
        ("[node]", "[blade]", "blade"),
        ("[node]", "[node", "own.toml"),
        ("mean_hours = 9_000", "mean_hours = nan", "power.every"),
        ('type = "exponential", mean_hours = 3_000', 'type = "gamma"', "gamma"),
    ],
)
def test_a_wrong_file_of_behaviour_is_named_with_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(old, new, 1))
    assert main(["durability", str(FIVE), "--bursts", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert said in error


@pytest.mark.parametrize(
    "wrong",
    [
        ["nowhere"],
        [str(FIVE), "--bursts", "nowhere.toml"],
        [str(FIVE), "--set", "recovery_hours=-1"],
        [str(FIVE), "--set", "recovery_hours"],
        [str(FIVE), "--set", "disk_anual_rate=0.1"],
        [str(FIVE), "--set", "disk_annual_rate=1e999"],
        [str(ROOT / "racks" / "forty.toml"), "--set", "node_mttf_hours=1e6", "--set", "recovery_hours=1"],
        [str(ROOT / "racks" / "five.toml"), "--set", "burst_share=0.999", "--set", "recovery_hours=1"],
        [str(FIVE), "--assume", "nowhere.toml"],
        [str(FIVE), "--report", str(FIVE / "README.md")],
    ],
    ids=lambda wrong: " ".join(wrong)[-40:],
)
def test_bad_input_is_said_in_words(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["durability", *wrong]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert "allowed" in said.err or "needed" in said.err


@pytest.mark.parametrize("years", ["0", "-1", "nan", "x", "1e9"])
def test_times_that_make_no_sense_are_refused(years: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["durability", str(FIVE), "--years", years])
    assert ended.value.code == 2
    assert "allowed" in capsys.readouterr().err


def test_rates_are_of_one_component_and_do_not_grow_with_the_site() -> None:
    found = []
    for nodes in (40, 400):
        layout = synthetic(
            make_copysets(PUBLISHED["chained"], nodes, None), nodes, tolerance=2, nodes_per_rack=40, name="x"
        )
        found.append(measured(load_figures(), layout, Fixed(hours=1.0), bursts=True))
    small, large = found
    assert mean_hours(small.disk.life) == mean_hours(large.disk.life)
    assert small.node is not None
    assert large.node is not None
    assert mean_hours(small.node.life) == mean_hours(large.node.life)
    per_year = [mean_hours(one.every) for one in small.bursts]
    assert [mean_hours(one.every) for one in large.bursts][:2] == pytest.approx([hours / 10 for hours in per_year[:2]])


def test_a_behaviour_without_bursts_is_read(tmp_path: Path) -> None:
    path = tmp_path / "calm.toml"
    path.write_text(OWN.split("[[bursts]]")[0])
    assert read_behaviour(path).bursts == ()
    with pytest.raises(InputError):
        read_behaviour(tmp_path / "none.toml")


def test_singletons_of_a_small_rack_are_nearly_always_served() -> None:
    table = availability(ROOT / "racks" / "five.toml", ROOT / "catalog" / "minimal.toml", years=0.1, seeds=2)
    assert list(table["service"]) == ["mariadb", "scheduler"]
    for row in table.rows:
        share, low = row["availability"], row["low"]
        assert isinstance(share, float)
        assert isinstance(low, float)
        assert 0.999 < share <= 1.0
        assert low <= share
