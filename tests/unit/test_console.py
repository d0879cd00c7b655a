"""Watching consoles: what is kept, how it is cleaned, and that nothing is left behind, whatever the program does."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.ids import NodeId
from drivers import console
from drivers.bmc import BmcFailure
from drivers.clock import now_ms
from drivers.console import TAIL_BYTES_MAX, WATCHED_MAX, Consoles, readable
from drivers.inventory import BmcTable

N2, N3 = NodeId("n2"), NodeId("n3")
GREETING = "[SOL Session operational.  Use ~? for help]"

PROGRAM = """#!/bin/sh
# In the place of ipmitool: the last word says what is asked for.
for word; do last=$word; done
echo "$last $*" >>"{folder}/asked"
[ "$last" = activate ] || exit 0
{body}
"""


@pytest.fixture
def table(tmp_path: Path) -> BmcTable:
    (tmp_path / "word").touch(mode=0o600)
    (tmp_path / "word").write_text("s3cret\n", encoding="utf-8")
    return BmcTable(driver="ipmi", address="127.0.0.1", user="a b;c", password_file=tmp_path / "word")


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Consoles]]:
    made: list[Consoles] = []

    def begin(body: str, ms_max: int = 10_000) -> Consoles:
        path = tmp_path / "ipmitool"
        path.write_text(PROGRAM.format(folder=tmp_path, body=body), encoding="utf-8")
        path.chmod(0o755)
        monkeypatch.setattr(console, "PROGRAM", str(path))
        monkeypatch.setattr(console, "LEAVE_MS", 200)
        made.append(Consoles(now_ms, ms_max))
        return made[-1]

    yield begin
    for one in made:
        one.close()
        assert until(lambda one=one: one.watched == 0)  # type: ignore[misc]  # bound now


def until(holds: Callable[[], bool], ms_max: int = 5_000) -> bool:
    end_ms, pause = now_ms() + ms_max, threading.Event()
    while now_ms() < end_ms:
        if holds():
            return True
        pause.wait(0.02)
    return False


def read(consoles: Consoles, table: BmcTable, ms: int = 2_000) -> str:
    return consoles.tail(N2, table, now_ms() + ms)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain\r\nlines\r\n", "plain\nlines"),
        (b"\x1b[2J\x1b[01;01HSeaBIOS\x1b[05;01HiPXE", "SeaBIOS\niPXE"),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07end\x1b(B\x1b7", "red end"),
        (b"\x1b]0;never ends" + b"x" * 20, ""),
        (b"a\x00\x08\x9b31mb\x7fc\td", "a\ufffd31mbc d"),
        (b"50%\r80%\r100%\r\n", "50%\n80%\n100%"),
        (GREETING.encode() + b"\r\n\n\n\nfirst\n\n\nsecond  \n", "first\nsecond"),
        ("ü – ✓ \u202e \ufeff".encode(), "ü – ✓"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
    ],
)
def test_a_console_is_read_as_plain_text(raw: bytes, text: str) -> None:
    assert readable(raw) == text


def test_the_end_counts_and_no_more_than_that() -> None:
    text = readable(b"".join(b"line %d\r\n" % n for n in range(5_000)))
    assert text.endswith("line 4999")
    assert TAIL_BYTES_MAX - 10 < len(text.encode()) <= TAIL_BYTES_MAX


def test_what_is_written_after_the_order_is_kept_and_what_was_before_is_not(
    watching: Callable[..., Consoles], table: BmcTable, tmp_path: Path
) -> None:
    consoles = watching(f'echo "{GREETING}"; echo booting; exec cat "{tmp_path}/more"')
    pipe = tmp_path / "more"
    console.os.mkfifo(pipe)
    consoles.begin(N2, table)
    assert until(lambda: "booting" in read(consoles, table))
    with pipe.open("w", encoding="utf-8") as more:
        consoles.begin(N2, table)  # the next attempt
        more.write("again\n")
        more.flush()
        assert until(lambda: read(consoles, table) == "again")
        assert consoles.watched == 1
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in asked] == ["deactivate", "activate"]
    assert "-U a b;c -f" in asked[1]
    assert "s3cret" not in asked[1]


def test_a_session_that_ends_is_begun_again_with_another_suite(
    watching: Callable[..., Consoles], table: BmcTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "AGAIN_MS", 100)
    consoles = watching("echo 'Error: no suite' >&2; exit 1", ms_max=1_500)
    consoles.begin(N2, table)
    asked = tmp_path / "asked"
    assert until(lambda: asked.exists() and asked.read_text(encoding="utf-8").count("-C 17") >= 2)
    with pytest.raises(BmcFailure, match="cannot be read: Error: no suite"):
        read(consoles, table, 500)
    assert until(lambda: consoles.watched == 0)


def test_a_node_that_is_up_is_watched_no_more(watching: Callable[..., Consoles], table: BmcTable) -> None:
    consoles = watching(f'echo "{GREETING}"; echo hello; cat')
    consoles.begin(N2, table)
    assert until(lambda: consoles.watched == 1)
    consoles.end(N2)
    assert until(lambda: consoles.watched == 0)
    assert "consoles" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("body", ["trap '' TERM HUP; sleep 100", "while :; do echo flood; done"])
def test_nothing_is_left_of_a_bmc_that_is_dead_or_floods(
    watching: Callable[..., Consoles], table: BmcTable, body: str
) -> None:
    consoles = watching(body, ms_max=500)
    consoles.begin(N2, table)
    assert until(lambda: consoles.watched == 1)
    assert until(lambda: consoles.watched == 0)
    assert len(consoles._watches[N2].raw) <= console.RAW_BYTES_MAX


def test_who_was_not_watched_is_looked_at_now(watching: Callable[..., Consoles], table: BmcTable) -> None:
    consoles = watching(f'echo "{GREETING}"; echo "from the history"; exec cat')
    began_ms = now_ms()
    assert read(consoles, table, 4_000) == "from the history"
    assert now_ms() - began_ms < 3_000


def test_a_silent_console_is_empty_and_a_dead_one_is_a_failure(
    watching: Callable[..., Consoles], table: BmcTable
) -> None:
    consoles = watching(f'echo "{GREETING}"; exec cat')
    assert read(consoles, table, 1_500) == ""
    consoles = watching("exec sleep 100")
    with pytest.raises(BmcFailure, match="no serial over LAN within the time"):
        read(consoles, table, 500)


def test_without_the_program_it_is_said_which_one(table: BmcTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "PROGRAM", "/nowhere/ipmitool")
    consoles = Consoles(now_ms, 500)
    with pytest.raises(BmcFailure, match=r"/nowhere/ipmitool.*(No such file|not found)"):
        read(consoles, table, 700)
    consoles.close()


def test_only_so_many_are_watched_and_only_over_ipmi(watching: Callable[..., Consoles], table: BmcTable) -> None:
    consoles = watching("exec cat", ms_max=1_000)
    for number in range(WATCHED_MAX + 5):
        consoles._watches[NodeId(f"x{number}")] = console._Watch(NodeId(f"x{number}"), table, now_ms() + 60_000)
    with pytest.raises(BmcFailure, match="are watched already"):
        read(consoles, table, 500)
    consoles._watches.clear()
    consoles.begin(N3, BmcTable(driver="redfish", address="127.0.0.1"))
    assert consoles.watched == 0
    with pytest.raises(BmcFailure, match="only be read over IPMI"):
        consoles.tail(N3, BmcTable(driver="redfish", address="127.0.0.1"), now_ms() + 100)
