"""Rights and addresses of one node's services: what may act, what does, and since when (rules 5 and 11)."""

from collections.abc import Callable

from core import effects as fx
from core.events import AnyEvent, RightExpired
from core.ids import Epoch, ServiceName
from twin.truth import Action, ServiceChange
from twin.world.deadlines import Deadlines
from twin.world.processes import Processes
from twin.world.unit import Site, Unit


class Guard:
    """Takes addresses off and suspends services, on order or because a right ran out.

    The address is the kernel's affair and goes at once; the suspension takes the supervisor a moment.
    """

    def __init__(
        self,
        site: Site,
        processes: Processes,
        units: dict[ServiceName, Unit],
        tell: Callable[[AnyEvent], None],
        implicit: Callable[[str], bool],
    ) -> None:
        self._site = site
        self._processes = processes
        self._units = units
        self._tell = tell
        self._early: dict[ServiceName, tuple[Epoch, int]] = {}
        self.rights = Deadlines(site.kernel, site.clock, self._right_ends, implicit)

    # -- rights -----------------------------------------------------------------------------------------------------

    def arm(self, unit: Unit, until_ms: int) -> None:
        """Give a right, or push it forward; one that would have ended already is none."""
        if until_ms > self._site.clock.now():
            self.rights.set(unit.name, max(until_ms, self.rights.get(unit.name) or 0))
            unit.lapsed = False
            if not unit.armed:
                unit.armed = True
                self.refresh(unit)

    def keep_early(self, effect: fx.ArmRight) -> None:
        """Keep the right of a service that is not here yet for a start of exactly that epoch."""
        self._early[effect.service] = (effect.epoch, effect.until_ms)

    def arm_early(self, unit: Unit) -> None:
        """Give a service that begins to start the right that came before it."""
        epoch, until_ms = self._early.pop(unit.name, (Epoch(0), 0))
        if epoch == unit.epoch:
            self.arm(unit, until_ms)

    def push(self, unit: Unit, until_ms: int) -> None:
        """Push forward a right that was given; one that has ended stays ended."""
        if unit.armed and until_ms > (self.rights.get(unit.name) or 0):
            self.rights.set(unit.name, until_ms)

    def revoke(self, unit: Unit, action: Action) -> None:
        """End a right: the address goes off at once, whatever the processes do; they are suspended when they can be."""
        unit.armed = False
        unit.lapsed = unit.state == "starting"
        self.rights.clear(unit.name)
        self.change(unit, action)
        self.address(unit, up=False)
        self.refresh(unit)
        unit.suspensions += 1
        self._processes.after(self._site.pace.suspend_ms(), self._suspend, unit, unit.suspensions, action == "expired")

    def _right_ends(self, name: str) -> None:
        unit = self._units.get(ServiceName(name))
        if unit is not None and unit.armed:
            self.revoke(unit, "expired")

    # -- address and suspension -------------------------------------------------------------------------------------

    def address(self, unit: Unit, up: bool) -> None:
        """Bring the address up or take it off."""
        if unit.announced != up:
            unit.announced = up
            self.change(unit, "announced" if up else "withdrawn")
            self.refresh(unit)

    def suspend(self, unit: Unit) -> None:
        """Take the address off, cut connections and freeze the service."""
        self.address(unit, up=False)
        unit.suspensions += 1
        self._processes.after(self._site.pace.suspend_ms(), self._suspend, unit, unit.suspensions, False)

    def resume(self, unit: Unit) -> None:
        """Let the service run again, without its address; a suspension still on its way is overtaken."""
        unit.suspensions += 1
        if unit.suspended:
            unit.suspended = False
            self.change(unit, "resumed")
            self.refresh(unit)

    def freeze(self, unit: Unit) -> None:
        """Stop the processes of a service; it does nothing any more."""
        if not unit.suspended:
            unit.suspended = True
            self.change(unit, "suspended")
            self.refresh(unit)

    def _suspend(self, unit: Unit, suspension: int, expired: bool) -> None:
        if unit.suspensions != suspension or self._units.get(unit.name) is not unit:
            return
        if unit.state == "running":
            self.freeze(unit)
        if expired:
            self._tell(RightExpired(at_ms=self._site.clock.now(), service=unit.name, epoch=unit.epoch))

    def obey(
        self,
        unit: Unit,
        effect: fx.SuspendService | fx.ResumeService | fx.AnnounceAddress | fx.WithdrawAddress | fx.ArmRight,
    ) -> None:
        """Do what the agent ordered."""
        match effect:
            case fx.SuspendService():
                self.suspend(unit)
            case fx.ResumeService():
                self.resume(unit)
            case fx.AnnounceAddress():
                self.address(unit, up=True)
            case fx.WithdrawAddress():
                self.address(unit, up=False)
            case fx.ArmRight():
                self.arm(unit, effect.until_ms)

    # -- the truth --------------------------------------------------------------------------------------------------

    def acts(self, unit: Unit) -> bool:
        """Whether the service does its work: for clients under its address, or (without one) for the rack."""
        if unit.state != "running" or unit.suspended or self._processes.stopped or self._processes.dead:
            return False
        if unit.spec.address:
            return unit.announced and unit.armed
        return unit.armed or not unit.spec.volume

    def refresh(self, unit: Unit) -> None:
        """Let the truth know whether the service acts; copies without a lease are not followed."""
        if unit.epoch == Epoch(0):
            return
        site, acts = self._site, self.acts(unit)
        truth, now = site.truth, site.kernel.now
        truth.acting.set(unit.name, site.node, unit.epoch, acts, now)
        if truth.serving.set(unit.name, site.node, unit.epoch, acts and site.visible(site.node), now):
            site.on_serving()

    def change(self, unit: Unit, action: Action) -> None:
        """Let the truth know what happened to a service."""
        site = self._site
        site.truth.services.append(
            ServiceChange(at_ms=site.kernel.now, node=site.node, service=unit.name, epoch=unit.epoch, action=action)
        )
