"""The command ``rack``: bad input is answered in words with exit code 2, and never with a traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ids import NodeId
from drivers.cli import main
from drivers.init import node_folder, operator_file, prepare
from tests.unit.made_rack import plan

ROOT = Path(__file__).parents[2]


def call(*arguments: str) -> int:
    """The exit code of a command line."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1


BAD = (
    (),
    ("nonsense",),
    ("agent",),
    ("supervisor",),
    ("agent", "--config", "nowhere.toml"),
    ("supervisor", "--config", "nowhere.toml"),
    ("supervisor", "--config", "."),
    ("init",),
    ("init", "--inventory", "nowhere", "--catalog", "nowhere", "--out", "x"),
    ("init", "--inventory", "README.md", "--catalog", "README.md", "--out", "x"),
    ("init", "--seed-records", "--config", "nowhere"),
    ("init", "--out"),
    ("status", "--config", "nowhere"),
    ("status", "--config", "README.md"),
    ("status", "--config", "nul\0"),
    ("status", "--conf", "x"),
    ("status", "more"),
    ("drain",),
    ("drain", "n1", "n2"),
    ("drain", "n1", "--wait", "-1"),
    ("drain", "n1", "--wait", "1.5"),
    ("undrain", "n1", "--config", "nowhere"),
    ("check", "--config", "nowhere"),
    ("lab",),
    ("lab", "nonsense"),
    ("lab", "up", "--nodes", "x"),
    ("scan", "10.0.0.0/8"),
    ("scan", "fd00::/64"),
    ("scan", "fe80::/120"),
    ("scan", "127.0.0.1", "--ca", "nowhere"),
    ("scan", "127.0.0.1", "--user", "x", "--password-file", "nowhere"),
    ("scan", "127.0.0.1", "--user", "x", "--password-file", "nul\0", "--ca", "nul\0"),
    ("init", "--first", "--images", "nowhere"),
    ("init", "--first", "--answers", "nowhere"),
    ("init", "--revocation-list"),
    ("netboot", "--config", "nowhere"),
    ("join", "--cmdline", "nowhere"),
    ("image",),
    ("image", "build", "--out", "drivers", "--profile", "nonsense"),
    ("image", "show", "nowhere"),
    ("image", "harden", "nowhere"),
    ("image", "verify", "nowhere", "--key", "nowhere"),
    ("image", "keys", "README.md"),
    ("retire",),
    ("retire", "n1", "--config", "nowhere"),
    ("upgrade",),
    ("upgrade", "start", "--config", "nowhere", "--image", "x"),
    ("lab", "machine"),
    ("lab", "up", "--machines", "0"),
    ("snapshot",),
    ("snapshot", "--out"),
    ("snapshot", "--out", "x", "--config", "nowhere"),
)


