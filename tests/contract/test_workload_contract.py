"""What every workload, address and evidence port must do, simulated or real: one answer per op, and in time.

An *arm* is one implementation with a way to let time pass. A real driver adds its arm to ``ARMS``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, Stopped
from core.ids import Epoch
from tests.unit import supervising
from tests.unit.supervised import DB, DNS, EPOCH, Node

LIMIT_MS = 5_000


class Arm(Protocol):
    """One implementation under test; ``DB`` is a singleton with a volume and an address, ``DNS`` runs everywhere."""

    def send(self, *effects: fx.AnyEffect) -> None: ...

    def run(self, ms: int) -> None: ...

    def answers(self) -> list[OpSucceeded | OpFailed]: ...

    def start(self, service: str) -> fx.StartService: ...

    def stop(self, service: str, kill: bool) -> fx.StopService: ...

    def serves(self) -> bool: ...

    def now(self) -> int: ...

    def close(self) -> None: ...


class SimulatedArm:
    """The twin's supervisor."""

    def __init__(self, _: Path) -> None:
        self._node = Node()

    def send(self, *effects: fx.AnyEffect) -> None:
        self._node.send(*effects)  # type: ignore[arg-type]  # the suite sends what these three ports take

    def run(self, ms: int) -> None:
        self._node.run(ms)

    def answers(self) -> list[OpSucceeded | OpFailed]:
        heard: Iterator[AnyEvent] = (event for _, event in self._node.heard)
        return [event for event in heard if isinstance(event, OpSucceeded | OpFailed)]

    def start(self, service: str) -> fx.StartService:
        return self._node.start(DB if service == DB else DNS, ms_max=LIMIT_MS)

    def stop(self, service: str, kill: bool) -> fx.StopService:
        return self._node.stop(DB if service == DB else DNS, kill=kill, ms_max=LIMIT_MS)

    def serves(self) -> bool:
        return self._node.supervisor.serves(DB)

    def now(self) -> int:
        return self._node.clock.now()

    def close(self) -> None:
        pass


class RealArm:
    """The supervisor of a real node with real processes, on stand-ins for the storage and the kernel's guard.

    Time that only a start or a stop would take passes as soon as everything is answered.
    """

    def __init__(self, folder: Path) -> None:
        self._node = supervising.Node(folder)

    def send(self, *effects: fx.AnyEffect) -> None:
        self._node.send(*effects)

    def run(self, ms: int) -> None:
        if ms >= LIMIT_MS:
            self._node.settle(ms)
            ms = 50
        self._node.run(ms)

    def answers(self) -> list[OpSucceeded | OpFailed]:
        return self._node.answers()

    def start(self, service: str) -> fx.StartService:
        return self._node.start(DB if service == DB else DNS, ms_max=LIMIT_MS)

    def stop(self, service: str, kill: bool) -> fx.StopService:
        return self._node.stop(DB if service == DB else DNS, kill=kill, ms_max=LIMIT_MS)

    def serves(self) -> bool:
        return self._node.serves()

    def now(self) -> int:
        return self._node.loop.now()

    def close(self) -> None:
        self._node.close()


ARMS: dict[str, Callable[[Path], Arm]] = {"simulated": SimulatedArm, "real": RealArm}


@pytest.fixture(params=sorted(ARMS))
def arm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Arm]:
    made = ARMS[request.param](tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("service", [DB, DNS])
@pytest.mark.parametrize("kill", [False, True])
def test_start_and_stop_are_each_answered_once_within_their_limit(arm: Arm, service: str, kill: bool) -> None:
    arm.send(arm.start(service))
    arm.run(LIMIT_MS)
    assert [type(answer) for answer in arm.answers()] == [OpSucceeded]
    arm.send(arm.stop(service, kill))
    arm.run(LIMIT_MS)
    arm.run(2 * LIMIT_MS)
    answers = arm.answers()
    assert [type(answer) for answer in answers] == [OpSucceeded, OpSucceeded]
    assert isinstance(answers[1], OpSucceeded)
    assert answers[1].result == Stopped(clean=not kill)


def test_starting_what_runs_already_succeeds_at_once(arm: Arm) -> None:
    arm.send(arm.start(DNS))
    arm.run(LIMIT_MS)
    arm.send(arm.start(DNS))
    assert [type(answer) for answer in arm.answers()] == [OpSucceeded, OpSucceeded]


def test_stopping_what_does_not_run_is_clean(arm: Arm) -> None:
    arm.send(arm.stop(DB, False))
    arm.run(LIMIT_MS)
    assert [a.result for a in arm.answers() if isinstance(a, OpSucceeded)] == [Stopped(clean=True)]


def test_a_stop_during_the_start_answers_both(arm: Arm) -> None:
    arm.send(arm.start(DB), arm.stop(DB, False))
    arm.run(2 * LIMIT_MS)
    assert sorted(int(answer.op) for answer in arm.answers()) == [1, 2]


def test_an_address_without_a_right_serves_nobody(arm: Arm) -> None:
    arm.send(arm.start(DB))
    arm.run(LIMIT_MS)
    arm.send(fx.AnnounceAddress(service=DB, epoch=EPOCH))
    arm.run(100)
    assert not arm.serves()


def test_a_right_ends_by_itself_at_its_deadline(arm: Arm) -> None:
    arm.send(arm.start(DB))
    arm.run(LIMIT_MS)
    until_ms = arm.now() + 1_000
    arm.send(fx.ArmRight(service=DB, epoch=EPOCH, until_ms=until_ms), fx.AnnounceAddress(service=DB, epoch=EPOCH))
    arm.run(900)
    assert arm.serves()
    arm.run(200)
    assert not arm.serves()


def test_resuming_alone_brings_no_address_back(arm: Arm) -> None:
    arm.send(arm.start(DB))
    arm.run(LIMIT_MS)
    right = fx.ArmRight(service=DB, epoch=EPOCH, until_ms=arm.now() + 60_000)
    arm.send(right, fx.AnnounceAddress(service=DB, epoch=EPOCH), fx.SuspendService(service=DB, epoch=EPOCH))
    arm.run(1_000)
    assert not arm.serves()
    arm.send(fx.ResumeService(service=DB, epoch=EPOCH))
    arm.run(1_000)
    assert not arm.serves()
    arm.send(fx.AnnounceAddress(service=DB, epoch=EPOCH))
    arm.run(100)
    assert arm.serves()


def test_standing_orders_of_another_epoch_change_nothing(arm: Arm) -> None:
    arm.send(arm.start(DB))
    arm.run(LIMIT_MS)
    other = Epoch(9)
    arm.send(
        fx.ArmRight(service=DB, epoch=EPOCH, until_ms=arm.now() + 60_000), fx.AnnounceAddress(service=DB, epoch=EPOCH)
    )
    arm.send(fx.SuspendService(service=DB, epoch=other), fx.WithdrawAddress(service=DB, epoch=other))
    arm.run(1_000)
    assert arm.serves()
