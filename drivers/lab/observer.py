"""Looking at the real rack from outside, as an operator can: its records, its servers, what its agents show.

Everything is asked from the clients' namespace, with the operator's certificate. What does not answer is missing, not
waited for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from core.ids import NO_NODE, NodeId, ServiceName
from core.records import (
    CLUSTER,
    ENSEMBLE,
    AnyRecord,
    Change,
    ClusterRecord,
    Lifecycle,
    MemberRecord,
    PowerRecord,
    TermRecord,
    node_path,
    power_path,
    term_path,
)
from core.view import NodeView
from drivers.access import Access
from drivers.clock import now_ms
from drivers.config import Config
from drivers.lab.layout import Layout
from drivers.rack_state import Heard, RackState
from drivers.seed import seed
from drivers.servers import servers
from drivers.views import view_in
from drivers.zookeeper import Brief
from drivers.zookeeper_operator import Operator, Unreachable
from drivers.zookeeper_session import Credential

T = TypeVar("T")

ASK_MS_MAX = 1_500
FRESH_MS = 200
"""A look at the servers or at all records is good for this long."""


class Observer:
    """One operator's connection to the rack, made anew when it breaks."""

    def __init__(self, layout: Layout, access: Access) -> None:
        self.layout = layout
        self.access = access
        self._operator: Operator | None = None
        self._seen_ms = -FRESH_MS
        self._seen: dict[str, Change] = {}

    def close(self) -> None:
        """Hang up."""
        operator, self._operator = self._operator, None
        if operator is not None:
            operator.close()

    # -- records ----------------------------------------------------------------------------------------------------

    def read(self, path: str) -> Change | None:
        """The state of one path; None if nobody answers."""
        return self._ask(lambda operator: operator.read(path))

    def put(self, path: str, record: AnyRecord, version: int) -> bool:
        """Write a record if it is still at ``version``; whether it was written."""
        return bool(self._ask(lambda operator: operator.put(path, record, version)))

    def records(self) -> dict[str, Change]:
        """All shared records by path; empty if nobody answers."""
        if now_ms() - self._seen_ms >= FRESH_MS:
            self._seen = self._ask(lambda operator: operator.tree()) or {}
            self._seen_ms = now_ms()
        return self._seen

    def seed(self, voters: int) -> bool:
        """Write the first shared records, for an ensemble of up to ``voters``; whether they are there."""
        return self._ask(lambda operator: _seed(operator, self.access.config, voters)) is not None

    def _ask(self, do: Callable[[Operator], T]) -> T | None:
        """Ask over the connection there is, else over a new one; None if nobody answers."""
        for _ in range(2):
            fresh = self._operator is None
            try:
                if self._operator is None:
                    self._operator = Operator(self.access.config, ASK_MS_MAX)
                return do(self._operator)
            except Unreachable:
                self.close()
                if fresh:
                    break
        return None

    def state(self, ask_servers: bool = True) -> RackState:
        """All there is to see of the rack now; asking every server costs each of them a handshake."""
        if self.layout.found:
            self.access.learn(self.records())
        return RackState(
            at="",
            nodes=tuple(node.id for node in self.layout.nodes),
            services=self.access.config.catalog.specs,
            records=self.records(),
            agents={node.id: self._heard(node.id) for node in self.layout.nodes},
            servers=servers(self.access.config) if ask_servers else {},
        )

    def _heard(self, node: NodeId) -> Heard:
        """What a node's agent left to be seen; nothing if it belongs to an earlier boot."""
        return view_in(self.run_dir(node))

    def run_dir(self, node: NodeId) -> Path:
        """Where a node has what does not outlive its boot."""
        return self.layout.home(node) / "run"

    # -- what targets and faults ask ---------------------------------------------------------------------------------

    def term(self, service: str) -> TermRecord | None:
        """The term of a singleton."""
        change = self.read(term_path(ServiceName(service)))
        return change.data if change is not None and isinstance(change.data, TermRecord) else None

    def leader(self) -> NodeId:
        """The node whose ZooKeeper server leads; NO_NODE if none says so."""
        found = [node for node, server in servers(self.access.config).items() if server.mode == "leader"]
        return found[0] if found else NO_NODE

    def voters(self) -> tuple[NodeId, ...]:
        """The ensemble's voters, in order of ids."""
        change = self.read(ENSEMBLE)
        return tuple(sorted(getattr(change.data, "voters", ()))) if change is not None else ()

    def views(self) -> dict[NodeId, NodeView]:
        """What the agents showed last."""
        heard = {node.id: self._heard(node.id) for node in self.layout.nodes}
        return {node: one.view for node, one in heard.items() if one.view is not None}

    def steward_of(self, ward: NodeId) -> NodeId:
        """Who cares for a node; NO_NODE if nobody does."""
        return next((node for node, view in sorted(self.views().items()) if ward in view.wards), NO_NODE)

    def power_record(self, node: NodeId) -> PowerRecord:
        """The last dated power order for a node."""
        change = self.read(power_path(node))
        return change.data if change is not None and isinstance(change.data, PowerRecord) else PowerRecord()

    def lifecycle_of(self, node: NodeId) -> Lifecycle | None:
        """What the rack has recorded of a node."""
        change = self.read(node_path(node))
        return getattr(change.data, "state", None) if change is not None else None

    def members(self) -> tuple[NodeId, ...]:
        """The members, in order of ids."""
        return tuple(sorted(self._members()))

    def boot_of(self, node: NodeId) -> str:
        """Under which boot a node is a member; empty if it is none."""
        member = self._members().get(node)
        return member.boot_id if member is not None else ""

    def _members(self) -> dict[NodeId, MemberRecord]:
        found = [change.data for change in self.records().values()]
        return {record.node: record for record in found if isinstance(record, MemberRecord)}

    def close_session(self, run_dir: Path) -> None:
        """End the session that an agent keeps in ``run_dir``; nothing happens if it has none."""
        try:
            credential = Credential.decode((run_dir / "session").read_bytes())
        except OSError:
            return
        if credential is not None:
            config = self.access.config
            with Brief(list(self.access.servers().values()), config.tables.tls, ASK_MS_MAX, credential):
                pass


def _seed(operator: Operator, config: Config, voters: int) -> bool:
    seed(operator, config)
    change = operator.read(CLUSTER)
    if isinstance(change.data, ClusterRecord) and change.data.ensemble_size != voters:
        return operator.put(CLUSTER, msgspec.structs.replace(change.data, ensemble_size=voters), change.version)
    return True
