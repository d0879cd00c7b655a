"""The hardware watchdog: fed while it should be, stopped only by an orderly end, looked at without being started."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.watchdog import Watchdog, WatchdogShown, look


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe in place of the device, and what reads it."""
    path = tmp_path / "watchdog"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def test_feeding_writes_and_an_orderly_end_says_the_magic_word(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    watchdog = Watchdog(path)
    watchdog.feed()
    watchdog.feed()
    assert os.read(reader, 100) == b"\0\0"
    watchdog.close()
    assert os.read(reader, 100) == b"V"
    assert os.read(reader, 100) == b""
    watchdog.close()


def test_a_process_that_dies_leaves_the_watchdog_running(pipe: tuple[Path, int]) -> None:
    path, reader = pipe
    code = "import os, sys; from pathlib import Path; from drivers.watchdog import Watchdog; "
    code += "Watchdog(Path(sys.argv[1])).feed(); os._exit(1)"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 1
    assert os.read(reader, 100) == b"\0"
    assert os.read(reader, 100) == b""


def test_a_device_that_fails_is_said_once_and_breaks_nobody(
    pipe: tuple[Path, int], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "full"
    path.symlink_to("/dev/full")
    watchdog = Watchdog(path)
    watchdog.feed()
    watchdog.feed()
    watchdog.close()
    said = capfd.readouterr().err
    assert said.count("watchdog_not_fed") == 1
    assert "No space left" in said


def test_what_has_no_timeout_to_set_is_fed_all_the_same(pipe: tuple[Path, int]) -> None:
    watchdog = Watchdog(pipe[0])
    assert watchdog.timeout_s == 0
    watchdog.close()


def test_a_missing_device_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Watchdog(tmp_path / "none" / "watchdog")


def test_a_watchdog_is_looked_at_without_being_opened(tmp_path: Path) -> None:
    folder = tmp_path / "watchdog0"
    folder.mkdir()
    for name, text in (("identity", "iTCO_wdt"), ("timeout", "30"), ("nowayout", "1"), ("state", "active")):
        (folder / name).write_text(f"{text}\n")
    shown = WatchdogShown(identity="iTCO_wdt", timeout_s=30, nowayout=True, active=True)
    assert look(Path("/dev/watchdog"), tmp_path) == shown
    assert look(Path("/dev/watchdog0"), tmp_path) == shown
    assert look(Path("/dev/watchdog1"), tmp_path) is None
    (tmp_path / "watchdog1").mkdir()
    assert look(Path("/dev/watchdog1"), tmp_path) == WatchdogShown(
        identity="", timeout_s=0, nowayout=False, active=False
    )
