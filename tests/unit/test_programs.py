"""Programs end well, badly, or not at all: the caller hears of it within the limit."""

from time import monotonic

from drivers.programs import run


def test_what_a_program_says_is_returned() -> None:
    end = run(("echo", "/dev/loop7"), 5_000)
    assert (end.said, end.problem) == ("/dev/loop7", "")


def test_a_failure_is_told_in_the_program_s_own_first_words() -> None:
    end = run(("sh", "-c", "echo first >&2; echo second >&2; exit 3"), 5_000)
    assert end.problem == "first"


def test_a_failure_without_words_is_told_by_its_number() -> None:
    assert run(("sh", "-c", "exit 3"), 5_000).problem == "exit status 3"


def test_a_program_that_is_not_there_is_named() -> None:
    assert run(("no-such-program-here",), 5_000).problem == "no-such-program-here: No such file or directory"


def test_a_program_that_does_not_end_is_not_waited_for() -> None:
    began = monotonic()
    end = run(("sleep", "60"), 100)
    assert end.problem == "sleep did not end within 100 ms"
    assert monotonic() - began < 5
