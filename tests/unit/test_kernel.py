"""The kernel calls in order of time, then of scheduling, and never what was cancelled."""

from twin.kernel import Kernel


def test_calls_of_one_millisecond_run_in_the_order_of_scheduling() -> None:
    kernel, seen = Kernel(), []
    for name in ("b", "a", "c"):
        kernel.at(5, seen.append, name)
    kernel.at(4, seen.append, "first")
    kernel.run(5)
    assert seen == ["first", "b", "a", "c"]
    assert kernel.events == 4


def test_a_call_scheduled_for_now_or_the_past_runs_in_this_millisecond_after_the_others() -> None:
    kernel, seen = Kernel(), []
    kernel.at(7, lambda: kernel.at(3, lambda: seen.append(kernel.now)))
    kernel.at(7, seen.append, "other")
    kernel.run(7)
    assert seen == ["other", 7]


def test_run_includes_its_last_millisecond_and_ends_there() -> None:
    kernel, seen = Kernel(), []
    kernel.after(10, seen.append, 10)
    kernel.after(11, seen.append, 11)
    kernel.run(10)
    assert seen == [10]
    assert kernel.now == 10
    kernel.after(0, seen.append, "now")
    kernel.run(10)
    assert seen == [10, "now"]
    kernel.run(500)
    assert seen == [10, "now", 11]
    assert kernel.now == 500
    kernel.after(5, lambda: seen.append(kernel.now))
    kernel.run(1_000)
    assert seen[-1] == 505


def test_a_cancelled_call_is_not_made_and_may_be_cancelled_again() -> None:
    kernel, seen = Kernel(), []
    handle = kernel.after(1, seen.append, "x")
    assert handle.pending
    handle.cancel()
    handle.cancel()
    kernel.run(5)
    assert seen == []
    assert kernel.events == 0
    assert not handle.pending


def test_many_cancelled_calls_do_not_stay_in_the_queue() -> None:
    kernel, seen = Kernel(), []
    for index in range(50_000):
        kernel.after(1_000_000 + index, seen.append, index).cancel()
    kept = kernel.after(10, seen.append, "kept")
    assert len(kernel._env._queue) < 20_000
    assert kept.pending
    kernel.run(2_000_000)
    assert seen == ["kept"]
