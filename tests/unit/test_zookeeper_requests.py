"""Requests of one agent and its beats: each answered once, in its session, at its limit at the latest."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core import effects as fx
from core.events import AnyEvent, BeatAnswered
from core.ids import Epoch, ServiceName, SessionId
from drivers.beats import OUTSTANDING_MAX, CoordinationBeats
from drivers.clock import now_ms
from drivers.loop import Loop
from drivers.zookeeper_codec import Failure
from drivers.zookeeper_requests import Request, Requests, Then

MINE, OTHER = SessionId(7), SessionId(8)
CLIENT: Any = object()
"""Requests only pass the connection on."""


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


class Asker:
    """What came of the requests, in order."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.open: dict[str, Then] = {}

    def request(self, name: str, session: SessionId = MINE) -> Request:
        def send(_: Any, then: Then) -> None:
            self.open[name] = then

        return Request(
            session=session,
            send=send,
            done=lambda value: self.came.append(f"{name}: {value}"),
            failed=lambda why: self.came.append(f"{name}: {why.reason}"),
        )


def test_a_request_of_another_session_is_never_sent(loop: Loop) -> None:
    asker, requests = Asker(), Requests(loop)
    requests.add(asker.request("before any session"), 1_000)
    requests.connected(CLIENT, MINE)
    requests.add(asker.request("stale", OTHER), 1_000)
    requests.add(asker.request("none", SessionId(0)), 1_000)
    assert asker.came == ["before any session: session", "stale: session", "none: session"]
    assert asker.open == {}


def test_what_was_sent_is_unanswered_after_a_break_and_what_waits_is_sent_later(loop: Loop) -> None:
    asker, requests = Asker(), Requests(loop)
    requests.connected(CLIENT, MINE)
    requests.add(asker.request("sent"), 10_000)
    requests.broken()
    requests.add(asker.request("waits"), 10_000)
    assert list(asker.open) == ["sent"]
    requests.connected(CLIENT, MINE)
    asker.open["waits"](None, "ok")
    asker.open["sent"](None, "too late")
    assert asker.came == ["sent: unanswered", "waits: ok"]


def test_the_end_of_a_session_fails_everything_in_it_once(loop: Loop) -> None:
    asker, requests = Asker(), Requests(loop)
    requests.connected(CLIENT, MINE)
    requests.add(asker.request("sent"), 10_000)
    requests.broken()
    requests.add(asker.request("waits"), 10_000)
    requests.over()
    requests.connected(CLIENT, OTHER)
    assert asker.came == ["sent: unanswered", "waits: session"]


def test_a_request_is_answered_at_its_limit_whether_it_was_sent_or_not(loop: Loop) -> None:
    asker, requests = Asker(), Requests(loop)
    requests.session = MINE
    requests.add(asker.request("waits"), 20)
    run(loop, lambda: len(asker.came) == 1)
    requests.connected(CLIENT, MINE)
    requests.add(asker.request("sent"), 20)
    run(loop, lambda: len(asker.came) == 2)
    asker.open["sent"](Failure(reason="conflict", detail=""), None)
    assert asker.came == ["waits: unanswered", "sent: unanswered"]


def run(loop: Loop, done: Callable[[], bool]) -> None:
    end_ms = now_ms() + 5_000
    while not done():
        assert now_ms() < end_ms
        loop.turn(50)


class Checks:
    """Whoever carries beats: it answers when it is told to."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.asked: list[Callable[[Any], None]] = []

    def check(
        self, session: SessionId, checks: tuple[fx.Check, ...], answer: Callable[[Any], None], ms_max: int
    ) -> None:
        self.asked.append(answer)


def start(epoch: int = 1) -> fx.StartBeat:
    return fx.StartBeat(service=ServiceName("db"), epoch=Epoch(epoch), kind="coordination", every_ms=5, fresh_ms=500,
                        session=MINE, checks=(fx.Check(path="/a", version=0),))  # fmt: skip


def test_a_beat_asks_again_and_again_but_never_more_than_a_few_at_once(loop: Loop) -> None:
    checks = Checks(loop)
    beats = CoordinationBeats(checks)
    told: list[AnyEvent] = []
    before_ms = now_ms()
    beats.submit(start(), told.append)
    run(loop, lambda: len(checks.asked) == OUTSTANDING_MAX)
    until_ms = now_ms() + 30
    run(loop, lambda: now_ms() > until_ms)
    assert len(checks.asked) == OUTSTANDING_MAX
    checks.asked[0]("ok")
    run(loop, lambda: len(checks.asked) == OUTSTANDING_MAX + 1)
    (beat,) = told
    assert isinstance(beat, BeatAnswered)
    assert before_ms <= beat.asked_ms <= beat.at_ms
    assert beat.outcome == "ok"


def test_an_answer_for_a_beat_that_was_replaced_or_stopped_is_not_told(loop: Loop) -> None:
    checks = Checks(loop)
    beats = CoordinationBeats(checks)
    told: list[AnyEvent] = []
    beats.submit(start(1), told.append)
    beats.submit(start(2), told.append)
    run(loop, lambda: len(checks.asked) >= 2)
    checks.asked[0]("refused")
    assert told == [], "the old epoch's answer says nothing of the new one"
    beats.submit(fx.StopBeat(service=ServiceName("db"), epoch=Epoch(1), kind="coordination"), told.append)
    checks.asked[1]("ok")
    run(loop, lambda: len(told) == 1)
    beats.submit(fx.StopBeat(service=ServiceName("db"), epoch=Epoch(2), kind="coordination"), told.append)
    count = len(checks.asked)
    until_ms = now_ms() + 20
    run(loop, lambda: now_ms() > until_ms)
    assert len(checks.asked) <= count + 1


def test_a_refused_beat_asks_no_more(loop: Loop) -> None:
    checks = Checks(loop)
    beats = CoordinationBeats(checks)
    told: list[AnyEvent] = []
    beats.submit(start(), told.append)
    run(loop, lambda: bool(checks.asked))
    checks.asked[0]("refused")
    count = len(checks.asked)
    until_ms = now_ms() + 30
    run(loop, lambda: now_ms() > until_ms)
    assert len(checks.asked) == count
    assert [event.outcome for event in told if isinstance(event, BeatAnswered)] == ["refused"]
