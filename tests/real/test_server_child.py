"""The ZooKeeper server as a child, and files that a supervisor keeps: small real processes in their place."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.children import Born, Child, adopt_orphans, environment, reap_orphans
from drivers.logs import rotate
from drivers.loop import Loop
from drivers.server import Server
from drivers.state_file import read_count, write_whole
from drivers.wire import RunServer

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("children")]


class House:
    """A server that notes its starts in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = Loop()
        self.server = Server(self.loop, folder / "memory.json", folder / "hold")
        self.log = folder / "server.log"

    def remembered(self) -> bool:
        """Whether a supervisor that starts now would run a server."""
        loop = Loop()
        configured = Server(loop, self.folder / "memory.json", self.folder / "hold").configured
        loop.close()
        return configured

    def order(self, then: str = "exec sleep 600") -> RunServer:
        return RunServer(argv=("sh", "-c", f"echo began; {then}"), log=str(self.log))

    def starts(self) -> int:
        return self.log.read_text(encoding="ascii").count("began") if self.log.exists() else 0

    def wait(self, condition: Callable[[], bool]) -> None:
        until_ms = self.loop.now() + 10_000
        while not condition():
            assert self.loop.now() < until_ms, "in vain"
            self.loop.turn(20)

    def run(self, ms: int) -> None:
        until_ms = self.loop.now() + ms
        while (left := until_ms - self.loop.now()) > 0:
            self.loop.turn(left)

    def end(self) -> None:
        gone: list[bool] = []
        self.server.end(lambda: gone.append(True))
        self.wait(lambda: bool(gone))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.end()
    made.loop.close()


def test_a_child_hears_signals_that_its_supervisor_was_started_deaf_to(house: House) -> None:
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGQUIT, signal.SIGINT, signal.SIGHUP)}
    ends: list[int] = []
    try:
        child = Child(house.loop, Born(argv=("sleep", "600"), env=environment({})), ends.append)
    finally:
        for number, before in kept.items():
            signal.signal(number, before)
    child.send(signal.SIGQUIT)
    house.wait(lambda: bool(ends))
    assert ends == [-signal.SIGQUIT]


def test_a_server_that_ends_is_started_again_and_one_that_runs_is_left_alone(house: House) -> None:
    house.server.run(house.order("sleep 0.3"))
    house.wait(lambda: house.starts() == 1)
    house.server.run(house.order("sleep 0.3"))
    house.run(100)
    assert house.starts() == 1
    house.wait(lambda: house.starts() == 2)


def test_its_command_is_remembered_until_it_is_ended(house: House) -> None:
    house.server.run(house.order())
    house.wait(lambda: house.starts() == 1)
    assert house.remembered()
    house.end()
    assert not house.server.configured
    assert not house.remembered()


def test_ending_what_never_ran_is_done_at_once(house: House) -> None:
    house.end()


def test_ordered_again_while_it_ends_it_runs_again(house: House) -> None:
    house.server.run(house.order())
    house.wait(lambda: house.starts() == 1)
    gone: list[bool] = []
    house.server.end(lambda: gone.append(True))
    house.server.run(house.order())
    house.wait(lambda: house.starts() == 2)
    assert gone == [True]


def test_a_held_server_waits(house: House) -> None:
    (house.folder / "hold").touch()
    house.server.run(house.order())
    house.run(400)
    assert house.starts() == 0
    (house.folder / "hold").unlink()
    house.wait(lambda: house.starts() == 1)


def test_a_damaged_memory_is_forgotten_with_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "memory.json").write_text("{", encoding="ascii")
    loop = Loop()
    assert not Server(loop, tmp_path / "memory.json", tmp_path / "hold").configured
    assert "server_forgotten" in capfd.readouterr().err
    loop.close()


def test_counts_survive_and_nonsense_is_none(tmp_path: Path) -> None:
    assert read_count(tmp_path / "count") == 0
    write_whole(tmp_path / "count", b"41\n")
    assert read_count(tmp_path / "count") == 41
    assert (tmp_path / "count").stat().st_mode & 0o777 == 0o600
    (tmp_path / "count").write_text("x", encoding="ascii")
    assert read_count(tmp_path / "count") == 0


def test_a_log_that_has_grown_is_put_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "db.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 2_000)
        assert rotate(tmp_path, bytes_max=1_000) == 1
        writer.write(b"new")
    assert path.read_bytes() == b"new"
    assert (tmp_path / "db.log.1").read_bytes() == b"x" * 2_000
    assert rotate(tmp_path, bytes_max=1_000) == 0


def test_dead_orphans_are_reaped_at_the_second_look(tmp_path: Path) -> None:
    adopt_orphans()
    loop = Loop()
    ended: list[int] = []
    argv = ("sh", "-c", "(sleep 0.1; exit 0) & exit 0")
    Child(loop, Born(argv=argv, env=environment({})), ended.append)
    until_ms = loop.now() + 10_000
    seen: set[int] = set()
    while not (ended and seen):
        assert loop.now() < until_ms
        loop.turn(20)
        seen = reap_orphans(set())
    assert reap_orphans(seen) == set()
    assert reap_orphans(set()) == set()
    loop.close()
