"""One rack of a given size, settled, grown by one node and then robbed of the holder of a singleton; and measured."""

import tracemalloc
from collections.abc import Callable, Iterator

import msgspec

from core.errors import InputError
from core.ids import NO_NODE, NodeId, ServiceName
from core.journal import Opening
from core.machine import Machine
from formats.catalog import Catalog
from formats.hardware import RackFile, Server
from formats.synthetic import SyntheticRack, synthesize
from trial.measures import failovers
from twin.converge import has_converged, waiting
from twin.host import Brain
from twin.scaling.meter import Clock, Meter, Traffic
from twin.world.clients import ClientLoad
from twin.world.world import World

PER_RACK = 20
"""Servers in a rack of a site, on two PDUs and under two switches."""
SETTLE_MS_MAX = 600_000
CALM_MS = 60_000
"""So long nothing happens, for the cost of a rack at rest."""
JOIN_MS_MAX = 3_600_000
TAIL_MS = 30_000
"""So long after a change its messages are still counted."""
FAILOVER_MS_MAX = 300_000
SLICE_MS = 500
PROBES = 12
ZNODE_BYTES = 76
"""Bytes of a znode in a snapshot beside its path and its data. Source: DataTree and DataNode of Apache ZooKeeper 3.8:
two lengths, the number of the access list and StatPersisted."""

Make = Callable[[Opening], Brain]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What racks are grown from. ``pattern``: the model of server they consist of (None: a synthetic one).

    ``make`` builds other machines than the core's, so that a test can plant a bend.
    """

    catalog: Catalog
    pattern: Server | None = None
    per_rack: int = PER_RACK
    make: Make | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One rack of ``nodes`` nodes, measured with one seed.

    ``join_ms``: from carrying one more server in until it is a member; ``order_ms`` of it passed until it was ordered
    on. ``failover_ms``: from the loss of power until the singleton serves again, its BMC having proved the loss;
    ``silent_failover_ms``: the same with the BMC gone too. ``calm``, ``join`` and ``loss`` are the traffic of
    ``CALM_MS`` without any change, of that join, and of the first loss.
    """

    nodes: int
    seed: int
    join_ms: int
    order_ms: int
    failover_ms: int
    silent_failover_ms: int
    calm: Traffic
    join: Traffic
    loss: Traffic
    watches: int
    znodes: int
    snapshot_bytes: int
    memory_bytes: int
    probes: int


def grown(nodes: int, spares: int, plan: Plan) -> RackFile:
    """Make up a site of ``nodes`` servers in racks of ``plan.per_rack``, and ``spares`` more, not plugged in."""
    rack = synthesize(SyntheticRack(nodes=nodes, spares=spares, per_rack=plan.per_rack))
    pattern = plan.pattern
    if pattern is None:
        return rack
    like = pattern.spec
    servers = tuple(
        msgspec.structs.replace(
            server,
            spec=msgspec.structs.replace(
                server.spec, cores=like.cores, memory_bytes=like.memory_bytes, weight=like.weight
            ),
            disks=pattern.disks,
            nics=pattern.nics,
            model=pattern.model,
        )
        for server in rack.nodes
    )
    return msgspec.structs.replace(rack, nodes=servers)


def time_to_join(nodes: int, seed: int, plan: Plan) -> int:
    """Measure from carrying one more server into a settled rack of ``nodes`` until it is a member, in milliseconds.

    Raises: InputError if the rack does not settle, or the server does not join.
    """
    return _Site(nodes, seed, plan, None).join()[0]


def measure(nodes: int, seed: int, plan: Plan, clock: Clock | None = None) -> Sample:
    """Settle a rack, let one more server join, take the power from the holder of a singleton twice, and measure.

    Raises: InputError if the catalog has no singleton with a volume, or the rack does not settle, grow or recover.
    """
    site = _Site(nodes, seed, plan, clock)
    join_ms, order_ms = site.join()
    join = site.meter.take()
    site.run_for(CALM_MS)
    calm = site.meter.take()
    watches = sum(len(site.world.ensemble.client(node).link.mirrors) for node in site.world.members())
    znodes, snapshot_bytes = site.tree()
    memory_bytes = site.memory_bytes()
    failover_ms = site.fail(silent=False)
    loss = site.meter.take()
    site.mend()
    return Sample(
        nodes=nodes,
        seed=seed,
        join_ms=join_ms,
        order_ms=order_ms,
        failover_ms=failover_ms,
        silent_failover_ms=site.fail(silent=True),
        calm=calm,
        join=join,
        loss=loss,
        watches=watches,
        znodes=znodes,
        snapshot_bytes=snapshot_bytes,
        memory_bytes=memory_bytes,
        probes=site.probes,
    )


