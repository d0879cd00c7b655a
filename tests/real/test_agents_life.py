"""How a supervisor keeps its agent running, and who takes over when it cannot be: real processes, scripted agents."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.agents import STEPPED_DOWN, Agents, Life
from drivers.door import Door
from drivers.loop import Loop
from drivers.wire import FromAgent, Hello, Leaving, Welcome

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("agents")]

AGENT = """
import json, os, pathlib, socket, sys, time
mode, folder = sys.argv[1], pathlib.Path(sys.argv[2])
if mode == "spare" and not sys.stdin.readline():
    sys.exit(0)
with (folder / "starts").open("a") as starts:
    starts.write(f"{mode} {os.getpid()}\\n")
how = (folder / "how").read_text() if mode == "agent" else "leave"
if how.startswith("exit"):
    sys.exit(int(how.split()[1]))
if how == "mute":
    time.sleep(600)
link = socket.socket(socket.AF_UNIX)
link.connect(str(folder / "sock"))
link.sendall(json.dumps({"said": "Hello", "pid": os.getpid(), "version": "0"}).encode() + b"\\n")
link.recv(4096)
if how == "leave":
    link.sendall(b'{"said": "Leaving"}\\n')
    sys.exit(0)
if how == "crash":
    os.kill(os.getpid(), 9)
if how == "step down":
    sys.exit(75)
if how == "reload":
    import signal
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
time.sleep(600)
"""


class House:
    """A door and an agent's life; ``how`` says what agents do."""

    def __init__(self, folder: Path, give_up_ms: int = 1_000) -> None:
        self.folder = folder
        self.loop = Loop()
        (folder / "hold").mkdir()
        (folder / "agent.py").write_text(AGENT, encoding="utf-8")
        self.how("stay")

        def argv(mode: str) -> tuple[str, ...]:
            return (sys.executable, "-S", "-E", str(folder / "agent.py"), mode, str(folder))

        life = Life(
            agent=argv("agent"),
            spare=argv("spare"),
            hand_over=argv("hand_over"),
            hold=folder / "hold/agent",
            restart_ms=20,
            give_up_ms=give_up_ms,
        )
        self.said: list[FromAgent] = []
        self.agents = Agents(self.loop, life)
        self.door = Door(self.loop, folder / "sock", self.heard, self.agents.lost)

    def how(self, what: str) -> None:
        (self.folder / "how").write_text(what, encoding="utf-8")

    def heard(self, said: FromAgent) -> None:
        self.said.append(said)
        if isinstance(said, Hello):
            self.door.say(Welcome(boot_id="b", incarnation=1))
            self.agents.said_hello(said.pid)
        elif isinstance(said, Leaving):
            self.agents.leaving()

    def starts(self) -> list[str]:
        path = self.folder / "starts"
        return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def hellos(self) -> list[int]:
        return [said.pid for said in self.said if isinstance(said, Hello)]

    def wait(self, condition: Callable[[], bool], ms_max: int = 30_000) -> None:
        until_ms = self.loop.now() + ms_max
        while not condition():
            assert self.loop.now() < until_ms, f"not within {ms_max} ms: {self.starts()}, {self.said}"
            self.loop.turn(20)

    def run(self, ms: int) -> None:
        until_ms = self.loop.now() + ms
        while (left := until_ms - self.loop.now()) > 0:
            self.loop.turn(left)

    def close(self) -> None:
        self.agents.close()
        self.wait(lambda: self.agents.quiet)
        self.door.close()
        self.loop.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def test_an_agent_that_crashes_is_started_again_at_once(house: House) -> None:
    house.agents.begin()
    house.wait(lambda: len(house.hellos()) == 1)
    os.kill(house.hellos()[0], signal.SIGKILL)
    house.wait(lambda: len(house.hellos()) == 2)
    assert house.starts() == ["agent", "agent"]


