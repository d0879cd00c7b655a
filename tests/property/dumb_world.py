"""Real machines in the small world, for walks that nobody planned: anything may be late, lost or dead at any time."""

from collections.abc import Callable
from typing import Any

from core import effects as fx
from core.ids import DomainId, NodeId, RackId, ServiceName, VolumeName
from core.records import AnyRecord
from core.specs import NodeSpec, ServiceSpec, Timing
from twin.check import actions, enabled, faults
from twin.check.brains import LiveBrains
from twin.check.codes import CODES, Action
from twin.check.coordination import Znode
from twin.check.options import Options
from twin.check.world import World

DB = ServiceSpec(
    name=ServiceName("db"), run="singleton", volume=VolumeName("vol"), address="10.0.0.1", cores=1, start_ms_max=3_000
)
CRON = ServiceSpec(name=ServiceName("cron"), run="singleton", address="10.0.0.2", cores=1, power_fence=True)
DNS = ServiceSpec(name=ServiceName("dns"), run="everywhere", cores=1)
TIMING = Timing(
    fresh_ms=400,
    withdraw_ms=200,
    stall_ms=4_000,
    unfit_ms=5_000,
    recover_ms=3_000,
    boot_ms_max=4_000,
    backoff_ms=2_000,
    backoff_ms_max=4_000,
    power_ms_max=1_000,
    brake_hold_ms=3_000,
    ensemble_repair_ms=3_600_000,
)
NAMES = ("n1", "n2", "n3")
FAULTS = ("freeze", "cut", "storage_cut", "crash", "agent", "lie")
FIRST_MS = 1_000_000


Hold = Callable[[Action], bool]


class DumbWorld(World):
    """A small world of live machines with a walker's verbs. ``log`` holds every effect: (time, node, effect)."""

    __slots__ = ("log",)

    @classmethod
    def booted(cls, timing: Timing = TIMING, names: tuple[str, ...] = NAMES) -> "DumbWorld":
        """All nodes have just been powered up."""
        options = Options(
            names=names,
            specs=(DB, CRON, DNS),
            timing=timing,
            tick_ms=100,
            fence_slack_ms=200,
            write_slack_ms=300,
            payloads=1_000,
            fault_targets=names,
            order="every",
        )
        world = cls(options, LiveBrains(), FIRST_MS)
        world.log: list[tuple[int, str, fx.AnyEffect]] = []
        for index in range(len(names)):
            faults.boot(world, index)
        return world

    @classmethod
    def served(cls, timing: Timing = TIMING, names: tuple[str, ...] = NAMES) -> "DumbWorld":
        """Everything is up and served, and has been for a while."""
        world = cls.booted(timing, names)
        world.until(lambda: world.is_served("db") and world.is_served("cron"))
        world.go_on(30)
        return world

    def began(self, index: int, effect: fx.AnyEffect) -> None:
        self.log.append((self.now, self.nodes[index].name, effect))

    # -- scripts -------------------------------------------------------------------------------------------------------

    def until(self, goal: Callable[[], bool], hold: Hold = lambda _: False, ticks_max: int = 600) -> int:
        """Let things happen in the dullest order, but not what ``hold`` holds back, until the goal; ticks it took.

        Raises: AssertionError if it is not reached.
        """
        ticks = steps = 0
        while not goal():
            steps += 1
            assert steps < 2_000 * (ticks + 1), "the world never comes to rest"
            found = [action for action in enabled.settled(self) if not hold(action)]
            if not found:
                every = enabled.local_actions(self) + enabled.shared_actions(self) + enabled.late_actions(self)
                found = [action for action in every if not hold(action)] or [("tick",)]
            ticks += found[0][0] == "tick"
            assert ticks <= ticks_max, "the goal is not reached"
            actions.apply(self, found[0])
        return ticks

    def for_ticks(self, ticks: int, hold: Hold = lambda _: False) -> None:
        """Let so much time pass, holding back what ``hold`` says."""
        end = self.now + ticks * self.options.tick_ms
        self.until(lambda: self.now >= end, hold)

    def effects(self, kind: type, since: int = 0) -> list[tuple[int, str, Any]]:
        """Effects of one kind asked for at or after ``since``."""
        return [entry for entry in self.log if isinstance(entry[2], kind) and entry[0] >= since]

    def notes(self, kind: str, since: int = 0) -> list[tuple[int, str, Any]]:
        return [entry for entry in self.effects(fx.Note, since) if entry[2].kind == kind]

    def holder(self, service: str) -> int:
        """Index of the node that serves it."""
        return next(i for i, node in enumerate(self.nodes) if self.serves(node, service))

    def effect_of(self, action: Action) -> Any:
        """What an action would let happen, if it is a request's."""
        if action[0] == "zk":
            return CODES.values[self.nodes[action[1]].outbox[0].effect]
        if action[0] == "store":
            return action[1].effect
        if action[0] in ("local", "mount", "power"):
            return CODES.values[action[2].effect]
        if action[0] == "in":
            return CODES.values[self.nodes[action[1]].inbox[0]]
        return None

    def write_record(self, path: str, data: AnyRecord) -> None:
        """Change a record as an operator would."""
        zk = self.own_zk()
        old = zk.tree.get(path)
        zk.tree[path] = Znode(data, 0 if old is None else old.version + 1, 0 if old is None else old.owner)
        zk.changed(path)
        self.tell_changes((zk.state(path),))

    # -- walks ---------------------------------------------------------------------------------------------------------

    def happen(self, pick: int) -> str:
        """Let one of the things that may happen next happen; its name."""
        found = [action for action in enabled.enabled(self) if action[0] not in _ENDS]
        action = found[pick % len(found)]
        actions.apply(self, action)
        return str(action[0])

    def be_late(self) -> None:
        """Let time pass although answers are still under way; what a node already has, it handles first."""
        self.settle_nodes()
        actions.apply(self, ("tick",))

    def settle_nodes(self) -> None:
        for _ in range(500):
            local = enabled.local_actions(self)
            if not local:
                return
            actions.apply(self, local[0])
        raise AssertionError("a node never comes to rest")

    def go_on(self, ticks: int) -> None:
        """Let everything that is due happen in the dullest order, for some ticks."""
        steps = 0
        while ticks:
            action = enabled.settled(self)[0]
            ordered = [index for index, node in enumerate(self.nodes) if node.power == "booting"]
            if action[0] == "tick" and ordered:
                action = ("boot", ordered[0])
            ticks -= action[0] == "tick"
            steps += 1
            assert steps < 20_000, "the world never comes to rest"
            actions.apply(self, action)

    def strike(self, kind: str, index: int) -> bool:
        """Let a fault strike, if it can; whether it did."""
        if not faults.can_strike(self.nodes[index], kind):
            return False
        actions.apply(self, (kind, index))
        return True

    def end(self, pick: int) -> None:
        """End one of the faults that are on."""
        found = faults.ends(self)
        if found:
            actions.apply(self, found[pick % len(found)])

    def heal(self) -> None:
        """End every fault."""
        while found := faults.ends(self):
            actions.apply(self, found[0])

    def is_served(self, service: str) -> bool:
        return any(self.serves(node, service) for node in self.nodes)


_ENDS = ("thaw", "uncut", "storage_uncut", "unlie", "boot", "restart", "unstall")


def node_spec(number: int, domain: int = 1) -> NodeSpec:
    """A small machine."""
    return NodeSpec(
        id=NodeId(f"n{number}"), rack=RackId("r1"), power_domain=DomainId(f"p{domain}"), cores=8, memory_bytes=1 << 20
    )
