"""The command line: exit codes, one JSON object, bad input in words and never as a traceback."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.cli import main

ROOT = Path(__file__).parents[2]
QUIET = """# Why: nothing happens.
rack = "{root}/racks/five.toml"
catalog = "{root}/catalog/minimal.toml"
duration_ms = 40_000
heal_ms = {heal_ms}
settle_ms = 30_000
[clients]
every_ms = 0
{more}
"""


def scenario(folder: Path, more: str = "", heal_ms: int = 20_000) -> str:
    """A short scenario in its own folder."""
    path = folder / "quiet"
    path.mkdir(exist_ok=True)
    (path / "scenario.toml").write_text(QUIET.format(root=ROOT, more=more, heal_ms=heal_ms), encoding="utf-8")
    return str(path)


def call(*arguments: str) -> int:
    """The exit code of a command line."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1


def test_a_run_that_passes_exits_with_0_and_prints_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", scenario(tmp_path), "--json") == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == ""
    found = json.loads(out)
    assert (found["verdict"], found["scenario"], found["seed"]) == ("pass", "quiet", 1)
    assert all(check["ok"] for check in found["checks"])
    assert found["unavailable_ms"]
    assert found["steps"] > 0


def test_the_same_seed_gives_the_same_digest_and_another_seed_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scenario(tmp_path)
    digests = []
    for seed in ("3", "3", "4"):
        call("run", path, "--json", "--seed", seed)
        digests.append(json.loads(capsys.readouterr().out)["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_an_expectation_that_is_not_met_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", scenario(tmp_path, "[expect]\nfailovers.mariadb = 1")) == 3
    assert "NOT MET: failovers.mariadb: wanted exactly 1, got 0" in capsys.readouterr().out


def test_a_scenario_that_expects_liveness_exits_with_0_when_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scenario(tmp_path, '[expect]\nverdict = "liveness"\nfailovers.mariadb = 1')
    assert call("run", path) == 0
    assert "LIVENESS, as expected" in capsys.readouterr().out
    assert call("run", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["expected"], found["as_expected"]) == ("liveness", "liveness", True)


def test_a_run_writes_report_junit_and_a_journal_that_replays_and_explains_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, junit, report = tmp_path / "j" / "journal", tmp_path / "x" / "junit.xml", tmp_path / "report"
    files = ("--journal", str(journal), "--junit", str(junit), "--report", str(report))
    assert call("run", scenario(tmp_path), *files) == 0
    assert (report / "index.html").exists()
    assert junit.read_text().startswith("<?xml")
    capsys.readouterr()
    assert call("replay", str(journal)) == 0
    assert capsys.readouterr().out.startswith("identical: 5 machines")
    assert call("explain", str(journal), "--service", "mariadb") == 0
    assert "mariadb: first on" in capsys.readouterr().out
    assert call("explain", str(journal), "--service", "mariadb", "--json") == 0
    assert json.loads(capsys.readouterr().out)["moves"][0]["epoch"] == 1
    _replay_notices_a_changed_effect(journal, capsys)


def _replay_notices_a_changed_effect(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = journal.read_bytes().replace(b'"kind":"claimed"', b'"kind":"claim_lost"', 1)
    journal.write_bytes(changed)
    assert call("replay", str(journal)) == 4
    assert "first difference at line" in capsys.readouterr().out


BAD = (
    (),
    ("nonsense",),
    ("run",),
    ("run", "nowhere"),
    ("run", "."),
    ("run", "scenarios\0"),
    ("run", "README"),
    ("run", "scenarios/lose-the-holder", "--seed", "-1"),
    ("run", "scenarios/lose-the-holder", "--seed", "1.5"),
    ("run", "scenarios/lose-the-holder", "--seed", "9" * 30),
    ("run", "scenarios/lose-the-holder", "--fidelity", "none"),
    ("run", "scenarios/lose-the-holder", "--trace", "file"),
    ("run", "scenarios/lose-the-holder", "--repo", "x"),
    ("replay",),
    ("replay", "nowhere"),
    ("replay", "."),
    ("explain", "nowhere", "--service", "s"),
    ("explain", "nowhere"),
    ("scenarios", "nowhere"),
    ("scenarios", "core"),
)


@pytest.mark.parametrize("arguments", BAD, ids=lambda arguments: " ".join(arguments).replace("\0", "0") or "nothing")
def test_bad_input_exits_with_2_and_says_something_but_no_traceback(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err


def test_a_journal_that_cannot_be_written_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    path = scenario(tmp_path)
    for journal in (tmp_path / "file" / "journal", Path("/dev/full")):
        assert call("run", path, "--journal", str(journal)) == 2
        assert "cannot be written" in capsys.readouterr().err


@settings(max_examples=60, deadline=None)
@given(junk=st.binary(max_size=300))
def test_a_journal_of_any_bytes_never_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "journal"
    path.write_bytes(junk)
    assert call("replay", str(path)) == 2
    assert call("explain", str(path), "--service", "mariadb") == 2


WORDS = (
    "run",
    "replay",
    "explain",
    "scenarios",
    "--json",
    "--seed",
    "--service",
    "-1",
    "x",
    "",
    "\0",
    "é",
    "--",
    "-h0",
)


@settings(max_examples=60, deadline=None)
@given(arguments=st.lists(st.sampled_from(WORDS), max_size=5))
def test_any_words_on_the_command_line_are_answered_with_2(arguments: list[str]) -> None:
    assert call(*arguments) == 2


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help")])
def test_help_names_the_exit_codes_or_the_options(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 0
    out = capsys.readouterr().out
    assert "exit codes" in out or "--fidelity" in out


def test_the_list_of_scenarios_has_one_line_with_a_reason_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("scenarios", str(ROOT / "scenarios")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list((ROOT / "scenarios").glob("*/scenario.toml")))
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
