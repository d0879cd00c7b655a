"""``twin swarm``, ``twin shrink`` and ``twin blame`` as a person or a CI job calls them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.unit.junit_schema import problems
from twin.cli import main

ROOT = Path(__file__).parents[2]
HASTY = """# Why: racks that get no time to recover, so that campaigns fail.
duration_ms = 60_000
heal_ms = 2_000
faults = [2, 4]
kinds_share = 1.0
plots_share = 0.0
services_share = 1.0
[kinds]
power_loss = 1
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write nothing into the project; racks and catalogs are there as in a checkout."""
    for name in ("racks", "catalog"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> int:
    """The exit code of a command line."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1


def hasty(*arguments: str) -> int:
    """The exit code of a swarm whose campaigns mostly fail."""
    Path("hasty.toml").write_text(HASTY, encoding="utf-8")
    return call("swarm", "--profile", "hasty.toml", *arguments)


def test_any_number_of_processes_gives_the_same_object(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for jobs in ("1", "2", "3"):
        code = hasty("--seeds", "1..6", "--jobs", jobs, "--json", "--no-shrink")
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        found = json.loads(out)
        assert found["wall_ms"] > 0
        del found["wall_ms"]
        seen.append((code, found))
    assert seen[0] == seen[1] == seen[2]
    assert (seen[0][1]["campaigns"], seen[0][1]["first_seed"], seen[0][1]["last_seed"]) == (6, 1, 6)


def test_a_failing_campaign_leaves_a_tape_that_fails_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert hasty("--seeds", "1..8", "--jobs", "2", "--json", "--junit", "out/junit.xml") == 3
    out, err = capsys.readouterr()
    found = json.loads(out)
    failure = found["failures"][0]
    seed = failure["found"]["seed"]
    assert failure["tape"] == f"failures/{seed}.toml"
    assert failure["tape_text"] == Path(failure["tape"]).read_text()
    assert failure["shrunk_text"] == Path(f"failures/{seed}-shrunk.toml").read_text()
    assert len(failure["blame"]) == failure["faults_left"] <= failure["found"]["faults"]
    assert f"seed {seed}: LIVENESS (convergence), replay: twin run failures/{seed}.toml" in err
    assert all(Path(f"failures/{each}.toml").exists() for broken in found["broken"] for each in broken["seeds"])
    for tape in (failure["tape"], failure["shrunk"]):
        assert call("run", tape, "--json") == 3
        again = json.loads(capsys.readouterr().out)
        assert again["pending"]
        assert (again["digest"] == failure["found"]["digest"]) == (tape == failure["tape"])
    xml = Path("out/junit.xml").read_text(encoding="utf-8")
    assert problems(xml) == []
    assert f"replay: twin run failures/{seed}.toml" in xml
    assert failure["blame"][0] in xml


def test_a_tape_is_shrunk_and_blamed_by_commands_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    hasty("--seeds", "1..8", "--jobs", "1", "--json", "--no-shrink")
    tape = json.loads(capsys.readouterr().out)["failures"][0]["tape"]
    assert call("shrink", tape, "--runs", "40", "--out", "small/tape.toml") == 0
    assert capsys.readouterr().out == "replay: twin run small/tape.toml\n"
    assert call("shrink", tape, "--runs", "40") == 0
    assert capsys.readouterr().out == Path("small/tape.toml").read_text()
    assert call("blame", "small/tape.toml", "--seeds", "2") == 0
    assert capsys.readouterr().out.startswith("The rack did not converge")
    assert call("blame", "small/tape.toml", "--seeds", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == 2


def test_a_seed_is_shown_in_words_and_as_a_tape_that_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("swarm", "--show", "4") == 0
    text = capsys.readouterr().out
    assert text.startswith("# Seed 4: ")
    assert not Path("failures").exists()
    Path("tape.toml").write_text(text.split("\n\n", 1)[1], encoding="utf-8")
    assert call("run", "tape.toml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 4


def test_a_time_bound_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    call("swarm", "--for", "1s", "--jobs", "2", "--json", "--no-shrink")
    found = json.loads(capsys.readouterr().out)
    assert found["first_seed"] == 1
    assert found["campaigns"] == found["last_seed"]
    assert found["wall_ms"] < 20_000


BAD = (
    (("--seeds", "9..3"), "A..B with A <= B"),
    (("--seeds", "1.."), "A..B with A <= B"),
    (("--seeds", "1..9999999999999999999"), "from 0 to"),
    (("--for", "5x"), "such as 90s, 5m, 1h30m"),
    (("--for", "0s"), "such as 90s, 5m, 1h30m"),
    (("--for", ""), "such as 90s, 5m, 1h30m"),
    (("--for", "5m", "--seeds", "1..2"), "not allowed with"),
    (("--show", "1..2"), "a whole number"),
    (("--jobs", "0"), "from 1 to 256"),
    (("--jobs", "many"), "from 1 to 256"),
    (("--engine", "foo"), "dask://127.0.0.1:8786"),
    (("--engine", "dask://host"), "dask://127.0.0.1:8786"),
    (("--engine", "dask://host:99999"), "dask://127.0.0.1:8786"),
    (("--engine", "dask://host:1", "--jobs", "2"), "is for --engine local"),
    (("--profile", "powr"), 'did you mean "power"?'),
    (("--profile", "nope"), "allowed: "),
    (("--rack", "nowhere.toml"), "nowhere.toml"),
    (("--catalog", "nowhere.toml"), "nowhere.toml"),
    (("--junit", "."), "is a folder; needed: a file"),
    (("--junit", "file/junit.xml"), "file is no folder"),
    (("--report", "file"), "file is no folder"),
    (("--failures", "file/deeper"), "file is no folder"),
)


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda part: " ".join(part) if type(part) is tuple else "")
def test_a_bad_option_exits_with_2_before_anything_runs_and_says_what_is_allowed(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    assert call("swarm", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err
    assert not Path("failures").exists()


BAD_TAPES = (
    ("shrink", "nowhere.toml"),
    ("shrink", "text"),
    ("shrink", "calm.toml"),
    ("shrink", "calm.toml", "--runs", "0"),
    ("blame", "nowhere.toml"),
    ("blame", "text"),
    ("blame", "calm.toml"),
    ("blame", "calm.toml", "--seeds", "none"),
    ("run", "text"),
)


@pytest.mark.parametrize("arguments", BAD_TAPES, ids=" ".join)
def test_a_tape_that_cannot_be_read_or_does_not_fail_is_bad_input(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text").write_bytes(b"seed = \xff\n")
    calm = '# Why: calm.\nrack = "racks/five.toml"\ncatalog = "catalog/minimal.toml"\nduration_ms = 1_000\n'
    Path("calm.toml").write_text(calm, encoding="utf-8")
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err


def test_without_dask_the_engine_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "twin.swarm.dask_engine", raising=False)
    assert call("swarm", "--engine", "dask://127.0.0.1:8786") == 2
    assert "distributed is not installed; needed: pip install 'moxie-rack[dask]'" in capsys.readouterr().err


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_ctrl_c_or_a_cancelled_job_gives_what_there_is_and_leaves_no_process(sign: signal.Signals) -> None:
    Path("hasty.toml").write_text(HASTY, encoding="utf-8")
    swarm = ("swarm", "--profile", "hasty.toml", "--seeds", "1..1000000", "--jobs", "2", "--json")
    with subprocess.Popen(
        [sys.executable, "-m", "twin.cli", *swarm],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("profile hasty, seeds 1 to 1000000, on 2 processes: ")
        assert "replay: twin run failures/" in process.stderr.readline()
        workers = psutil.Process(process.pid).children()
        os.killpg(process.pid, sign) if sign is signal.SIGINT else process.send_signal(sign)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.endswith("interrupted: this is what had been run\n")
    assert "Traceback" not in err
    assert 0 < json.loads(out)["campaigns"] < 1_000_000
    assert len(workers) == 2
    assert [worker.pid for worker in workers if worker.is_running()] == []