def test_an_agent_that_cannot_start_is_replaced_and_tried_again_much_later(house: House) -> None:
    house.how("exit 2")
    house.agents.begin()
    house.wait(lambda: any(isinstance(said, Leaving) for said in house.said))
    starts = house.starts()
    assert starts[:-1] == ["agent"] * 5
    assert starts[-1] in ("spare", "hand_over"), "by then its substitute may have been started or not"
    house.run(500)
    assert house.starts() == starts


def test_the_substitute_that_was_started_before_works_with_broken_files(house: House) -> None:
    house.agents.begin()
    house.wait(lambda: len(house.hellos()) == 1)
    house.agents._start_spare()
    house.run(500)
    (house.folder / "agent.py").write_text("broken", encoding="utf-8")
    os.kill(house.hellos()[0], signal.SIGKILL)
    house.wait(lambda: any(isinstance(said, Leaving) for said in house.said))
    assert house.starts() == ["agent", "spare"]


def test_an_agent_that_never_says_hello_again_is_given_up(house: House) -> None:
    house.agents.begin()
    house.wait(lambda: len(house.hellos()) == 1)
    house.how("mute")
    os.kill(house.hellos()[0], signal.SIGKILL)
    house.wait(lambda: any(isinstance(said, Leaving) for said in house.said))
    assert house.starts()[:-1] == ["agent", "agent"]
    assert house.starts()[-1] in ("spare", "hand_over")


def test_the_first_agent_of_a_boot_may_take_its_time_as_there_is_nothing_to_hand_over(tmp_path: Path) -> None:
    house = House(tmp_path, give_up_ms=20)
    try:
        house.how("mute")
        house.agents.begin()
        house.wait(lambda: house.starts() == ["agent"])
        house.run(500)
        assert house.starts() == ["agent"]
    finally:
        house.close()


def test_one_that_steps_down_is_replaced_at_once(house: House) -> None:
    house.how("step down")
    house.agents.begin()
    house.wait(lambda: any(isinstance(said, Leaving) for said in house.said))
    assert house.starts() == ["agent", "hand_over"]
    assert STEPPED_DOWN == 75


def test_one_that_crashes_again_and_again_is_replaced_even_if_it_says_hello(house: House) -> None:
    house.how("crash")
    house.agents.begin()
    house.wait(lambda: any(isinstance(said, Leaving) for said in house.said), ms_max=60_000)
    assert house.starts()[:-1] == ["agent"] * 5
    assert house.starts()[-1] in ("spare", "hand_over")


def test_a_held_agent_is_replaced_and_comes_back_when_it_is_not_held_any_more(house: House) -> None:
    house.agents.begin()
    house.wait(lambda: len(house.hellos()) == 1)
    (house.folder / "hold/agent").touch()
    os.kill(house.hellos()[0], signal.SIGKILL)
    house.wait(lambda: any(isinstance(said, Leaving) for said in house.said))
    house.run(600)
    assert house.starts() == ["agent", "hand_over"]
    (house.folder / "hold/agent").unlink()
    house.wait(lambda: len(house.hellos()) == 3)
    assert house.starts()[-1] == "agent"


def test_a_restart_is_one_new_process_and_no_hand_over(house: House) -> None:
    house.how("reload")
    house.agents.begin()
    house.wait(lambda: len(house.hellos()) == 1)
    house.run(200)
    house.agents.restart()
    house.wait(lambda: len(house.hellos()) == 2)
    assert house.starts() == ["agent", "agent"]


def test_at_the_end_the_agent_ends_first_and_its_substitute_hands_over(house: House) -> None:
    house.agents.begin()
    house.wait(lambda: len(house.hellos()) == 1)
    ended: list[bool] = []
    house.agents.hand_over(10_000, lambda: ended.append(True))
    house.wait(lambda: bool(ended))
    assert house.starts() == ["agent", "hand_over"]
    house.run(300)
    assert house.starts() == ["agent", "hand_over"]
    assert ended == [True]
