"""Looking at the real rack from outside, as an operator can: its records, its servers, what its agents show.

Everything is asked from the clients' namespace, with the operator's certificate. What does not answer is missing, not
waited for.
"""

from pathlib import Path

from core.ids import NO_NODE, NodeId, ServiceName
from core.records import (
    ENSEMBLE,
    AnyRecord,
    Change,
    Lifecycle,
    PowerRecord,
    TermRecord,
    node_path,
    power_path,
    term_path,
)
from core.view import NodeView
from drivers.access import Access
from drivers.clock import now_ms
from drivers.lab.layout import Layout
from drivers.rack_state import Heard, RackState
from drivers.servers import servers
from drivers.views import view_in
from drivers.zookeeper import Brief
from drivers.zookeeper_codec import OK, decode, encode, ensemble
from drivers.zookeeper_jute import put
from drivers.zookeeper_session import Credential
from drivers.zookeeper_tree import ROOT, SESSIONS

ASK_MS_MAX = 1_500
DEPTH_MAX = 4
FRESH_MS = 200
"""A look at the servers or at all records is good for this long."""


class Observer:
    """One operator's connection to the rack, made anew when it breaks."""

    def __init__(self, layout: Layout, access: Access) -> None:
        self.layout = layout
        self.access = access
        self._brief: Brief | None = None
        self._seen_ms = -FRESH_MS
        self._seen: dict[str, Change] = {}

    def close(self) -> None:
        """Hang up."""
        brief, self._brief = self._brief, None
        if brief is not None:
            brief.__exit__()

    # -- records ----------------------------------------------------------------------------------------------------

    def read(self, path: str) -> Change | None:
        """The state of one path; None if nobody answers."""
        brief = self._connect()
        if brief is None:
            return None
        error, seen = brief.get(path)
        if error != OK or seen is None:
            self.close()
            return None
        if path == ENSEMBLE and seen.data is not None:
            data: AnyRecord | None = ensemble(seen.data, self.access.config.machines)
        else:
            found = decode(seen.data) if seen.data else None
            data = found.record if found is not None else None
        return Change(path=path, zxid=seen.zxid, version=seen.version, data=data, owner=seen.owner)

    def put(self, path: str, record: AnyRecord, version: int) -> bool:
        """Write a record if it is still at ``version``; whether it was written."""
        brief = self._connect()
        if brief is None:
            return False
        error, seen = brief.get(path)
        if error != OK or seen is None or seen.data is None or seen.version != version:
            return False
        old = decode(seen.data)
        data = encode(record, old.unknown if old is not None else None)
        error, outcome = brief.commit((put(path, data, version),))
        return error == OK and outcome is not None and not any(outcome.errors)

    def records(self) -> dict[str, Change]:
        """All shared records by path; empty if nobody answers."""
        if now_ms() - self._seen_ms < FRESH_MS:
            return self._seen
        found: dict[str, Change] = {}
        for path in (ROOT, ENSEMBLE):
            if not self._below(path, found, DEPTH_MAX):
                found = {}
                break
        self._seen, self._seen_ms = found, now_ms()
        return found

    def _below(self, path: str, found: dict[str, Change], depth: int) -> bool:
        change = self.read(path)
        if change is None:
            return False
        if change.data is not None:
            found[path] = change
        if self._brief is None or depth == 0 or path in (SESSIONS, ENSEMBLE):
            return True
        error, names = self._brief.children(path)
        return error == OK and all(self._below(f"{path}/{name}", found, depth - 1) for name in sorted(names or ()))

    def _connect(self) -> Brief | None:
        if self._brief is None:
            config = self.access.config
            try:
                self._brief = Brief(list(self.access.servers().values()), config.tables.tls, ASK_MS_MAX)
            except OSError:  # TimeoutError is one
                return None
        return self._brief

    def state(self) -> RackState:
        """All there is to see of the rack now."""
        return RackState(
            at="",
            nodes=tuple(node.id for node in self.layout.nodes),
            services=self.access.config.catalog.specs,
            records=self.records(),
            agents={node.id: self._heard(node.id) for node in self.layout.nodes},
            servers=servers(self.access.config),
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

    def boot_of(self, node: NodeId) -> str:
        """Under which boot a node is a member; empty if it is none."""
        member = RackState(
            at="", nodes=(), services=(), records=self.records(), agents={}, servers={}
        ).members.get(node)
        return member.boot_id if member is not None else ""

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
