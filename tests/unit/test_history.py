"""What clients saw is judged without looking inside: lost writes, answers of old epochs, gaps."""

import pytest

from core.ids import Epoch, NodeId, OpId, ServiceName
from trial.history import acknowledged, client_gap_ms, double_writers, linearizable, lost_writes
from trial.marks import ClientOp

DB, QUEUE = ServiceName("db"), ServiceName("queue")


def op(
    value: int,
    from_ms: int,
    to_ms: int,
    *,
    kind: str = "write",
    outcome: str = "ok",
    epoch: int = 0,
    service: ServiceName = DB,
) -> ClientOp:
    return ClientOp(
        service=service,
        op=OpId(from_ms),
        kind=kind,  # type: ignore[arg-type]
        value=value,
        invoked_ms=from_ms,
        answered_ms=to_ms,
        outcome=outcome,  # type: ignore[arg-type]
        node=NodeId(f"n{epoch}"),
        epoch=Epoch(epoch),
    )


def values(ops: list[ClientOp]) -> list[int]:
    return [found.value for found in ops]


HISTORY = (op(1, 0, 10), op(2, 20, 30), op(3, 40, 90, outcome="unknown"), op(4, 100, 110), op(5, 105, 120))


@pytest.mark.parametrize(
    ("final", "lost"),
    [
        (5, []),
        (4, []),  # asked for before 5, but answered while 5 was under way: either may be the last
        (2, [4, 5]),
        (1, [2, 4, 5]),
        (3, []),  # its outcome is unknown, so it may have come last
        (0, [1, 2, 4, 5]),
        (77, []),  # of somebody else: nothing can be said
    ],
)
def test_a_register_tells_only_of_writes_that_surely_came_later(final: int, lost: list[int]) -> None:
    assert values(lost_writes(HISTORY, final)) == lost


def test_whoever_lists_all_values_shows_every_lost_write() -> None:
    assert values(lost_writes(HISTORY, 5, kept=[1, 3, 5])) == [2, 4]
    assert lost_writes(HISTORY, 5, kept=[1, 2, 4, 5]) == []


def test_only_acknowledged_writes_count_as_acknowledged() -> None:
    read = op(5, 200, 210, kind="read")
    assert values(acknowledged((*HISTORY, read, op(6, 220, 230, outcome="failed")))) == [1, 2, 4, 5]


def test_an_answer_of_an_older_epoch_after_a_newer_one_is_a_double_writer() -> None:
    new, late = op(1, 0, 10, epoch=2), op(2, 11, 20, epoch=1)
    assert double_writers((new, late)) == [late]


@pytest.mark.parametrize(
    "second",
    [
        op(2, 5, 20, epoch=1),  # asked for before the newer epoch had answered
        op(2, 11, 20, epoch=2),
        op(2, 11, 20, epoch=0),  # does not say its epoch
        op(2, 11, 20, epoch=1, outcome="failed"),
        op(2, 11, 20, epoch=1, service=QUEUE),
    ],
)
def test_answers_that_prove_nothing_are_no_double_writers(second: ClientOp) -> None:
    assert double_writers((op(1, 0, 10, epoch=2), second)) == []


def test_a_gap_lasts_from_one_good_answer_to_the_next() -> None:
    ops = (op(1, 0, 100), op(2, 200, 250, outcome="failed"), op(3, 300, 900), op(4, 1_000, 1_100))
    assert client_gap_ms(ops, 1_300) == 800
    assert client_gap_ms(ops, 3_000) == 1_900
    assert client_gap_ms((), 3_000) == 0
    assert client_gap_ms((op(1, 500, 600, outcome="unknown"),), 3_000) == 2_500


def test_each_service_has_its_own_gap() -> None:
    ops = (op(1, 0, 100), op(1, 0, 100, service=QUEUE), op(2, 700, 800), op(2, 300, 400, service=QUEUE))
    assert client_gap_ms(ops, 900) == 700


def test_a_stale_read_is_not_linearizable() -> None:
    ops = (op(1, 0, 10), op(2, 20, 30), op(1, 40, 50, kind="read"))
    assert linearizable(ops) == "db: 2 was written and answered when 1 was current (10-40 ms)"
    assert linearizable(ops[:2]) == ""
