"""The loop around a machine on a real node: order, timers, stamps, the journal before the deed, and its ends."""

import threading
from collections.abc import Callable, Iterator

import pytest

from core import effects as fx
from core.errors import InvariantViolation
from core.events import (
    AnyEvent,
    BeatAnswered,
    Done,
    OpSucceeded,
    PeerSilent,
    ServiceExited,
    Started,
    StorageSeen,
    TimerFired,
)
from core.ids import NO_SESSION, BootId, DomainId, Epoch, NodeId, OpId, RackId, ServiceName
from core.journal import Opening
from core.ports import Emit, Ports
from core.records import Lifecycle
from core.specs import NodeSpec, Timing
from core.view import NodeView
from drivers import host as hosts
from drivers.host import Brain, Host, Surroundings, Timers, freshest_first
from drivers.journal_file import JournalBroken

NODE = NodeId("n1")
DB = ServiceName("db")
OPENING = Opening(node=NodeSpec(id=NODE, rack=RackId("r1"), power_domain=DomainId("p1")), timing=Timing(), services=())
STARTED = Started(at_ms=0, boot_id=BootId("n1-boot1"), session=NO_SESSION)
EXIT = fx.Exit()
START = 1_000


def timer(name: str, at_ms: int) -> fx.SetTimer:
    return fx.SetTimer(timer=name, at_ms=at_ms)


def beat(asked_ms: int, outcome: str = "ok", kind: str = "storage") -> BeatAnswered:
    return BeatAnswered(at_ms=0, service=DB, epoch=Epoch(1), kind=kind, asked_ms=asked_ms, outcome=outcome)  # type: ignore[arg-type]


class Script:
    """A machine that answers each event with the effects written down for it, by timer name or type."""

    def __init__(self, lines: dict[str, tuple[fx.AnyEffect, ...]]) -> None:
        self.lines = lines
        self.seen: list[AnyEvent] = []

    def step(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]:
        self.seen.append(event)
        name = event.timer if isinstance(event, TimerFired) else type(event).__name__
        if name == "StorageSeen":
            raise InvariantViolation("a scripted one")
        return self.lines.get(name, ())

    def snapshot(self) -> bytes:
        return b"{}"

    def view(self) -> NodeView:
        return NodeView(
            node=NODE,
            at_ms=0,
            session=NO_SESSION,
            joined=False,
            lifecycle=Lifecycle.BOOTING,
            members=0,
            brake=False,
            services=(),
            wards=(),
        )


class Echo:
    """A port that answers every effect from within ``submit``, and says so in the story."""

    def __init__(self, story: list[str]) -> None:
        self.story = story

    def submit(self, effect: fx.AnyEffect, emit: Emit) -> None:
        self.story.append(f"do {type(effect).__name__}")
        emit(PeerSilent(at_ms=0, node=NODE))


class Bench:
    """A host with a scripted machine on a clock that goes on by ``tick_ms`` at every look."""

    def __init__(self, lines: dict[str, tuple[fx.AnyEffect, ...]], tick_ms: int = 1) -> None:
        self.script = Script(lines)
        self.story: list[str] = []
        self.full = False
        self.looks = 0
        self.now_ms = START
        self.tick_ms = tick_ms
        around = Surroundings(
            record=self,
            on_note=lambda note: self.story.append(f"note {note.kind}"),
            on_step=self.stepped,
            on_look=self.looked,
            clock=self.clock,
        )
        self.host = Host(OPENING, 1, self.script, around)
        echo = Echo(self.story)
        self.ports = Ports(
            host=self.host,
            coordination=echo,
            evidence=echo,
            storage=echo,
            workload=echo,
            address=echo,
            power=echo,
            netboot=echo,
            image=echo,
        )

    def clock(self) -> int:
        self.now_ms += self.tick_ms
        return self.now_ms

    def looked(self) -> None:
        self.looks += 1

    def stepped(self, machine: Brain) -> None:
        self.story.append("checked")

    def event(self, at_ms: int, event: AnyEvent) -> None:
        self.story.append(f"event {type(event).__name__}")

    def effect(self, at_ms: int, effect: fx.AnyEffect) -> None:
        self.story.append(f"effect {type(effect).__name__}")

    def step(self, at_ms: int, snapshot: Callable[[], bytes]) -> None:
        if self.full:
            raise JournalBroken("full")
        self.story.append("written")

    def run(self) -> str:
        return self.host.run(self.ports, STARTED)

    def names(self) -> list[str]:
        return [e.timer if isinstance(e, TimerFired) else type(e).__name__ for e in self.script.seen]


