"""What a rack looks like from outside: its shared records, what its servers answer, what its agents show."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from core.ids import NO_NODE, NodeId, ServiceName
from core.records import (
    CLUSTER,
    DOMAINS,
    ENSEMBLE,
    MACHINES,
    MEMBERS,
    NODES,
    POWER,
    UPGRADE,
    Change,
    ClusterRecord,
    DomainRecord,
    EnsembleRecord,
    LeaseRecord,
    MachineRecord,
    MemberRecord,
    NodeRecord,
    PowerRecord,
    TermRecord,
    UpgradeRecord,
    lease_path,
    term_path,
)
from core.specs import ServiceSpec
from core.view import NodeView, ServiceView

R = TypeVar("R")


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent answered. ``ahead_ms``: its node's time of day less ours; ``error``: why there is no view.

    ``revocable``: it says that the certificate it shows can be revoked.
    """

    view: NodeView | None = None
    ahead_ms: int | None = None
    revocable: bool = False
    error: str = ""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What one ZooKeeper server answered. ``mode``: leader, follower, observer; ``error``: why there is no answer."""

    mode: str = ""
    version: str = ""
    zxid: str = ""
    connections: int = 0
    error: str = ""


class RackState(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a rack: ``at`` as a time of day, everything else by node or by path.

    ``storage``: how the rack's own storage is, a sentence each.
    ``problems``: machines that were found and cannot be taken for what their records say, one sentence each.
    """

    at: str
    nodes: tuple[NodeId, ...]
    services: tuple[ServiceSpec, ...]
    records: Mapping[str, Change]
    agents: Mapping[NodeId, Heard]
    servers: Mapping[NodeId, Server]
    problems: tuple[str, ...] = ()
    storage: tuple[str, ...] = ()

    def record(self, path: str, kind: type[R]) -> R | None:
        """The record at a path if it is there and of that kind."""
        change = self.records.get(path)
        return change.data if change is not None and isinstance(change.data, kind) else None

    def below(self, root: str, kind: type[R]) -> tuple[R, ...]:
        """The records of one kind below a path, in order of paths."""
        found = (self.records[path].data for path in sorted(self.records) if path.startswith(root + "/"))
        return tuple(record for record in found if isinstance(record, kind))

    @property
    def members(self) -> dict[NodeId, MemberRecord]:
        """The members by node."""
        return {record.node: record for record in self.below(MEMBERS, MemberRecord)}

    @property
    def lives(self) -> dict[NodeId, NodeRecord]:
        """The lifecycle records by node."""
        return {record.node: record for record in self.below(NODES, NodeRecord)}

    @property
    def power(self) -> dict[NodeId, PowerRecord]:
        """The power records by node."""
        paths = (path for path in sorted(self.records) if path.startswith(POWER + "/"))
        pairs = ((NodeId(path[len(POWER) + 1 :]), self.record(path, PowerRecord)) for path in paths)
        return {node: record for node, record in pairs if record is not None}

    @property
    def domains(self) -> dict[str, DomainRecord]:
        """The records of power domains by domain."""
        paths = (path for path in sorted(self.records) if path.startswith(DOMAINS + "/"))
        pairs = ((path[len(DOMAINS) + 1 :], self.record(path, DomainRecord)) for path in paths)
        return {domain: record for domain, record in pairs if record is not None}

    @property
    def machines(self) -> tuple[MachineRecord, ...]:
        """The machines that were found, in order of their BMCs."""
        return tuple(sorted(self.below(MACHINES, MachineRecord), key=lambda one: (one.number or 1 << 20, one.bmc)))

    @property
    def upgrade(self) -> UpgradeRecord | None:
        """The change of image that was begun last."""
        return self.record(UPGRADE, UpgradeRecord)

    @property
    def cluster(self) -> ClusterRecord | None:
        """The record of the whole rack."""
        return self.record(CLUSTER, ClusterRecord)

    @property
    def ensemble(self) -> EnsembleRecord | None:
        """The voters."""
        return self.record(ENSEMBLE, EnsembleRecord)

    @property
    def leader(self) -> NodeId:
        """The server that leads, NO_NODE if none says so."""
        return next((node for node, server in self.servers.items() if server.mode == "leader"), NO_NODE)

    @property
    def views(self) -> dict[NodeId, NodeView]:
        """The views of the agents that answered."""
        return {node: heard.view for node, heard in self.agents.items() if heard.view is not None}

    def term(self, service: ServiceName) -> TermRecord | None:
        """The term of a singleton."""
        return self.record(term_path(service), TermRecord)

    def lease(self, service: ServiceName) -> LeaseRecord | None:
        """The lease of a singleton."""
        return self.record(lease_path(service), LeaseRecord)

    def shown(self, node: NodeId, service: ServiceName) -> ServiceView | None:
        """One service as one node shows it."""
        view = self.views.get(node)
        return next((s for s in view.services if s.name == service), None) if view is not None else None

    def running(self, service: ServiceName) -> tuple[NodeId, ...]:
        """The nodes whose agents show a copy of a service as running."""
        shown = ((node, self.shown(node, service)) for node in sorted(self.views))
        return tuple(node for node, view in shown if view is not None and view.serving)

    def pending(self) -> tuple[str, ...]:
        """What the agents wait for and why, one sentence each."""
        return tuple(f"{node}: {said}" for node, view in sorted(self.views.items()) for said in view.pending)

    def not_reached(self) -> tuple[str, ...]:
        """What did not answer though it should: agents of members, servers of voters, one sentence each."""
        voters = self.ensemble.voters if self.ensemble is not None else ()
        said = [
            f"the agent of {node} shows nothing: {heard.error}"
            for node, heard in sorted(self.agents.items())
            if heard.error and node in self.members
        ]
        said += [
            f"the ZooKeeper server of {node} does not answer: {server.error}"
            for node, server in sorted(self.servers.items())
            if server.error and node in voters
        ]
        return tuple(said)
