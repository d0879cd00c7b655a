"""Services under the real supervisor may act as long as their right lasts: how it ends, and how it is kept."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.events import BeatAnswered, RightExpired
from formats.catalog import CatalogService, Health
from tests.unit.supervising import CRON, DB, EPOCH, Node, serve, service, stopped

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("services")]

SH = ("sh", "-c")
Make = Callable[..., Node]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Node] = []

    def node(*services: CatalogService, cgroups: bool = True) -> Node:
        made.append(Node(tmp_path, *services, cgroups=cgroups))
        return made[-1]

    yield node
    for one in made:
        one.close()


@pytest.fixture(params=[True, False], ids=["cgroup", "group"])
def cgroups(request: pytest.FixtureRequest) -> bool:
    """With a cgroup where one may be made, and as where none may."""
    return bool(request.param)


def test_an_expired_right_takes_the_address_off_freezes_the_service_and_is_told(make: Make, cgroups: bool) -> None:
    node = make(cgroups=cgroups)
    serve(node, right_ms=200)
    node.wait(lambda: bool(node.of(RightExpired)))
    assert node.kernel.up == set()
    assert node.cut == ["10.0.0.100"]
    assert node.units.all[DB].suspended
    if not cgroups:
        node.wait(lambda: node.states(DB) == {"T"})


def test_a_frozen_service_does_nothing_until_it_is_resumed(make: Make, tmp_path: Path, cgroups: bool) -> None:
    out = tmp_path / "ticks"
    node = make(service(DB, (*SH, f"while :; do echo >> {out}; sleep 0.02; done")), cgroups=cgroups)
    serve(node)
    node.send(fx.SuspendService(service=DB, epoch=EPOCH))
    node.run(100)
    before = out.stat().st_size
    node.run(300)
    assert out.stat().st_size == before
    node.send(fx.ResumeService(service=DB, epoch=EPOCH))
    node.wait(lambda: out.stat().st_size > before)


def test_an_expired_right_is_not_given_back_by_a_probe_but_only_by_the_agent(make: Make) -> None:
    node = make()
    serve(node, right_ms=100)
    node.shelf.outcome = "unanswered"
    node.send(node.probe())
    node.wait(lambda: bool(node.of(RightExpired)))
    node.shelf.outcome = "ok"
    node.run(300)
    assert not node.serves()
    node.send(node.arm(10_000), fx.ResumeService(service=DB, epoch=EPOCH), fx.AnnounceAddress(service=DB, epoch=EPOCH))
    assert node.serves()


def test_storage_beats_keep_the_right_alive_without_an_agent(make: Make) -> None:
    node = make()
    serve(node, right_ms=1_500)
    node.send(node.probe(fresh_ms=1_500))
    node.run(4_000)
    assert node.serves()
    assert node.of(RightExpired) == []
    node.send(fx.StopBeat(service=DB, epoch=EPOCH, kind="storage"))
    node.wait(lambda: bool(node.of(RightExpired)))


def test_a_refused_probe_ends_the_right_at_once_and_is_the_last(make: Make) -> None:
    node = make()
    serve(node)
    node.shelf.outcome = "refused"
    node.send(node.probe())
    node.wait(lambda: not node.serves())
    assert [event.outcome for event in node.of(BeatAnswered)] == ["refused"]
    assert node.of(RightExpired) == []
    asked = node.shelf.asked
    node.run(300)
    assert node.shelf.asked == asked


def test_a_storage_that_hangs_is_told_as_unanswered_and_asked_in_parallel(make: Make) -> None:
    node = make()
    serve(node)
    hanging = True
    reading, writing = os.pipe()
    node.shelf.answered = lambda: os.read(reading, 1) and None if hanging else None  # type: ignore[func-returns-value]
    node.send(node.probe(every_ms=20, fresh_ms=100))
    node.wait(lambda: len(node.of(BeatAnswered)) >= 3)
    assert {event.outcome for event in node.of(BeatAnswered)} == {"unanswered"}
    assert node.shelf.asked == 3, "no more than three hang at once"
    hanging = False
    os.write(writing, b"xxx")
    node.wait(lambda: node.of(BeatAnswered)[-1].outcome == "ok")
    node.send(fx.StopBeat(service=DB, epoch=EPOCH, kind="storage"))
    os.close(writing)
    os.close(reading)


def test_a_right_that_comes_just_before_the_start_counts(make: Make) -> None:
    node = make()
    node.send(node.arm(400, CRON), node.start(CRON))
    node.wait(lambda: bool(node.of(RightExpired)))
    assert node.units.all[CRON].suspended


def test_a_service_whose_right_ended_while_it_started_is_frozen_when_it_is_healthy(make: Make, tmp_path: Path) -> None:
    health = Health(kind="command", command=("test", "-e", str(tmp_path / "ok")), every_ms=50)
    node = make(service(DB, health=health))
    node.send(node.arm(100), node.start())
    node.wait(lambda: bool(node.of(RightExpired)))
    assert not node.units.all[DB].suspended, "recovery goes on: the fence protects the volume"
    (tmp_path / "ok").touch()
    node.settle()
    assert node.units.all[DB].suspended


def test_a_suspended_service_without_a_right_is_stopped_cleanly(make: Make) -> None:
    node = make()
    node.send(node.arm(2_000, CRON), node.start(CRON))
    node.settle()
    node.wait(lambda: node.units.all[CRON].suspended)
    node.send(node.stop(CRON))
    node.settle()
    assert stopped(node) == [True]
