"""A rack whose parts run and whose machines do not, for tests of single rare behaviours."""

from pathlib import Path

import msgspec

from core.events import (
    AnyEvent,
    OpFailed,
    OpSucceeded,
)
from core.ids import NodeId, OpId, ServiceName, VolumeName
from formats.catalog import load_catalog
from formats.rack import load_rack
from twin.faults import FAULTS
from twin.faults.base import Fault, Strike
from twin.world.world import World

ROOT = Path(__file__).parents[2]
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
DB, VOLUME = ServiceName("mariadb"), VolumeName("mariadb")
KINDS = (
    "answer_late", "bmc_answer_lost", "bmc_cycle_refused", "bmc_hangs_after", "bmc_order_late", "bmc_order_repeated",
    "bmc_report_late", "bmc_session_refused", "boot_slow", "boot_twice", "clock_slew", "close_hangs",
    "commit_answer_lost",
    "commit_lost", "commit_pause", "dhcp_offer_lost", "ephemeral_late", "exit_after_healthy", "exit_told_late",
    "fence_answer_lost", "fence_late", "follower_lag", "group_slow", "heartbeats_lost", "lift_answer_lost",
    "link_lopsided", "map_late", "mount_replay_long", "open_answer_lost", "power_on_ignored", "session_moved",
    "session_refused", "start_slow", "stop_hangs", "unmount_fails", "watch_late", "watch_repeated",
)  # fmt: skip


class Bare:
    """A rack whose parts run and whose machines do not; effects go to the ports of one node by hand."""

    def __init__(self, kind: str = "", node: NodeId = N1, **keys: object) -> None:
        rack, catalog = load_rack(ROOT / "racks/five.toml"), load_catalog(ROOT / "catalog/minimal.toml")
        self.world = World(rack, catalog, seed=1)
        self.kernel = self.world.kernel
        self.events: list[tuple[int, AnyEvent]] = []
        self.ops = 0
        self.strike = Strike(nodes=(node,))
        self.fault: Fault | None = msgspec.convert({"at_ms": 0, **keys}, FAULTS[kind]) if kind else None

    def apply(self) -> None:
        assert self.fault is not None
        self.fault.apply(self.world, self.strike)

    def emit(self, event: AnyEvent) -> None:
        self.events.append((self.kernel.now, event))

    def op(self) -> OpId:
        self.ops += 1
        return OpId(self.ops)

    def run(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)

    def answer(self, op: OpId) -> tuple[int, OpSucceeded | OpFailed]:
        found = [(at, e) for at, e in self.events if isinstance(e, OpSucceeded | OpFailed) and e.op == op]
        assert len(found) == 1, f"answered {len(found)} times"
        return found[0]
