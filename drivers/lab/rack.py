"""The lab's rack as its faults see it: plugs, BMCs, cables and processes to be pulled, killed, cut and stopped."""

import signal
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from core.ids import NodeId, ServiceName
from core.records import Lifecycle, PowerRecord
from drivers.children import MARK
from drivers.lab import bmcs, chassis, network, power
from drivers.lab.fault import Strike
from drivers.lab.layout import LabNode, Layout
from drivers.lab.machine import read_software
from drivers.lab.observer import Observer
from drivers.lab.shell import argv_of, send, state_of
from drivers.lab.strangers import Strangers
from drivers.lab.timeline import Timeline
from drivers.lab.wishes import Wishes

FREEZE_ROUNDS_MAX = 20


class LabRack:
    """One lab that is up: what its faults do harm with, and what they must know."""

    def __init__(self, layout: Layout, observer: Observer, timeline: Timeline) -> None:
        self.layout = layout
        self.observer = observer
        self.timeline = timeline
        self.operator = Wishes(observer, timeline)
        self.dead_switches: set[str] = set()
        self.busy = False
        self.strangers = Strangers(layout, timeline)
        self.zookeeper_port = observer.access.config.tables.zookeeper.client_port

    # -- power and BMCs ---------------------------------------------------------------------------------------------

    def cut_power(self, node: NodeId, bmc_too: bool) -> None:
        """Take the feed of a node away; its BMC lives on standby power unless ``bmc_too``."""
        home = self.layout.home(node)
        chassis.break_it(home, "nofeed")
        power.power_off(self.layout, node)
        if bmc_too:
            bmcs.stop(home)

    def feed(self, node: NodeId, boots: bool) -> None:
        """Give a node its feed back, or its first; its BMC starts, and the node too if it ran before."""
        chassis.mend(self.layout.home(node), "nofeed")
        self.bmc_start(node)
        if boots:
            power.power_on(self.layout, node)

    def plug_in_dark(self) -> None:
        """Give the machines that are to be found standby power: their BMCs answer, and nothing else does."""
        for node in self.layout.dark:
            if node.plugged:
                self.feed(node.id, boots=False)

    def bmc_start(self, node: NodeId) -> None:
        """Start a node's BMC unless it runs."""
        bmcs.start(bmc_of(self.layout, self.layout.get(node)))

    def bmc_stop(self, node: NodeId) -> None:
        """Kill a node's BMC."""
        bmcs.stop(self.layout.home(node))

    def bmc_freeze(self, node: NodeId) -> None:
        """Stop a node's BMC where it is."""
        bmcs.freeze(self.layout.home(node))

    def bmc_thaw(self, node: NodeId) -> None:
        """Let it go on."""
        bmcs.thaw(self.layout.home(node))

    def chassis_break(self, strike: Strike, node: NodeId, fault: chassis.Fault, value: int) -> None:
        """Make what a node's BMC says or does wrong."""
        home = self.layout.home(node)
        chassis.break_it(home, fault, value)
        strike.undo(partial(chassis.mend, home, fault))

    # -- the network ------------------------------------------------------------------------------------------------

    def drop(self, strike: Strike, rules: Iterable[str]) -> None:
        """Have the switch drop packets while the fault lasts."""
        network.drop(self.layout, strike.tag, rules)
        strike.undo(partial(network.allow, self.layout, strike.tag))

    # -- processes --------------------------------------------------------------------------------------------------

    def hold(self, strike: Strike, node: NodeId, what: str) -> None:
        """Keep the supervisor from starting "agent" or "zookeeper" while the fault lasts."""
        folder = self.run_dir(node) / "hold"
        self._touch(strike, folder / what)

    def run_dir(self, node: NodeId) -> Path:
        """Where a node's supervisor has what does not outlive a boot."""
        return self.layout.home(node) / "run"

    def kill_agent(self, node: NodeId) -> None:
        """Kill the agent of a node, not the substitute that waits beside it."""
        self._kill(node, is_agent)

    def pause_agent(self, strike: Strike, node: NodeId) -> None:
        """Stop the agent of a node while the fault lasts."""
        self._stop(strike, [pid for pid in power.processes_of(self.layout, node) if is_agent(argv_of(pid))])

    def kill_service(self, node: NodeId, service: ServiceName) -> None:
        """Kill all processes of a service on a node."""
        mark = f"{MARK}={self.run_dir(node)}:{service}".encode()
        for pid in power.processes_of(self.layout, node):
            if mark in _environment(pid):
                send(pid, signal.SIGKILL)

    def kill_server(self, strike: Strike, node: NodeId) -> None:
        """Kill the ZooKeeper server of a node and keep it down while the fault lasts."""
        self.hold(strike, node, "zookeeper")
        self._kill(node, lambda argv: any(word.endswith("QuorumPeerMain") for word in argv))

    def kill_daemons(self, strike: Strike, node: NodeId, prefix: str) -> None:
        """Kill a node's storage daemons ("osd.") or monitor ("mon.") and keep them down while the fault lasts."""
        home = self.layout.home(node)
        for name in daemons_of(home, prefix):
            self._touch(strike, home / "hold" / name)
        self._kill(node, _program(prefix))

    def stop_daemons(self, strike: Strike, prefix: str) -> None:
        """Stop such daemons on every node while the fault lasts."""
        is_one = _program(prefix)
        everywhere = [pid for node in self.layout.nodes for pid in power.processes_of(self.layout, node.id)]
        self._stop(strike, [pid for pid in everywhere if is_one(argv_of(pid))])

    def freeze_node(self, strike: Strike, node: NodeId) -> None:
        """Stop every process of a node, and let its packets vanish, while the fault lasts."""
        rules = [*network.around(self.layout.get(node), "all"), f"iifname {self.layout.get(node).management_port}"]
        self.drop(strike, rules)
        stopped: list[int] = []
        strike.undo(lambda: [send(pid, signal.SIGCONT) for pid in stopped])
        for _ in range(FREEZE_ROUNDS_MAX):
            fresh = [pid for pid in power.processes_of(self.layout, node) if state_of(pid) not in ("T", "t", "Z", "")]
            if not fresh:
                return
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            stopped += [pid for pid in fresh if pid not in stopped]

    def _kill(self, node: NodeId, wanted: Callable[[list[str]], bool]) -> None:
        for pid in power.processes_of(self.layout, node):
            if wanted(argv_of(pid)):
                send(pid, signal.SIGKILL)

    def _stop(self, strike: Strike, pids: list[int]) -> None:
        for pid in pids:
            send(pid, signal.SIGSTOP)
        strike.undo(lambda: [send(pid, signal.SIGCONT) for pid in pids])

    def _touch(self, strike: Strike, path: Path) -> None:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        strike.undo(partial(path.unlink, missing_ok=True))

    @property
    def boot_ms_max(self) -> int:
        """How long a machine may take from its power order until it is a member."""
        return self.observer.access.config.timing.boot_ms_max

    # -- what is known of the rack ----------------------------------------------------------------------------------

    def leader(self) -> NodeId:
        """The node whose ZooKeeper server leads; NO_NODE if none says so."""
        return self.observer.leader()

    def voters(self) -> tuple[NodeId, ...]:
        """The ensemble's voters, in order of ids."""
        return self.observer.voters()

    def steward_of(self, node: NodeId) -> NodeId:
        """Who cares for a node, by what the agents show; NO_NODE if nobody does."""
        return self.observer.steward_of(node)

    def power_record(self, node: NodeId) -> PowerRecord:
        """The last dated power order for a node."""
        return self.observer.power_record(node)

    def lifecycle_of(self, node: NodeId) -> Lifecycle | None:
        """What the rack has recorded of a node."""
        return self.observer.lifecycle_of(node)

    def boot_of(self, node: NodeId) -> str:
        """Under which boot a node is a member; empty if it is none."""
        return self.observer.boot_of(node)

    def close_session(self, node: NodeId) -> None:
        """End a node's session without asking it."""
        self.observer.close_session(self.run_dir(node))


def bmc_of(layout: Layout, node: LabNode) -> bmcs.LabBmc:
    """The BMC of a node."""
    return bmcs.LabBmc(
        name=node.id,
        folder=layout.home(node.id),
        addresses=(node.bmc_address,),
        password_file=layout.folder / "passwords" / node.id,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{layout.name}-{node.id}")),
        netns=layout.infra,
    )


def is_agent(argv: list[str]) -> bool:
    """Whether a process is the agent of a node, and not its substitute."""
    return "agent" in argv and "--child" in argv and "--spare" not in argv


def daemons_of(home: Path, prefix: str) -> list[str]:
    """Names of the storage's daemons on a node."""
    return [daemon.name for daemon in read_software(home).daemons if daemon.name.startswith(prefix)]


def _program(prefix: str) -> Callable[[list[str]], bool]:
    """What tells the processes of such daemons."""
    name = f"ceph-{prefix.removesuffix('.')}"
    return lambda argv: bool(argv) and Path(argv[0]).name == name


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
