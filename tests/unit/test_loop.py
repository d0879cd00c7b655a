"""The supervisor's loop: order, deadlines, threads, and a bug that ends it."""

import os
import threading
from collections.abc import Iterator

import pytest

from drivers.loop import Crew, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_timers_fire_in_order_of_time_and_then_of_being_set(loop: Loop) -> None:
    done: list[str] = []
    now = loop.now()
    loop.at(now + 30, lambda: done.append("late"))
    loop.at(now + 10, lambda: done.append("first"))
    loop.at(now + 10, lambda: done.append("second"))
    loop.at(now + 20, lambda: done.append("never")).cancel()
    loop.after(40, loop.stop)
    loop.run()
    assert done == ["first", "second", "late"]


def test_what_is_past_is_done_soon_but_not_at_once(loop: Loop) -> None:
    done: list[int] = []
    loop.at(0, lambda: done.append(1))
    assert done == []
    loop.turn(1_000)
    assert done == [1]


def test_deadlines_come_before_what_has_arrived(loop: Loop) -> None:
    done: list[str] = []
    reading, writing = os.pipe()
    os.write(writing, b"x")

    def arrived() -> None:
        done.append("arrived")
        loop.unwatch(reading)

    loop.watch(reading, arrived)
    loop.at(loop.now(), lambda: done.append("deadline"))
    loop.turn(100)
    assert done == ["deadline", "arrived"]
    os.close(reading)
    os.close(writing)


def test_any_thread_may_post(loop: Loop) -> None:
    done: list[str] = []

    def posted() -> None:
        done.append("posted")
        loop.stop()

    thread = threading.Thread(target=lambda: loop.post(posted))
    thread.start()
    loop.run()
    thread.join()
    assert done == ["posted"]


def test_a_crew_works_aside_up_to_its_size_and_says_when_its_line_is_full(loop: Loop) -> None:
    gate, done = threading.Semaphore(0), list[int]()
    crew = Crew(loop, "test", most=2, waiting_max=1)
    begun = threading.Semaphore(0)

    def work() -> int:
        begun.release()
        gate.acquire()
        return threading.active_count()

    assert crew.do(work, done.append)
    begun.acquire()
    assert crew.do(work, done.append)
    begun.acquire()
    assert crew.do(work, done.append)
    assert not crew.do(work, done.append)
    assert crew.busy == 3
    gate.release(3)
    while len(done) < 3:
        loop.turn(1_000)
    assert crew.busy == 0


def test_what_a_piece_of_work_did_not_expect_ends_the_loop(loop: Loop) -> None:
    def work() -> int:
        raise ZeroDivisionError

    Crew(loop, "test", most=1).do(work, lambda _: None)
    with pytest.raises(ZeroDivisionError):
        loop.run()