@pytest.mark.parametrize("arguments", BAD, ids=lambda words: " ".join(words).replace("\0", "0") or "nothing")
def test_bad_input_exits_with_2_and_says_something_but_no_traceback(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err


def test_without_a_file_the_places_that_were_looked_at_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("drivers.access.PLACES", (Path("operator.toml"), tmp_path / "node.toml"))
    assert call("status") == 2
    err = capsys.readouterr().err
    assert "looked for operator.toml" in err
    assert "needed: --config FILE" in err


@settings(max_examples=40, deadline=None)
@given(junk=st.binary(max_size=300))
def test_a_configuration_of_any_bytes_never_gives_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("junk") / "x.toml"
    path.write_bytes(junk)
    for command in ("status", "check", "supervisor", "agent"):
        assert call(command, "--config", str(path)) == 2


WORDS = ("init", "status", "drain", "check", "snapshot", "--json", "--out", "--wait", "-1", "x", "", "\0", "é", "--")


@settings(max_examples=60, deadline=None)
@given(arguments=st.lists(st.sampled_from(WORDS), max_size=5))
def test_any_words_on_the_command_line_are_answered_with_2(
    tmp_path_factory: pytest.TempPathFactory, arguments: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        patch.setattr("drivers.access.PLACES", (Path("operator.toml"),))
        assert call(*arguments) == 2


def rack(folder: Path) -> str:
    """The operator's file of a rack on this machine whose servers do not run."""
    settings = {"zookeeper": {"client_port": 26_091}, "metrics": "{address}:26092"}
    wanted = plan(folder, settings=settings)
    text = wanted.inventory.read_text(encoding="utf-8").replace('"10.9.0.', '"127.0.0.')
    wanted.inventory.write_text(text, encoding="utf-8")
    prepare(wanted)
    return str(operator_file(wanted.out))


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("snapshot", "--out", "{new}")], ids=str)
def test_an_ensemble_that_cannot_be_reached_is_one_message_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    file = rack(tmp_path)
    words = [word.replace("{new}", str(tmp_path / "new")) for word in command]
    assert call(*words, "--config", file) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("the ensemble cannot be reached (n1 n2 n3: connection refused); ")
    assert "does 'rack supervisor' run on the voters" in err


def test_a_node_that_nobody_knows_is_named_before_anybody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("drain", "n9", "--config", rack(tmp_path)) == 2
    assert capsys.readouterr().err == 'rack drain n9: no such node; allowed: n1, n2, n3; did you mean "n3"?\n'


def test_a_key_that_is_gone_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rack(tmp_path)
    (Path(file).parent / "tls" / "operator.key").unlink()
    assert call("status", "--config", file) == 2
    err = capsys.readouterr().err
    assert "operator.key: cannot be used (no such file or directory)" in err


def test_init_makes_a_rack_and_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = plan(tmp_path)
    words = ("init", "--inventory", str(wanted.inventory), "--catalog", str(wanted.catalog), "--out", str(wanted.out))
    assert call(*words, "--interface", "bond0") == 0
    assert "on n1 first: rack supervisor" in capsys.readouterr().out
    assert 'interface = "bond0"' in (node_folder(wanted.out, NodeId("n2")) / "node.toml").read_text()


@pytest.mark.parametrize("arguments", [("--help",), ("init", "--help"), ("drain", "--help"), ("lab", "--help")])
def test_help_is_given_with_0(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == 0
    assert "usage: rack" in capsys.readouterr().out


def test_a_reader_that_hangs_up_is_no_error() -> None:
    command = f"{sys.executable} -m drivers.cli --help | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_command_itself_loads_no_driver() -> None:
    code = (
        "import sys, drivers.cli\n"
        "heavy = {'kazoo', 'pyghmi', 'pyroute2', 'cryptography', 'msgspec', 'ssl', 'drivers.config'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give a folder away")
@pytest.mark.parametrize(
    "words",
    [
        ("image", "keys", "{closed}/keys"),
        ("image", "show", "{closed}/image"),
        ("image", "verify", "{closed}/image", "--key", "{closed}/images.pub"),
        ("image", "harden", "{closed}/image"),
        ("scan", "--config", "{closed}/operator.toml"),
        ("status", "--config", "{closed}/operator.toml"),
        ("retire", "n1", "--config", "{closed}/operator.toml"),
        ("netboot", "--config", "{closed}/node.toml"),
        ("join", "--cmdline", "{closed}/cmdline"),
        ("init", "--first", "--answers", "{closed}/answers"),
        ("snapshot", "--config", "{closed}/operator.toml", "--out", "{closed}/out"),
    ],
    ids=lambda words: " ".join(words),
)
def test_who_may_not_is_told_so_and_sees_no_traceback(tmp_path: Path, words: tuple[str, ...]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, 65_534, 65_534)
    as_others = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
    command = [*as_others, sys.executable, "-m", "drivers.cli", *(word.format(closed=closed) for word in words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "permission denied" in done.stderr
