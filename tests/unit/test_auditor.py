"""The auditor beside an agent complains when, and only when, a step claims more than the agent could know."""

from core import effects as fx
from core.events import (
    AnyEvent,
    BeatAnswered,
    Committed,
    OpFailed,
    OpSucceeded,
    ReadBack,
    SessionOpened,
    Stopped,
    TimerFired,
)
from core.ids import Epoch, NodeId, OpId, ServiceName, SessionId
from core.records import Change, LeaseRecord, PowerRecord, lease_path, power_path
from core.specs import ServiceSpec, Timing
from twin.world.auditor import Auditor

JOB, EPOCH, SESSION = ServiceName("job"), Epoch(2), SessionId(7)
N1, N2 = NodeId("n1"), NodeId("n2")
TIMING = Timing()
LIMIT_MS = TIMING.coordination_ms
LEASE = LeaseRecord(node=N1, session=SESSION, epoch=EPOCH)


class Agent:
    """An agent of n1 by hand: each call is one step; ``complaints`` are the checkers that were named."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        services = (ServiceSpec(name=JOB, run="singleton"),)
        self.auditor = Auditor(N1, services, TIMING, lambda checker, _text: self.complaints.append(checker))
        self.step(SessionOpened(at_ms=0, session=SESSION, resumed=False))

    def step(self, event: AnyEvent, *effects: fx.AnyEffect) -> None:
        self.auditor.saw(event, effects)

    def does(self, at_ms: int, *effects: fx.AnyEffect) -> None:
        self.step(TimerFired(at_ms=at_ms, timer="x"), *effects)

    def answered(self, at_ms: int, op: int) -> None:
        self.step(OpSucceeded(at_ms=at_ms, op=OpId(op), result=Committed(zxid=1, versions=(0,))))

    def arms(self, at_ms: int, until_ms: int) -> None:
        self.does(at_ms, fx.ArmRight(service=JOB, epoch=EPOCH, until_ms=until_ms))


def commit(op: int, *writes: fx.Write, session: SessionId = SESSION) -> fx.Commit:
    return fx.Commit(op=OpId(op), session=session, writes=writes, ms_max=2_000)


CLAIM = fx.Create(path=lease_path(JOB), data=LEASE, ephemeral=True)
START = fx.StartService(op=OpId(5), service=JOB, epoch=EPOCH, instance=None, ms_max=30_000)


def test_a_right_counts_from_the_question_for_a_commit_on_the_lease() -> None:
    agent = Agent()
    agent.does(100, commit(1, CLAIM))
    agent.answered(150, 1)
    agent.arms(150, 100 + LIMIT_MS)
    assert agent.complaints == []
    agent.arms(150, 150 + LIMIT_MS)
    assert agent.complaints == ["rights_have_evidence"]


def test_a_commit_that_does_not_name_the_lease_is_no_evidence() -> None:
    agent = Agent()
    agent.does(100, commit(1, fx.Put(path="/moxie/nodes/n1", data=None, version=0)))
    agent.answered(150, 1)
    agent.arms(150, 100 + LIMIT_MS)
    assert agent.complaints == ["rights_have_evidence"]


def test_only_beats_of_the_same_epoch_that_were_answered_ok_are_evidence() -> None:
    for epoch, outcome, complaints in ((2, "ok", 0), (1, "ok", 1), (2, "unanswered", 1)):
        agent = Agent()
        agent.step(
            BeatAnswered(
                at_ms=150,
                service=JOB,
                epoch=Epoch(epoch),
                kind="coordination",
                asked_ms=100,
                outcome=outcome,  # type: ignore[arg-type]
            )
        )
        agent.arms(150, 100 + LIMIT_MS)
        assert len(agent.complaints) == complaints


def test_an_unanswered_claim_counts_once_a_read_back_shows_the_lease() -> None:
    agent = Agent()
    agent.does(100, commit(1, CLAIM))
    agent.step(OpFailed(at_ms=900, op=OpId(1), reason="unanswered", retryable=True))
    change = Change(path=lease_path(JOB), zxid=3, version=0, data=LEASE, owner=SESSION)
    agent.step(OpSucceeded(at_ms=950, op=OpId(2), result=ReadBack(changes=(change,))))
    agent.arms(950, 100 + LIMIT_MS)
    assert agent.complaints == []


def test_nothing_is_started_without_a_right() -> None:
    agent = Agent()
    agent.does(100, START)
    assert agent.complaints == ["rights_have_evidence"]


def test_a_session_is_closed_only_when_that_is_on_record_or_it_is_ones_own() -> None:
    other = SessionId(9)
    close = fx.CloseSession(op=OpId(8), session=other, ms_max=2_000)
    agent = Agent()
    agent.does(50, fx.CloseSession(op=OpId(7), session=SESSION, ms_max=2_000))
    agent.does(100, commit(1, fx.Create(path=power_path(N2), data=PowerRecord(closed_session=other))), close)
    assert agent.complaints == ["closed_after_mark"]
    agent.answered(150, 1)
    agent.does(160, close)
    assert agent.complaints == ["closed_after_mark"]


def test_what_ran_under_an_old_session_is_stopped_before_the_new_one_is_written_on() -> None:
    new = SessionId(8)
    stop = fx.StopService(op=OpId(6), service=JOB, epoch=EPOCH, kill=True, ms_max=1_000)
    for stops, complaints in ((True, []), (False, ["stopped_before_new_session"])):
        agent = Agent()
        agent.does(100, commit(1, CLAIM))
        agent.answered(150, 1)
        agent.does(150, fx.ArmRight(service=JOB, epoch=EPOCH, until_ms=100 + LIMIT_MS), START)
        agent.answered(200, 5)
        agent.step(SessionOpened(at_ms=300, session=new, resumed=False), stop)
        if stops:
            agent.step(OpSucceeded(at_ms=350, op=OpId(6), result=Stopped(clean=False)))
        agent.does(400, commit(9, session=new))
        assert agent.complaints == complaints


def test_a_power_order_is_dated_from_the_question_for_its_commit() -> None:
    for deadline_ms, complaints in ((100, []), (150, ["orders_dated_from_commit"])):
        agent = Agent()
        agent.does(100, commit(1, fx.Create(path=power_path(N2), data=PowerRecord(generation=1))))
        agent.answered(150, 1)
        order = fx.PowerOrder(
            op=OpId(2), node=N2, action="cycle", generation=1, deadline_ms=deadline_ms + TIMING.power_ms_max
        )
        agent.does(150, order)
        assert agent.complaints == complaints
