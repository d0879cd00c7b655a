"""Rights and addresses of this node's services: who may act, until when, and what happens then (rules 5 and 11).

An address is the kernel's affair: ``drivers.rights`` keeps it off the network from the deadline on, whatever processes
do. The suspension, and services without an address, are the supervisor's own deadline.
"""

from collections.abc import Callable
from typing import Protocol

from core import effects as fx
from core.events import AnyEvent, RightExpired
from core.ids import Epoch, ServiceName
from drivers.log import event as log
from drivers.loop import Loop
from drivers.unit import Unit


class AddressRights(Protocol):
    """What the kernel does about addresses (``drivers.rights.Rights``)."""

    def announce(self, address: str) -> None: ...

    def withdraw(self, address: str) -> None: ...

    def allow(self, address: str, until_ms: int) -> None: ...

    def revoke(self, address: str) -> None: ...


class Guard:
    """Takes addresses off and suspends services, on order or because a right ran out.

    ``failures``: the exceptions by which ``rights`` says that the kernel refused. ``cut``: ends the connections of an
    address; may do nothing.
    """

    def __init__(
        self,
        loop: Loop,
        rights: AddressRights,
        tell: Callable[[AnyEvent], None],
        failures: tuple[type[Exception], ...] = (),
        cut: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.units: dict[ServiceName, Unit] = {}
        self._loop = loop
        self._rights = rights
        self._tell = tell
        self._failures = failures
        self._cut = cut
        self._early: dict[ServiceName, tuple[Epoch, int]] = {}

    def obey(
        self,
        effect: fx.SuspendService | fx.ResumeService | fx.AnnounceAddress | fx.WithdrawAddress | fx.ArmRight,
    ) -> None:
        """Do what the agent ordered. What concerns a service that is not here at exactly this epoch came too late.

        Except a right: it may come just before the start that it is meant for.
        """
        unit = self.units.get(effect.service)
        if unit is None or unit.epoch != effect.epoch:
            if isinstance(effect, fx.ArmRight) and unit is None:
                self._early[effect.service] = (effect.epoch, effect.until_ms)
            return
        match effect:
            case fx.SuspendService():
                self.address(unit, up=False)
                self.suspend(unit)
            case fx.ResumeService():
                self.resume(unit)
            case fx.AnnounceAddress():
                self.address(unit, up=True)
            case fx.WithdrawAddress():
                self.address(unit, up=False)
            case fx.ArmRight():
                self.arm(unit, effect.until_ms)

    # -- rights -----------------------------------------------------------------------------------------------------

    def begun(self, unit: Unit) -> None:
        """Give a unit that starts the right that came before it."""
        epoch, until_ms = self._early.pop(unit.name, (unit.epoch, 0))
        if epoch == unit.epoch:
            self.arm(unit, until_ms)

    def arm(self, unit: Unit, until_ms: int) -> None:
        """Give a right, or push it forward; one that would have ended already is none."""
        if until_ms > self._loop.now():
            until_ms = max(until_ms, unit.until_ms if unit.armed else 0)
            unit.armed, unit.lapsed = True, False
            self._set(unit, until_ms)

    def push(self, unit: Unit, until_ms: int) -> None:
        """Push forward a right that was given; one that has ended stays ended."""
        now = self._loop.now()
        if unit.armed and unit.until_ms <= now:
            self.revoke(unit, expired=True)  # the deadline passed while this process could not look
        elif unit.armed and until_ms > unit.until_ms:
            self._set(unit, until_ms)

    def revoke(self, unit: Unit, expired: bool) -> None:
        """End a right: the address goes off at once, the service is suspended, the agent hears of an expiry."""
        unit.armed, unit.lapsed = False, True
        self._clear(unit)
        self.address(unit, up=False)
        self.suspend(unit)
        log("right_ended", service=unit.name, epoch=unit.epoch, expired=expired)
        if expired:
            self._tell(RightExpired(at_ms=self._loop.now(), service=unit.name, epoch=unit.epoch))

    def forget(self, unit: Unit) -> None:
        """End the right of a unit that is gone, without a word."""
        unit.armed = False
        self._clear(unit)

    def _set(self, unit: Unit, until_ms: int) -> None:
        unit.until_ms = until_ms
        if unit.address:
            self._kernel(lambda: self._rights.allow(unit.address, until_ms), "allow", unit)
        if unit.deadline is None:
            unit.deadline = self._loop.at(until_ms, lambda: self._due(unit))

    def _due(self, unit: Unit) -> None:
        unit.deadline = None
        if not unit.armed:
            return
        if unit.until_ms > self._loop.now():  # pushed meanwhile: one timer a right, not one a push
            unit.deadline = self._loop.at(unit.until_ms, lambda: self._due(unit))
        else:
            self.revoke(unit, expired=True)

    def _clear(self, unit: Unit) -> None:
        if unit.deadline is not None:
            unit.deadline.cancel()
            unit.deadline = None
        if unit.address:
            self._kernel(lambda: self._rights.revoke(unit.address), "revoke", unit)

    # -- address and suspension -------------------------------------------------------------------------------------

    def address(self, unit: Unit, up: bool) -> None:
        """Bring the address up or take it off."""
        if unit.announced == up or not unit.address:
            return
        unit.announced = up
        if up:
            self._kernel(lambda: self._rights.announce(unit.address), "announce", unit)
        else:
            self._kernel(lambda: self._rights.withdraw(unit.address), "withdraw", unit)
            self._cut(unit.address)
        log("address", service=unit.name, epoch=unit.epoch, up=up)

    def suspend(self, unit: Unit) -> None:
        """Freeze a service that runs. One that starts is frozen only if nothing else (a fence) keeps it from acting."""
        if unit.suspended or unit.task is None:
            return
        if unit.state == "running" or (unit.state == "starting" and unit.instance is None):
            unit.suspended = True
            unit.task.freeze()
            if unit.vigil is not None:
                unit.vigil.paused = True
            log("suspended", service=unit.name, epoch=unit.epoch)

    def resume(self, unit: Unit) -> None:
        """Let the service run again, without its address."""
        if unit.suspended:
            unit.suspended = False
            unit.failures = 0
            if unit.task is not None:
                unit.task.thaw()
            if unit.vigil is not None:
                unit.vigil.paused = False
            log("resumed", service=unit.name, epoch=unit.epoch)

    def _kernel(self, change: Callable[[], None], what: str, unit: Unit) -> None:
        """Change what the kernel does; a refusal never helps an address to stay up, it is only told."""
        try:
            change()
        except self._failures as error:
            log("rights_failed", what=what, service=unit.name, address=unit.address, error=str(error))