def test_a_step_is_written_down_and_checked_before_anything_of_it_is_done() -> None:
    bench = Bench({"Started": (fx.StopServer(op=OpId(1)), fx.Note(kind="joined"), EXIT)})
    assert bench.run() == "handed_over"
    assert bench.story == [
        "event Started",
        "effect StopServer",
        "effect Note",
        "effect Exit",
        "written",
        "checked",
        "do StopServer",
        "note joined",
    ]
    assert not bench.host.alive


def test_an_answer_from_within_a_step_waits_until_the_step_is_done() -> None:
    bench = Bench({"Started": (fx.StopServer(op=OpId(1)),), "PeerSilent": (EXIT,)})
    assert bench.run() == "handed_over"
    assert bench.names() == ["Started", "PeerSilent"]


def test_after_the_machines_exit_the_answer_to_its_last_order_is_awaited_and_taken_by_nobody() -> None:
    bench = Bench({"Started": (fx.CloseSession(op=OpId(9), session=NO_SESSION, ms_max=100), EXIT)}, tick_ms=0)
    bench.host.emit(OpSucceeded(at_ms=0, op=OpId(8), result=Done()))
    sender = threading.Timer(0.05, bench.host.emit, [OpSucceeded(at_ms=0, op=OpId(9), result=Done())])
    sender.start()
    assert bench.run() == "handed_over"
    assert not sender.is_alive()
    assert bench.names() == ["Started"]


def test_a_timer_fires_at_its_last_setting_only_in_order_of_time() -> None:
    lines = {
        "Started": (timer("a", START + 30), timer("a", START + 90), timer("b", START + 60), timer("c", START + 40)),
        "b": (fx.CancelTimer(timer="c"),),
        "c": (),
        "a": (EXIT,),
    }
    bench = Bench(lines)
    assert bench.run() == "handed_over"
    assert bench.names() == ["Started", "c", "b", "a"]
    assert [event.at_ms for event in bench.script.seen] == sorted(event.at_ms for event in bench.script.seen)


def test_a_timer_that_an_earlier_one_cancels_or_moves_does_not_fire_with_it() -> None:
    timers = Timers()
    for name, at_ms in (("a", 5), ("b", 5), ("c", 6)):
        timers.set(name, at_ms)
    due = timers.due(10)
    assert due == [("a", 5), ("b", 5), ("c", 6)]
    assert timers.take(*due[0])
    timers.clear("b")
    timers.set("c", 20)
    assert not timers.take(*due[1])
    assert not timers.take(*due[2])
    assert timers.due(20) == [("c", 20)]


def test_a_timer_pushed_forward_for_ever_takes_no_more_room() -> None:
    timers = Timers()
    for at_ms in range(100_000):
        timers.set("fresh/db", at_ms)
    assert len(timers._heap) < 200
    assert timers.due(99_999) == [("fresh/db", 99_999)]


def test_time_never_runs_backwards_for_the_machine() -> None:
    times = iter([5_000, 5_000, 5_000, 5_000, 4_000, 3_000])
    bench = Bench({"Started": (fx.StopServer(op=OpId(1)),), "PeerSilent": (EXIT,)})
    bench.clock = lambda: next(times, 3_000)  # type: ignore[method-assign]  # a clock that jumps
    bench.host._clock = bench.clock
    assert bench.run() == "handed_over"
    assert [event.at_ms for event in bench.script.seen] == [5_000, 5_000]


