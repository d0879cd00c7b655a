"""The loop around a machine: order, timers, freezing, dying, the journal; and the clocks it runs by."""

import pytest

from core import effects as fx
from core.events import AnyEvent, PeerSilent, Started, StorageSeen, TimerFired
from core.ids import NO_SESSION, BootId, DomainId, Epoch, NodeId, RackId, ServiceName
from core.journal import Opening, encode, read_lines, write_line
from core.ports import Emit, Ports
from core.records import Lifecycle
from core.specs import NodeSpec, Timing
from core.view import NodeView
from twin import host as hosts
from twin.host import Host, Surroundings
from twin.kernel import Kernel
from twin.recorder import Recorder
from twin.world.clock import Clock

NODE = NodeId("n1")
OPENING = Opening(node=NodeSpec(id=NODE, rack=RackId("r1"), power_domain=DomainId("p1")), timing=Timing(), services=())
STARTED = Started(at_ms=0, boot_id=BootId("n1-boot1"), session=NO_SESSION)


class Script:
    """A machine that answers each event with the effects written down for it, by timer name or type."""

    def __init__(self, lines: dict[str, tuple[fx.AnyEffect, ...]]) -> None:
        self.lines = lines
        self.seen: list[AnyEvent] = []

    def step(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]:
        self.seen.append(event)
        name = event.timer if isinstance(event, TimerFired) else type(event).__name__
        return self.lines.get(name, ())

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
    """A port that answers every effect from within ``submit``."""

    def submit(self, effect: fx.AnyEffect, emit: Emit) -> None:
        emit(PeerSilent(at_ms=0, node=NODE))


class Bench:
    """A host on a kernel, with a scripted machine."""

    def __init__(self, lines: dict[str, tuple[fx.AnyEffect, ...]]) -> None:
        self.kernel = Kernel()
        self.clock = Clock(self.kernel)
        self.script = Script(lines)
        self.recorder = Recorder(keep=True)
        self.notes: list[str] = []
        self.exits = 0
        self.held = False
        around = Surroundings(
            kernel=self.kernel,
            clock=self.clock,
            recorder=self.recorder,
            implicit=lambda _: self.held,
            refreshed=lambda: (),
            on_note=lambda _, note: self.notes.append(note.kind),
            on_exit=self.exited,
        )
        self.host = Host(OPENING, 1, self.script, around)
        echo = Echo()
        ports = Ports(
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
        self.host.run(ports, STARTED)

    def exited(self) -> None:
        self.exits += 1

    def seen(self) -> list[tuple[int, str]]:
        """What the machine saw, and when by its own clock."""
        names = [e.timer if isinstance(e, TimerFired) else type(e).__name__ for e in self.script.seen]
        return [(event.at_ms, name) for event, name in zip(self.script.seen, names, strict=True)]


def timer(name: str, at_ms: int) -> fx.SetTimer:
    return fx.SetTimer(timer=name, at_ms=at_ms)


def test_an_answer_from_within_a_step_waits_until_the_step_is_done() -> None:
    bench = Bench({"Started": (fx.StopServer(op=1), fx.Note(kind="joined"))})  # type: ignore[arg-type]
    assert bench.seen() == [(0, "Started"), (0, "PeerSilent")]
    assert bench.notes == ["joined"]


def test_a_timer_fires_at_its_last_setting_only() -> None:
    bench = Bench({"Started": (timer("a", 100), timer("a", 300), timer("b", 500), timer("b", 200), timer("c", 50))})
    bench.host.submit(fx.CancelTimer(timer="c"), bench.host.emit)
    bench.kernel.run(1_000)
    assert bench.seen()[1:] == [(200, "b"), (300, "a")]


def test_timers_go_by_the_nodes_own_clock() -> None:
    bench = Bench({"Started": (timer("a", 1_000),)})
    bench.clock.set_drift(-500_000)
    bench.kernel.run(1_999)
    assert len(bench.seen()) == 1
    bench.kernel.run(2_000)
    assert bench.seen()[1:] == [(1_000, "a")]


def test_a_frozen_host_handles_everything_in_order_when_it_goes_on() -> None:
    bench = Bench({"Started": (timer("a", 100),)})
    bench.host.freeze()
    bench.kernel.run(50)
    bench.host.emit(StorageSeen(at_ms=50, ok=True))
    bench.kernel.run(500)
    assert len(bench.seen()) == 1
    bench.host.thaw()
    assert bench.seen()[1:] == [(500, "StorageSeen"), (500, "a")]


def test_nothing_reaches_a_dead_machine() -> None:
    bench = Bench({"Started": (timer("a", 100),)})
    bench.host.crash()
    bench.host.emit(StorageSeen(at_ms=1, ok=True))
    bench.kernel.run(500)
    assert len(bench.seen()) == 1
    assert bench.exits == 0


def test_after_its_exit_a_machine_does_nothing_more() -> None:
    bench = Bench({"Started": (timer("a", 100), fx.Exit(), fx.Note(kind="joined"))})
    bench.kernel.run(500)
    assert (bench.exits, bench.host.alive, bench.notes, len(bench.seen())) == (1, False, [], 1)


def test_the_timer_of_implicit_evidence_waits_for_its_release() -> None:
    bench = Bench({"Started": (timer("fresh/db", 100),)})
    bench.held = True
    bench.kernel.run(500)
    assert len(bench.seen()) == 1
    bench.held = False
    bench.host.release(ServiceName("db"))
    bench.kernel.run(501)
    assert bench.seen()[1:] == [(500, "fresh/db")]


def test_an_endless_loop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "STEPS_AT_ONCE_MAX", 50)
    bench = Bench({"Started": (timer("a", 10),), "a": (timer("a", 10),)})
    with pytest.raises(RuntimeError, match="without an end"):
        bench.kernel.run(500)