class _Site:
    """A rack that has settled, with one server beside it that is not plugged in yet."""

    def __init__(self, nodes: int, seed: int, plan: Plan, clock: Clock | None) -> None:
        singletons = [spec.name for spec in plan.catalog.specs if spec.run == "singleton" and spec.volume]
        if not singletons:
            raise InputError([f"{plan.catalog.name}: has no singleton with a volume; needed: one, to be lost"])
        self.service = ServiceName(singletons[0])
        rack = grown(nodes, 1, plan)
        self.new = rack.nodes[-1].id
        chosen = dict.fromkeys(rack.nodes[nodes * part // PROBES].id for part in range(PROBES))
        self.probes = len(chosen)
        self._lost = NO_NODE
        self.meter = Meter(chosen, clock, plan.make)
        self.world = World(
            rack,
            plan.catalog,
            seed=seed,
            fidelity="capacity",
            clients=ClientLoad(every_ms=0),
            make=self.meter.make,
        )
        self.world.start()
        self._until(lambda: has_converged(self.world), SETTLE_MS_MAX, "did not settle")
        self.world.ensemble.coalesce_ms = 0  # from here on every change is told by itself, as by a real ensemble
        self.meter.take()

    def run_for(self, ms: int) -> None:
        """Let time pass."""
        self.world.run_until(self.world.kernel.now + ms)

    def join(self) -> tuple[int, int]:
        """Carry the new server in; times in ms until it is a member, and until it was ordered on."""
        world, new = self.world, self.new
        begun_ms = world.kernel.now
        world.power.plug(new)
        self._until(lambda: any(True for _ in self._joined(begun_ms)), JOIN_MS_MAX, "did not join")
        joined_ms = next(self._joined(begun_ms))
        self._until(lambda: has_converged(world), SETTLE_MS_MAX, "did not settle after one more joined")
        self.run_for(TAIL_MS)
        orders = [act.at_ms for act in world.truth.power if act.node == new and act.obeyed and act.at_ms >= begun_ms]
        return joined_ms - begun_ms, min(orders, default=joined_ms) - begun_ms

    def fail(self, silent: bool) -> int:
        """Take the power from the holder, with ``silent`` from its BMC too; time in ms until the service is back."""
        world = self.world
        holder, begun_ms = world.holder_of(self.service), world.kernel.now
        self._lost = holder
        world.fault_begins("power_loss", f"power_loss of {holder}", (holder,))
        world.power.node_power_off(holder, standby_too=silent)
        self._until(lambda: self._moved(begun_ms) >= 0, FAILOVER_MS_MAX, f"{self.service} did not move")
        self.run_for(TAIL_MS)
        return self._moved(begun_ms)

    def mend(self) -> None:
        """Give the power back to the node that lost it, and let the rack take it up again."""
        self.world.power.node_power_on(self._lost)
        self._until(lambda: has_converged(self.world), JOIN_MS_MAX, "did not take up a node that had lost its power")

    def tree(self) -> tuple[int, int]:
        """Count the znodes, and the bytes of a snapshot of them."""
        paths = [path for root in ("/moxie", "/zookeeper") for path in self.world.ensemble.paths_below(root)]
        records = [self.world.ensemble.data_view(path) for path in paths]
        names = sum(len(path) for path in paths)
        return len(paths), names + len(paths) * ZNODE_BYTES + sum(len(msgspec.json.encode(r)) for r in records)

    def memory_bytes(self) -> int:
        """Bytes that one bystander's machine takes in a process of its own; 0 for a planted machine.

        What the process keeps by id for all machines (digests, offers: less than a tenth) is not in it.
        """
        node = self.world.nodes[0]
        machine = self.meter.machines[node]
        if not isinstance(machine, Machine):
            return 0
        snapshot, opening = machine.snapshot(), self._opening(node)
        Machine.restore(opening, snapshot)  # now everything that is kept by id is there
        tracemalloc.start()
        try:
            alone = Machine.restore(opening, snapshot)
            taken, _ = tracemalloc.get_traced_memory()
            del alone
        finally:
            tracemalloc.stop()
        return taken

    def _opening(self, node: NodeId) -> Opening:
        world = self.world
        return Opening(
            node=world.specs[node], timing=world.timing, services=world.catalog.specs, inventory=world.rack.specs
        )

    def _joined(self, since_ms: int) -> Iterator[int]:
        return (
            n.at_ms for n in self.world.truth.notes if n.kind == "joined" and n.by == self.new and n.at_ms > since_ms
        )

    def _moved(self, since_ms: int) -> int:
        truth = self.world.truth
        truth.ends(self.world.kernel.now)
        moves = [move for move in failovers(truth, [self.service]) if move.at_ms >= since_ms]
        return moves[0].total_ms if moves else -1

    def _until(self, done: Callable[[], bool], limit_ms: int, what: str) -> None:
        """Let time pass until something holds at two looks in a row. Raises: InputError if it takes too long."""
        world, held = self.world, 0
        end_ms = world.kernel.now + limit_ms
        while world.kernel.now < end_ms:
            world.run_until(world.kernel.now + SLICE_MS)
            held = held + 1 if done() else 0
            if held == 2:
                return
        why = "; ".join(waiting(world)[:3])
        raise InputError([f"a rack of {len(world.nodes) - 1} nodes {what} within {limit_ms // 1000} s: {why}"])
