"""Calls that nobody can cancel: one at a time per key, few at once, and an end for who waits."""

import threading
from collections.abc import Callable, Iterator

import pytest

from drivers import calls
from drivers.calls import Calls
from drivers.clock import now_ms

SOON_S = 10.0


class Bench:
    """Calls that run until they are let go."""

    def __init__(self) -> None:
        self.calls = Calls(now_ms)
        self.let_go = threading.Event()
        self.changed = threading.Condition()
        self.log: list[str] = []

    def begin(self, key: str, name: str, ms_max: int = 60_000, holds: bool = True) -> bool:
        def run() -> None:
            self.say(f"begin {name}")
            if holds:
                self.let_go.wait(SOON_S)
            self.say(f"end {name}")

        return self.calls.begin(key, now_ms() + ms_max, run, lambda: self.say(f"late {name}"))

    def say(self, text: str) -> None:
        with self.changed:
            self.log.append(text)
            self.changed.notify_all()

    def until(self, *texts: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: set(texts) <= set(self.log), SOON_S), self.log

    def until_idle(self) -> None:
        self.let_go.set()
        eventually(lambda: not self.calls.counts().busy)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    until_ms = now_ms() + int(SOON_S * 1_000)
    while not condition():
        assert now_ms() < until_ms
        threading.Event().wait(0.005)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.until_idle()


def test_calls_of_one_key_run_one_after_the_other_in_order(bench: Bench) -> None:
    for name in "abc":
        bench.begin("n1", name, holds=False)
    bench.until("end c")
    assert bench.log == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


def test_keys_take_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "THREADS_MAX", 1)
    bench.begin("n0", "first")
    bench.until("begin first")
    for name in ("a1", "a2", "b1", "b2"):
        bench.begin(name[0], name, holds=False)
    bench.let_go.set()
    bench.until("end b2")
    assert [text for text in bench.log if text.startswith("begin")][1:] == [
        f"begin {name}" for name in ("a1", "b1", "a2", "b2")
    ]


def test_a_key_that_hangs_does_not_hold_up_the_others(bench: Bench) -> None:
    bench.begin("n1", "hangs")
    bench.begin("n2", "quick", holds=False)
    bench.until("begin hangs", "end quick")


def test_who_waits_is_told_at_the_limit_whether_the_call_was_begun_or_not(bench: Bench) -> None:
    bench.begin("n1", "first", ms_max=60)
    bench.begin("n1", "second", ms_max=30)
    bench.until("begin first", "late first", "late second")
    assert bench.calls.counts().slow == 1
    bench.let_go.set()
    bench.until("end first")
    bench.until_idle()
    assert "begin second" not in bench.log
    assert bench.calls.counts().slow == 0


def test_there_are_no_more_threads_than_allowed(bench: Bench) -> None:
    names = [f"n{i}" for i in range(calls.THREADS_MAX + 4)]
    for name in names:
        bench.begin(name, name)
    bench.until(*(f"begin {name}" for name in names[: calls.THREADS_MAX]))
    counts = bench.calls.counts()
    assert (counts.running, counts.waiting) == (calls.THREADS_MAX, 4)
    bench.let_go.set()
    bench.until(*(f"end {name}" for name in names))


def test_calls_that_take_long_make_room_for_others_but_not_without_bound(bench: Bench) -> None:
    both = calls.THREADS_MAX + calls.SLOW_MAX
    names = [f"n{i}" for i in range(both + 4)]
    for name in names[:both]:
        bench.begin(name, name, ms_max=100)
    bench.until(*(f"late {name}" for name in names[:both]))
    for name in names[both:]:
        bench.begin(name, name)
    counts = bench.calls.counts()
    assert counts.running <= both
    bench.let_go.set()
    bench.until(*(f"end {name}" for name in names[both:]))


def test_more_than_may_wait_for_one_key_are_not_taken(bench: Bench) -> None:
    bench.begin("n1", "runs")
    bench.until("begin runs")
    taken = [bench.begin("n1", f"w{i}", holds=False) for i in range(calls.WAITING_MAX + 1)]
    assert taken == [True] * calls.WAITING_MAX + [False]


def test_an_idle_pool_has_no_threads(bench: Bench) -> None:
    bench.begin("n1", "a", ms_max=50, holds=False)
    bench.until("end a")
    eventually(lambda: not any(thread.name.startswith("calls") for thread in threading.enumerate()))


def test_a_call_that_raises_ends_its_thread_and_nothing_else(bench: Bench) -> None:
    seen: list[type[BaseException]] = []
    before, threading.excepthook = threading.excepthook, lambda args: seen.append(args.exc_type)
    try:
        bench.calls.begin("n1", now_ms() + 60_000, lambda: {}["nothing"], lambda: None)
        bench.begin("n1", "after", holds=False)
        bench.until("end after")
        bench.until_idle()
    finally:
        threading.excepthook = before
    assert seen == [KeyError]
    assert bench.calls.counts().running == 0
