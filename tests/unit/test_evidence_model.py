"""Standing beats: what is asked, what is told, and implicit beats that cost nothing but tell the same."""

from core import effects as fx
from core.events import BeatAnswered, RightExpired
from tests.unit.supervised import CRON, DB, EPOCH, Node


def beats(node: Node, outcome: str = "ok") -> list[tuple[int, int]]:
    """When the agent heard of a beat, and when that was asked."""
    return [(at, e.asked_ms) for at, e in node.heard if isinstance(e, BeatAnswered) and e.outcome == outcome]


def test_every_question_is_answered_with_the_time_it_was_asked() -> None:
    node = Node()
    node.send(node.start())
    node.run(200)
    node.send(node.probe())
    node.run(1_000)
    assert beats(node) == [(202 + 200 * i, 200 + 200 * i) for i in range(5)]


def test_a_slow_answer_is_as_old_as_its_question() -> None:
    for delay_ms, serves in ((290, True), (310, False)):  # a question every 200 ms, fresh for 500 ms
        node = Node()
        node.serve()
        node.storage.delay_ms = delay_ms
        node.run(5_000)
        assert all(told - asked == delay_ms for told, asked in beats(node)[5:])
        assert node.supervisor.serves(DB) is serves


def test_unanswered_questions_are_bounded_and_told() -> None:
    node = Node()
    node.serve()
    node.storage.outcome = "unanswered"
    node.run(5_000)
    assert len(beats(node, "unanswered")) >= 5
    node.send(fx.StopBeat(service=DB, epoch=EPOCH, kind="storage"))
    told = len(node.heard)
    node.run(3_000)
    assert not [event for _, event in node.heard[told:] if isinstance(event, BeatAnswered)]


def test_a_paused_agent_asks_nothing_and_goes_on_afterwards() -> None:
    node = Node()
    node.send(node.start(CRON), node.check())
    node.run(300)
    node.supervisor.agent_paused(True)
    asked = len(node.lease.asked)
    node.run(2_000)
    assert len(node.lease.asked) == asked
    node.supervisor.agent_paused(False)
    node.run(300)
    assert len(node.lease.asked) == asked + 1


def test_a_refused_lease_is_told_and_left_to_the_agent() -> None:
    node = Node()
    node.send(node.start(CRON))
    node.run(150)
    node.send(fx.ArmRight(service=CRON, epoch=EPOCH, until_ms=9_000), node.check())
    node.lease.outcome = "refused"
    node.run(300)
    assert len(beats(node, "refused")) == 1
    assert node.supervisor.serves(CRON)


def test_an_implicit_beat_costs_no_events_and_holds_the_right() -> None:
    node = Node(capacity=True)
    node.serve()
    assert node.supervisor.evidence.implicit(DB)
    before = node.kernel.events
    node.run(1_000_000)
    assert node.kernel.events - before <= 3
    assert node.supervisor.serves(DB)


def test_an_implicit_beat_tells_first_how_fresh_it_is_when_something_else_happens() -> None:
    node = Node(capacity=True)
    node.serve()
    node.run(100_000)
    told = node.supervisor.refreshed()
    assert [event.asked_ms for event in told] == [100_202]
    assert node.supervisor.refreshed() == ()


def test_a_broken_path_ends_the_right_of_an_implicit_beat_as_it_does_that_of_an_explicit_one() -> None:
    ends: list[int] = []
    for capacity in (False, True):
        node = Node(capacity=capacity)
        node.serve()
        node.run(10_295)
        node.storage.outcome = "unanswered"
        node.supervisor.evidence.reevaluate()
        node.run(2_000)
        assert [type(event) for event in node.of(RightExpired)] == [RightExpired]
        ends.append(node.truth.spans[-1].to_ms)
    assert abs(ends[0] - ends[1]) <= 2


def test_a_healed_path_makes_the_beat_implicit_again() -> None:
    node = Node(capacity=True)
    node.serve()
    node.run(1_000)
    node.storage.outcome = "unanswered"
    node.supervisor.evidence.reevaluate()
    assert not node.supervisor.evidence.implicit(DB)
    assert node.explicit == [DB]
    node.run(300)
    node.storage.outcome = "ok"
    node.run(300)
    assert node.supervisor.evidence.implicit(DB)
    assert node.supervisor.serves(DB)


def test_a_dead_agents_implicit_coordination_beat_leaves_its_right_its_due_time() -> None:
    node = Node(capacity=True)
    node.send(node.start(CRON))
    node.run(150)
    node.send(fx.ArmRight(service=CRON, epoch=EPOCH, until_ms=1_500), node.check())
    node.run(10_000)
    assert node.supervisor.serves(CRON)
    node.supervisor.agent_died()
    node.run(5_000)
    span = node.truth.acting.all[-1]
    last_asked_ms = 152 + (10_150 - 152) // 250 * 250
    assert span.to_ms == last_asked_ms + 1_333 + 20
