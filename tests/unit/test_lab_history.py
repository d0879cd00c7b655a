"""What clients saw, as times in which nodes served; and what a register keeps, as writes in order."""

from typing import Literal

from core.ids import Epoch, NodeId, OpId, ServiceName
from drivers.lab.audit import Row, out_of_order
from drivers.lab.history import GAP_MS, ended_by, serving_spans
from trial.marks import ClientOp, FaultMark, Marks
from trial.measures import unavailable_ms

DB = ServiceName("mariadb")


def op(
    at_ms: int, node: str = "n1", epoch: int = 1, outcome: Literal["ok", "failed", "unknown"] = "ok", took_ms: int = 2
) -> ClientOp:
    return ClientOp(
        service=DB,
        op=OpId(at_ms),
        kind="read",
        value=0,
        invoked_ms=at_ms - took_ms,
        answered_ms=at_ms,
        outcome=outcome,
        node=NodeId(node if outcome == "ok" else ""),
        epoch=Epoch(epoch),
    )


def spans(ops: list[ClientOp], end_ms: int) -> list[tuple[str, int, int, int]]:
    return [(span.node, span.epoch, span.from_ms, span.to_ms) for span in serving_spans(ops, end_ms)]


def test_good_answers_one_after_the_other_are_one_span_until_the_end() -> None:
    assert spans([op(at_ms) for at_ms in range(100, 1_000, 20)], 1_010) == [("n1", 1, 100, 1_010)]


def test_a_slow_answer_interrupts_nothing() -> None:
    assert spans([op(100), op(900, took_ms=780), op(920)], 930) == [("n1", 1, 100, 930)]


def test_a_long_gap_in_which_somebody_asked_in_vain_breaks_a_span() -> None:
    ops = [op(100), op(300, outcome="failed"), op(600), op(620)]
    assert spans(ops, 630) == [("n1", 1, 100, 100), ("n1", 1, 600, 630)]


def test_a_failed_operation_between_quick_answers_breaks_nothing() -> None:
    ops = [op(100), op(110, outcome="failed"), op(100 + GAP_MS)]
    assert spans(ops, 210) == [("n1", 1, 100, 210)]


def test_a_failover_is_a_new_span_of_a_newer_epoch() -> None:
    ops = [op(100), op(500, outcome="unknown"), op(2_100, node="n2", epoch=2), op(2_120, node="n2", epoch=2)]
    assert spans(ops, 2_130) == [("n1", 1, 100, 100), ("n2", 2, 2_100, 2_130)]


def test_a_service_that_failed_last_is_unavailable_from_its_last_good_answer() -> None:
    ops = [op(100), op(120), op(400, outcome="failed"), op(600, outcome="failed")]
    marks = Marks()
    marks.start_ms, marks.end_ms = 0, 1_000
    marks.serving.all = serving_spans(ops, marks.end_ms)
    assert unavailable_ms(marks, [DB]) == {DB: 880}


def test_unavailability_is_the_time_between_the_spans() -> None:
    ops = [op(100), op(300, outcome="failed"), op(1_100, node="n2", epoch=2), op(1_120, node="n2", epoch=2)]
    marks = Marks()
    marks.start_ms, marks.end_ms = 0, 1_130
    marks.serving.all = serving_spans(ops, marks.end_ms)
    assert unavailable_ms(marks, [DB]) == {DB: 1_000}


def test_a_node_served_until_the_fault_that_struck_it_between_two_answers() -> None:
    found = serving_spans([op(100), op(400, outcome="failed"), op(1_100, node="n2", epoch=2)], 1_200)
    fault = FaultMark(fault="power_loss", text="n1", nodes=(NodeId("n1"),), from_ms=130)
    later = FaultMark(fault="bmc_dead", text="n1", nodes=(NodeId("n1"),), from_ms=900)
    ended_by(found, [fault, later])
    assert [(span.node, span.to_ms) for span in found] == [("n1", 130), ("n2", 1_200)]


def test_two_nodes_that_answer_at_one_time_have_a_span_each() -> None:
    ops = [op(100), op(110, node="n2", epoch=2), op(120), op(130, node="n2", epoch=2)]
    assert spans(ops, 140) == [("n1", 1, 100, 120), ("n2", 2, 110, 140)]


def test_writes_in_the_order_of_their_epochs_are_fine() -> None:
    assert out_of_order([Row(1, NodeId("n1"), Epoch(1)), Row(2, NodeId("n2"), Epoch(3))]) == ""


def test_a_write_of_an_older_epoch_after_a_newer_one_is_named() -> None:
    rows = [Row(1, NodeId("n2"), Epoch(3)), Row(2, NodeId("n1"), Epoch(1))]
    assert out_of_order(rows) == "write 2 of epoch 1 on n1 took effect after one of epoch 3 on n2"
