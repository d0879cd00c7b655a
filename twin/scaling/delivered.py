"""What a rack delivers, in node-equivalents: its nodes, less what the control plane takes and keeps from them.

A second of a node counts as far as its processor, memory and network are free for others and it can be used, so the
shares that are lost multiply: ``X(N) = N (1 - processor) (1 - memory) (1 - network) ... (1 - moving)``.

* *processor*: agents at rest, their steps at the stated churn, and the ensemble's work for all of them.
* *memory*: the agents with everything they remember.
* *network*: heartbeats, pings, and the messages of the churn, against the ports of a node.
* *disk*: snapshots of the ensemble.
* *away*: a node that was lost is only counted again once it has joined; its repair is not the control plane's.
* *moving*: harsh on purpose: all of the rack counts as unusable while a singleton moves because its holder was lost.

What does not grow with the rack (the ensemble's servers, the singletons) is not taken off: spread over more nodes it
would only make the curve look better than linear and hide a bend. ``usable`` takes it off.
"""

import msgspec

from core.specs import Timing
from formats.catalog import Catalog
from formats.hardware import RackFile
from twin.scaling.figures import figure
from twin.scaling.meter import Traffic
from twin.scaling.site import Sample

YEAR_MS = 365.25 * 86_400_000
YEAR_S = YEAR_MS / 1000
VOTERS = 5
SNAPSHOTS = 3


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that takes a share of the rack: ``ratio`` in [0, 1], and where its figures come from."""

    name: str
    ratio: float
    source: str


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What one rack delivers: ``node_equivalents`` after all ``shares`` are taken off its ``nodes``."""

    nodes: int
    node_equivalents: float
    shares: tuple[Share, ...]


class Usable(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity for users with room for the loss of one node: stored bytes, and VMs of the size in ``figures.toml``."""

    usable_bytes: int
    usable_vms: int


def churn_yearly() -> float:
    """How often a node is lost and joins again in a year: failures and restarts."""
    return figure("failures_yearly") + figure("restarts_yearly")


def step_ns(sample: Sample, traffic: Traffic) -> float:
    """Processor time of one agent for some traffic, the mean of the probes, in nanoseconds."""
    return traffic.probe_ns / sample.probes


def deliver(sample: Sample, rack: RackFile, timing: Timing, heartbeat_ms: int, yearly: float) -> Delivered:
    """Work out what a measured rack delivers when each node is lost and joins again ``yearly`` times a year."""
    nodes, server = sample.nodes, rack.nodes[0]
    cores, memory = server.spec.cores, server.spec.memory_bytes
    per_s = yearly / YEAR_S
    once = sample.join.watch_events + sample.loss.watch_events, sample.join.requests + sample.loss.requests
    ensemble_cores = per_s * (once[0] * figure("watch_us") + once[1] * figure("request_us")) / 1e6
    steps_cores = per_s * nodes * (step_ns(sample, sample.join) + step_ns(sample, sample.loss)) / 1e9
    churn_bytes_s = per_s * (sample.join.bytes + sample.loss.bytes)
    port_bytes_s = max([nic.mbit_per_s for nic in server.nics if nic.network == "data"], default=10_000) * 125_000
    disk_bytes = sum(disk.size_bytes for disk in server.osd_disks)
    kept_bytes = VOTERS * SNAPSHOTS * sample.snapshot_bytes
    processor = (figure("idle_cores") + steps_cores + ensemble_cores) / cores
    shares = (
        Share(name="processor", ratio=processor, source="docs/drivers/host.md at rest; the rest measured here"),
        Share(
            name="memory",
            ratio=(figure("agent_bytes") + sample.memory_bytes) / memory,
            source="docs/drivers/host.md in a small rack; what an agent remembers measured here",
        ),
        Share(
            name="network",
            ratio=(churn_bytes_s + beats_per_s(timing, heartbeat_ms) * figure("ping_bytes")) / port_bytes_s,
            source="messages measured here; heartbeats and pings by the timers",
        ),
        Share(
            name="disk",
            ratio=kept_bytes / (nodes * disk_bytes) if disk_bytes else 0.0,
            source="snapshots measured here",
        ),
        Share(name="away", ratio=min(1.0, yearly * sample.join_ms / YEAR_MS), source="time to join measured here"),
        Share(name="moving", ratio=min(1.0, yearly * sample.failover_ms / YEAR_MS), source="failover measured here"),
    )
    left = float(nodes)
    for share in shares:
        left *= 1 - share.ratio
    return Delivered(nodes=nodes, node_equivalents=left, shares=shares)


def beats_per_s(timing: Timing, heartbeat_ms: int) -> float:
    """How many small messages a node at rest sends in a second: heartbeats to its steward, pings of its session.

    They do not depend on the size of the rack: a node has one steward. Source: ``core.ring``; kazoo pings three times
    in a session timeout.
    """
    return 1000 / heartbeat_ms + 3 * 1000 / timing.session_timeout_ms


def usable(rack: RackFile, catalog: Catalog, sample: Sample) -> Usable:
    """Work out what users get of a rack of equal servers, with room to make good the loss of one of them."""
    servers = [server for server in rack.nodes if server.plugged]
    server, left = servers[0], max(len(servers) - 1, 0)
    disks = len(server.osd_disks)
    raw = left * sum(disk.size_bytes for disk in server.osd_disks)
    snapshots = VOTERS * (figure("log_bytes") + SNAPSHOTS * sample.snapshot_bytes)
    per_node = [spec for spec in catalog.specs if spec.run == "everywhere"]
    once = [(spec, 1 if spec.run == "singleton" else spec.count) for spec in catalog.specs if spec.run != "everywhere"]
    cores = server.spec.cores - figure("idle_cores") - sum(spec.cores for spec in per_node)
    memory = (
        server.spec.memory_bytes
        - figure("agent_bytes")
        - sample.memory_bytes
        - disks * figure("osd_memory_bytes")
        - sum(spec.memory_bytes for spec in per_node)
    )
    all_cores = left * cores - VOTERS * figure("server_cores") - sum(spec.cores * copies for spec, copies in once)
    all_memory = left * memory - VOTERS * figure("server_bytes") - sum(s.memory_bytes * copies for s, copies in once)
    by_node = left * min(int(cores // figure("vm_cores")), int(memory // figure("vm_memory_bytes")))
    vms = min(all_cores // figure("vm_cores"), all_memory // figure("vm_memory_bytes"), by_node)
    stored = (raw * figure("nearfull_ratio") - snapshots) / figure("replicas")
    return Usable(usable_bytes=max(0, int(stored)), usable_vms=max(0, int(vms)))