def test_events_of_any_thread_are_stepped_in_the_one_that_runs() -> None:
    bench = Bench({"ServiceExited": (EXIT,)}, tick_ms=0)
    stepping: list[int] = []
    bench.host._around.on_step = lambda _: stepping.append(threading.get_ident())
    exited = ServiceExited(at_ms=0, service=DB, epoch=Epoch(1))
    sender = threading.Timer(0.05, bench.host.emit, [exited])
    sender.start()
    assert bench.run() == "handed_over"
    sender.join()
    assert set(stepping) == {threading.get_ident()}


def test_stop_ends_the_loop_and_says_why() -> None:
    bench = Bench({})
    bench.host.stop("reload")
    bench.host.emit(PeerSilent(at_ms=0, node=NODE))
    assert bench.run() == "reload"
    assert bench.names() == ["Started"]


def test_the_loop_shows_that_it_lives_when_nothing_happens() -> None:
    bench = Bench({"Started": (timer("end", START + 5_500),), "end": (EXIT,)}, tick_ms=100)
    bench.host._receive = lambda ms_max: setattr(bench, "now_ms", bench.now_ms + ms_max)  # type: ignore[method-assign]
    assert bench.run() == "handed_over"
    assert 4 <= bench.looks <= 6


def test_an_event_that_breaks_an_invariant_is_in_the_journal() -> None:
    bench = Bench({})
    bench.host.emit(StorageSeen(at_ms=0, ok=True))
    with pytest.raises(InvariantViolation):
        bench.run()
    assert bench.story[-2:] == ["event StorageSeen", "written"]


def test_nothing_is_done_that_cannot_be_written_down() -> None:
    bench = Bench({"Started": (fx.StopServer(op=OpId(1)),)})
    bench.full = True
    with pytest.raises(JournalBroken):
        bench.run()
    assert "do StopServer" not in bench.story


def test_an_endless_loop_between_machine_and_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "STEPS_AT_ONCE_MAX", 50)
    server = (fx.StopServer(op=OpId(1)),)
    bench = Bench({"Started": server, "PeerSilent": server}, tick_ms=0)
    with pytest.raises(RuntimeError, match="without an end"):
        bench.run()


def test_a_full_inbox_is_an_error_and_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "INBOX_MAX", 10)
    bench = Bench({})
    for _ in range(100):
        bench.host.emit(PeerSilent(at_ms=0, node=NODE))
    assert bench.host._inbox.qsize() == 10
    with pytest.raises(RuntimeError, match="wait to be handled"):
        bench.run()


CASES: list[tuple[list[AnyEvent], list[AnyEvent]]] = [
    ([], []),
    ([STARTED, beat(1)], [beat(1), STARTED]),
    ([beat(1), STARTED, beat(3), beat(2)], [beat(3), STARTED]),
    ([beat(1), beat(2, kind="coordination")], [beat(1), beat(2, kind="coordination")]),
    ([beat(1), beat(2, "refused"), beat(3, "unanswered")], [beat(1), beat(2, "refused"), beat(3, "unanswered")]),
]


@pytest.mark.parametrize(("arrived", "taken"), CASES)
def test_of_answers_that_arrive_together_only_the_newest_good_one_counts_and_first(
    arrived: list[AnyEvent], taken: list[AnyEvent]
) -> None:
    assert freshest_first(arrived) == taken


def test_beats_are_not_checked_one_by_one() -> None:
    events: Iterator[AnyEvent] = iter([beat(1), beat(2, "refused")])
    bench = Bench({"ServiceExited": (EXIT,)})
    for event in events:
        bench.host.emit(event)
    bench.host.emit(ServiceExited(at_ms=0, service=DB, epoch=Epoch(1)))
    bench.run()
    assert bench.story.count("checked") == 2
