"""The image port: staging in a process of its own with a limit, a restart, and what a machine booted."""

import shlex
import sys
import threading
from pathlib import Path

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, Staged
from core.ids import ImageId, NodeId, OpId
from drivers.config import load_config
from drivers.image_port import Booted, ImagePort, booted, servers_of
from drivers.init import node_folder, prepare
from tests.unit.made_rack import plan

NEW, OLD = ImageId("2" * 16), ImageId("1" * 16)


class Answers:
    """Events as a port emits them, from whatever thread; waited for with a limit."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._came = threading.Semaphore(0)

    def __call__(self, event: AnyEvent) -> None:
        self.events.append(event)
        self._came.release()

    def next(self) -> AnyEvent:
        assert self._came.acquire(timeout=20)
        return self.events[-1]


def says(text: str) -> tuple[str, ...]:
    """A staging program that says so at once."""
    return (sys.executable, "-c", f"print({text!r})")


def port(stage: tuple[str, ...], image: ImageId = OLD, restart: tuple[str, ...] = ("true",)) -> ImagePort:
    return ImagePort(
        image, lambda: ("127.0.0.1:1",), Path("/nonexistent"), Path("/nonexistent"), stage=stage, restart=restart
    )


def stage(ms_max: int = 10_000) -> fx.StageImage:
    return fx.StageImage(op=OpId(4), image=NEW, ms_max=ms_max)


def test_what_the_staging_process_says_is_the_answer() -> None:
    answers = Answers()
    port(says('{"slot":"b"}')).submit(stage(), answers)
    event = answers.next()
    assert isinstance(event, OpSucceeded)
    assert (event.op, event.result) == (OpId(4), Staged(slot="b"))


@pytest.mark.parametrize(("failed", "retryable"), [("refused", False), ("unavailable", True), ("failed", True)])
def test_a_failure_keeps_its_words(failed: str, retryable: bool) -> None:
    answers = Answers()
    port(says(f'{{"failed":"{failed}","detail":"root.squashfs was tampered with"}}')).submit(stage(), answers)
    event = answers.next()
    assert isinstance(event, OpFailed)
    assert (event.reason, event.retryable, event.detail) == (failed, retryable, "root.squashfs was tampered with")


def test_a_staging_process_that_says_nonsense_has_failed_with_its_last_words() -> None:
    answers = Answers()
    program = (sys.executable, "-c", "import sys; sys.exit('no room in memory')")
    port(program).submit(stage(), answers)
    event = answers.next()
    assert isinstance(event, OpFailed)
    assert (event.reason, "no room in memory" in event.detail) == ("failed", True)


def test_a_staging_process_that_hangs_is_ended_at_the_limit() -> None:
    answers = Answers()
    port((sys.executable, "-c", "import time; time.sleep(60)")).submit(stage(ms_max=300), answers)
    event = answers.next()
    assert isinstance(event, OpFailed)
    assert (event.reason, event.detail) == ("unanswered", "not staged within 300 ms")


def test_one_image_is_staged_at_a_time() -> None:
    answers = Answers()
    slow = port((sys.executable, "-c", "import time; time.sleep(60)"))
    slow.submit(stage(), answers)
    slow.submit(stage(), answers)
    event = answers.next()
    assert isinstance(event, OpFailed)
    assert event.reason == "unavailable"
    slow.close()
    assert isinstance(answers.next(), OpFailed)


def test_a_program_that_is_not_there_is_an_answer_too() -> None:
    answers = Answers()
    port(("/nonexistent/stage",)).submit(stage(), answers)
    assert isinstance(answers.next(), OpFailed)


def test_a_machine_that_was_not_booted_from_an_image_refuses() -> None:
    answers = Answers()
    port(says("{}"), image=ImageId("")).submit(stage(), answers)
    event = answers.next()
    assert isinstance(event, OpFailed)
    assert (event.reason, event.retryable) == ("refused", False)


def test_a_restart_runs_the_program_for_it(tmp_path: Path) -> None:
    mark = tmp_path / "restarted"
    done = threading.Event()
    restart = ("sh", "-c", f"touch {shlex.quote(str(mark))}")
    port(says("{}"), restart=restart).submit(fx.RestartInto(image=NEW), Answers())
    for _ in range(1_000):
        if mark.exists():
            break
        done.wait(0.01)
    assert mark.exists()


def test_what_was_booted_is_on_the_kernel_command_line(tmp_path: Path) -> None:
    line = tmp_path / "cmdline"
    line.write_text(f"console=ttyS0 moxie.node=n6 moxie.server=10.98.0.1 moxie.http=8081 moxie.image={OLD}\n")
    assert booted(line) == Booted(image=OLD, server="10.98.0.1:8081")
    line.write_text("console=ttyS0 root=/dev/sda1 moxie.image=../../etc\n")
    assert booted(line) == Booted()
    assert booted(tmp_path / "none") == Booted()


def test_who_booted_us_is_asked_first_then_those_that_follow_us(tmp_path: Path) -> None:
    wanted = plan(tmp_path, nodes=4)
    prepare(wanted)
    config = load_config(node_folder(wanted.out, NodeId("n2")) / "node.toml")
    asked = servers_of(config, Booted(image=OLD, server="10.9.0.4:8080"))
    assert asked == ("10.9.0.4:8080", "10.9.0.3:8080", "10.9.0.1:8080")
