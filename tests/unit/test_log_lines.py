"""The log of a process: one JSON object a line, no secrets, never in the way of who writes it."""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from drivers import log


class Pipe:
    """Standard error as a pipe."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        self.file = os.fdopen(self._write_end, "w")

    def lines(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in os.read(self.read_end, 1 << 20).splitlines()]

    def close(self) -> None:
        self.file.close()
        os.close(self.read_end)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe()
    monkeypatch.setattr(log, "_descriptor", pipe.file.fileno)
    monkeypatch.setattr(log, "_always", {})
    monkeypatch.setattr(log, "_lost", {})
    yield pipe
    pipe.close()


def test_a_line_says_when_what_and_the_rest(pipe: Pipe) -> None:
    log.always(node="n1")
    log.event("note", service="db", epoch=3)
    (line,) = pipe.lines()
    assert list(line) == ["at", "at_ms", "kind", "node", "service", "epoch"]
    assert (line["kind"], line["node"], line["service"], line["epoch"]) == ("note", "n1", "db", 3)


@pytest.mark.parametrize("name", ["password", "bmc_password", "heartbeat_secret", "token", "PrivateKey", "credential"])
def test_a_secret_is_never_written(pipe: Pipe, name: str) -> None:
    log.event("x", **{name: "hunter2"})
    assert "hunter2" not in str(pipe.lines())


def test_long_texts_are_cut(pipe: Pipe) -> None:
    log.event("x", error="e" * 10_000)
    assert len(pipe.lines()[0]["error"]) == log.TEXT_MAX


def test_a_reader_that_takes_nothing_holds_nobody_up_and_hears_how_much_it_missed(pipe: Pipe) -> None:
    for _ in range(2_000):
        log.event("x", error="e" * 500)
    assert len(pipe.lines()) < 2_000
    log.event("y")
    assert pipe.lines()[-1]["lost"] > 0
    log.event("z")
    assert "lost" not in pipe.lines()[-1]


def test_a_closed_or_missing_standard_error_is_nobodys_problem(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_descriptor", io.StringIO().fileno)
    log.event("x")
    closed = Path(os.devnull).open("w")  # noqa: SIM115  # closed at once
    closed.close()
    monkeypatch.setattr(log, "_descriptor", closed.fileno)
    log.event("x")


def test_lines_of_many_threads_stay_whole(pipe: Pipe) -> None:
    def write() -> None:
        for _ in range(20):
            log.event("x", error="e" * 50)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pipe.lines()) == 160
