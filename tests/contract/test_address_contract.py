"""What every address port must do, simulated or real: an address is reached only while its service has a right.

An *arm* is one implementation with a way to let time pass and a client that looks who answers.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from core import effects as fx
from tests.real.netns import Wire
from tests.real.require import require
from tests.unit.supervised import DB, EPOCH, Node

VIP = "10.254.0.100"


class Arm(Protocol):
    """One implementation under test, with a service that runs."""

    def announce(self) -> None: ...

    def withdraw(self) -> None: ...

    def allow(self, ms: int) -> None: ...

    def reached(self) -> bool: ...

    def run(self, ms: int) -> None: ...

    def stand_still(self, still: bool) -> None:
        """Stop, or let go on, whoever holds the address."""

    def close(self) -> None: ...


class SimulatedArm:
    """The twin's supervisor."""

    def __init__(self) -> None:
        self._node = Node()
        self._node.send(self._node.start())
        self._node.run(2_000)

    def announce(self) -> None:
        self._node.send(fx.ResumeService(service=DB, epoch=EPOCH), fx.AnnounceAddress(service=DB, epoch=EPOCH))

    def withdraw(self) -> None:
        self._node.send(fx.WithdrawAddress(service=DB, epoch=EPOCH))

    def allow(self, ms: int) -> None:
        self._node.send(fx.ArmRight(service=DB, epoch=EPOCH, until_ms=self._node.clock.now() + ms))

    def reached(self) -> bool:
        return self._node.supervisor.serves(DB)

    def run(self, ms: int) -> None:
        self._node.run(ms)

    def stand_still(self, still: bool) -> None:
        if still:
            self._node.supervisor.freeze(kernel_too=False)
        else:
            self._node.supervisor.thaw()

    def close(self) -> None:
        pass


class RealArm:
    """``drivers.rights`` on a wire, with a service that answers on every address of its node."""

    def __init__(self) -> None:
        require("ip", "nft")
        self._wire = Wire("a", "client")
        self._wire.run("a", "serve", "a")
        self._client = self._wire.run("client", "call")
        self._rights = self._wire.run("a", "rights", VIP)

    def announce(self) -> None:
        self._rights.ask("announce", VIP)

    def withdraw(self) -> None:
        self._rights.ask("withdraw", VIP)

    def allow(self, ms: int) -> None:
        self._rights.ask("allow", VIP, ms)

    def reached(self) -> bool:
        return self._client.ask(VIP) == "a"

    def run(self, ms: int) -> None:
        threading.Event().wait(ms / 1_000)

    def stand_still(self, still: bool) -> None:
        self._rights.send(signal.SIGSTOP if still else signal.SIGCONT)

    def close(self) -> None:
        self._wire.close()


ARMS: dict[str, Callable[[], Arm]] = {"simulated": SimulatedArm, "real": RealArm}
REAL = (pytest.mark.real, pytest.mark.xdist_group("address"))


@pytest.fixture(params=[pytest.param(name, marks=REAL if name == "real" else ()) for name in sorted(ARMS)])
def arm(request: pytest.FixtureRequest) -> Iterator[Arm]:
    arm = ARMS[request.param]()
    yield arm
    arm.close()


def test_an_address_without_a_right_reaches_nobody(arm: Arm) -> None:
    arm.announce()
    assert not arm.reached()


def test_a_right_without_the_address_reaches_nobody(arm: Arm) -> None:
    arm.allow(60_000)
    assert not arm.reached()


@pytest.mark.parametrize("right_first", [True, False])
def test_with_both_it_is_reached_whichever_came_first(arm: Arm, right_first: bool) -> None:
    for act in (lambda: arm.allow(60_000), arm.announce) if right_first else (arm.announce, lambda: arm.allow(60_000)):
        act()
    assert arm.reached()


def test_a_right_ends_by_itself(arm: Arm) -> None:
    arm.allow(3_000)
    arm.announce()
    arm.run(1_000)
    assert arm.reached()
    arm.run(2_500)
    assert not arm.reached()


def test_a_right_is_pushed_forward_and_never_back(arm: Arm) -> None:
    arm.allow(2_000)
    arm.announce()
    arm.run(1_000)
    arm.allow(5_000)
    arm.allow(100)
    arm.run(1_500)
    assert arm.reached()
    arm.run(4_000)
    assert not arm.reached()


def test_a_right_that_would_have_ended_already_is_none(arm: Arm) -> None:
    arm.announce()
    arm.allow(0)
    arm.allow(-1_000)
    assert not arm.reached()


def test_what_is_withdrawn_is_reached_again_when_announced_again(arm: Arm) -> None:
    arm.allow(60_000)
    arm.announce()
    arm.withdraw()
    assert not arm.reached()
    arm.announce()
    assert arm.reached()


def test_announcing_and_withdrawing_twice_is_like_once(arm: Arm) -> None:
    arm.allow(60_000)
    arm.announce()
    arm.announce()
    assert arm.reached()
    arm.withdraw()
    arm.withdraw()
    assert not arm.reached()


def test_a_right_ends_while_its_holder_stands_still_and_stays_ended(arm: Arm) -> None:
    arm.allow(2_000)
    arm.announce()
    assert arm.reached()
    arm.stand_still(True)
    arm.run(2_500)
    assert not arm.reached()
    arm.stand_still(False)
    assert not arm.reached()


def test_a_new_right_after_an_ended_one_serves_again(arm: Arm) -> None:
    arm.allow(500)
    arm.announce()
    arm.run(1_000)
    assert not arm.reached()
    arm.allow(60_000)
    arm.announce()
    assert arm.reached()