def test_the_journal_has_every_event_before_its_effects_in_canonical_bytes() -> None:
    bench = Bench({"Started": (timer("a", 100), fx.Note(kind="joined", epoch=Epoch(3)))})
    bench.kernel.run(500)
    lines = bench.recorder.lines()
    assert [line.kind for line in read_lines(lines)] == ["open", "event", "effect", "effect", "event"]
    assert lines[0] == write_line(0, NODE, 1, "open", encode(OPENING))
    assert lines[2] == write_line(0, NODE, 1, "effect", encode(timer("a", 100)))


def test_the_digest_does_not_depend_on_who_keeps_the_journal() -> None:
    chunks: list[bytes] = []
    digests = []
    for recorder in (Recorder(keep=True), Recorder(), Recorder(sink=chunks.append)):
        for at_ms in range(1_300):
            recorder.write(at_ms, NODE, 1, "event", TimerFired(at_ms=at_ms, timer="a"))
        digests.append(recorder.digest())
    assert len(dict.fromkeys(digests)) == 1
    assert b"".join(chunks).count(b"\n") == 1_300


@pytest.mark.parametrize("ppm", [-500_000, -50_000, -7, 0, 13, 50_000, 1_000_000])
def test_a_clock_reaches_a_moment_exactly_when_it_says_so(ppm: int) -> None:
    kernel = Kernel()
    clock = Clock(kernel)
    kernel.run(12_345)
    clock.set_drift(ppm)
    for local_ms in (12_346, 20_000, 99_999, 1_000_003):
        at_ms = clock.kernel_at(local_ms)
        assert clock.local(at_ms) >= local_ms > clock.local(at_ms - 1)


def test_a_clock_never_goes_back() -> None:
    clock = Clock(Kernel())
    with pytest.raises(ValueError, match="never goes back"):
        clock.jump(-1)
    with pytest.raises(ValueError, match="goes forward"):
        clock.set_drift(-1_000_000)
