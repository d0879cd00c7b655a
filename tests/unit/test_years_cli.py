"""The command ``twin years``: what a person sees, what a program gets, and what is refused."""

import json
from pathlib import Path

import pytest

from twin.cli import main
from twin.failures.published import DRIVES

QUICK = ("years", "--nodes", "50", "--disks", "2")


def test_a_person_reads_what_fails_and_what_that_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK]) == 0
    text = capsys.readouterr().out
    for words in ("1 year of 50 nodes, 100 disks", "component", "in bursts", "degraded", "under min", "database"):
        assert words.replace("in bursts", "bursts") in text
    assert max(map(len, text.splitlines())) <= 140


def test_a_program_gets_one_object_whose_times_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--years", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    storage = told["storage"]
    states = [storage[f"{state}_ms"] for state in ("clean", "degraded", "inactive", "lost")]
    assert sum(states) == storage["groups"] * told["duration_ms"]
    assert told["duration_ms"] == round(0.5 * 8_766 * 3_600_000)
    assert [one["service"] for one in told["singletons"]] == ["database", "scheduler"]
    assert {row["kind"] for row in told["components"]} == {"disk", "node", "rack", "pdu"}


def test_the_same_seed_prints_the_same_and_another_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(seed: str) -> str:
        assert main([*QUICK, "--json", "--seed", seed]) == 0
        return capsys.readouterr().out

    assert printed("3") == printed("3") != printed("4")


@pytest.mark.parametrize("source", ["racks/five.toml", "racks/five-hosts"])
def test_a_rack_file_and_a_real_cluster_are_sources(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path(source).exists():
        pytest.skip(f"{source} is not there")
    assert main(["years", source, "--json", "--years", "5"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["nodes"] == 5
    assert told["storage"]["groups"] >= 1


def test_a_report_is_one_page_with_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--report", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert not any(word in page for word in ("src=", "<link", "@import", 'href="http'))
    assert str(tmp_path / "out" / "index.html") in capsys.readouterr().out


def test_erasure_coding_and_drive_models_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*QUICK, "--size", "6", "--min-size", "5", "--needed", "4", "--disk-model", next(iter(DRIVES)), "--json"]
    assert main(words) == 0
    assert main([*QUICK, "--independent", "--disk-rate", "2", "--json"]) == 0
    worn, frail = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert worn["storage"]["groups"] == 2_048
    disks = next(row for row in frail["components"] if row["kind"] == "disk")
    assert 100 < disks["failures"] < 300
    assert [row["kind"] for row in frail["components"]] == ["disk", "node"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--disk-model", "floppy"], "there are: wdc"),
        (["--node-fit", "floppy"], "allowed: one of g5k06"),
        (["--node-fit", "lanl05:normal"], ":weibull"),
        (["--disk-rate", "1", "--disk-model", "floppy"], "allowed: one of them"),
        (["--pool", "x"], "needs a SOURCE"),
        (["--size", "2", "--min-size", "3"], "allowed: 1 <= needed <= min_size <= size"),
        (["racks/five.toml"], "--nodes, --disks: racks/five.toml says that"),
    ],
)
def test_what_cannot_be_is_bad_input(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "fit", ["g5k06", "lanl05:weibull", "microsoft99:lognormal", "pl05:gamma", "skype06:exponential"]
)
def test_nodes_of_other_recordings_can_be_asked_for(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["years", "--nodes", "100", "--disks", "1", "--node-fit", fit, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    node = next(row for row in told["components"] if row["kind"] == "node")
    assert node["per_year"] == pytest.approx(node["per_year_expected"], rel=0.35)
    assert fit.partition(":")[0] in node["source"]


@pytest.mark.parametrize("source", ["nowhere", "pyproject.toml", "racks"])
def test_a_source_that_is_none_is_bad_input(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["years", source]) == 2
    assert source in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--nodes", "0"], ["--years", "-1"], ["--disks", "many"], ["--years", "nan"]])
def test_a_number_out_of_range_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["years", *words])
    assert caught.value.code == 2
    assert "allowed" in capsys.readouterr().err


def test_the_report_folder_is_tried_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main([*QUICK, "--report", str(tmp_path / "file")]) == 2
    assert "needed: a folder" in capsys.readouterr().err
