"""The simulated ZooKeeper ensemble: servers, sessions, records and clients, put together.

Reads of ``Read`` go through the quorum and are never stale; mirrors may be late. Timings: facts/zookeeper.md by way of
``twin/calibration.toml``. A server never starts a second ensemble: it joins the one there is.
"""

from collections.abc import Callable, Iterable, Mapping

from core import effects as fx
from core.events import Committed, Done, OpFailed
from core.ids import NO_NODE, NodeId, OpId, SessionId
from core.ports import Emit
from core.records import (
    ENSEMBLE,
    LEASES,
    MACHINES,
    MEMBERS,
    NODES,
    TERMS,
    AnyRecord,
    Change,
    EnsembleRecord,
    LeaseRecord,
    TermRecord,
)
from core.specs import Timing
from twin.calibration import Calibration
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.peers import Peers
from twin.world.zookeeper_client import Answer, ZooKeeperClient
from twin.world.zookeeper_feed import Feed
from twin.world.zookeeper_link import Link
from twin.world.zookeeper_quorum import Quorum
from twin.world.zookeeper_sessions import Sessions
from twin.world.zookeeper_times import ZooKeeperTimes
from twin.world.zookeeper_tree import Applied, Logged, Tree

LAZY = (MEMBERS + "/", NODES + "/", MACHINES + "/")
"""Creations and changes below these may wait ``coalesce_ms`` for more of them; deletions never wait."""


class Ensemble:
    """All of ZooKeeper. ``coalesce_ms`` (0: off) lets news of joining nodes wait, to be told together."""

    def __init__(
        self,
        kernel: Kernel,
        streams: Streams,
        calibration: Calibration,
        fabric: Fabric,
        timing: Timing,
        peers: Peers,
        coalesce_ms: int = 0,
    ) -> None:
        self.kernel = kernel
        self.times = calibration.section("zookeeper", ZooKeeperTimes)
        self.coalesce_ms = coalesce_ms
        self._streams = streams
        self._stream = streams.get("zookeeper")
        self._fabric = fabric
        self._peers = peers
        self._tree = Tree()
        self._timing = timing
        self._quorum = Quorum(kernel, self._stream, self.times, fabric, self.zxid, self._quorum_changed)
        self.sessions = Sessions(
            kernel, self._stream, self.times, timing.session_timeout_ms, self.quorum, self._session_ended
        )
        self._clients: dict[NodeId, ZooKeeperClient] = {}
        self._feeds: dict[NodeId, Feed] = {}
        self._blocked: dict[NodeId, int] = {}
        self._waiting: dict[NodeId, list[Callable[[], None]]] = {}
        self._late: dict[NodeId, None] = {}
        self._founder = NO_NODE
        self._listeners: list[Callable[[], None]] = []
        self._voter_listeners: list[Callable[[], None]] = []
        self._machine_listeners: list[Callable[[AnyRecord | None], None]] = []
        self._told: tuple[NodeId, bool] = (NO_NODE, False)
        fabric.on_change(self._quorum.look)

    # -- building and looking ------------------------------------------------------------------------------------------

    def bootstrap(self, voters: Iterable[NodeId], records: Mapping[str, AnyRecord], *, up: bool = True) -> None:
        """Let an ensemble of these voters exist with these records; ``up``: running and serving at once."""
        chosen = tuple(sorted(voters))
        self._tree.load({ENSEMBLE: EnsembleRecord(config=1, voters=chosen), **records})
        if up:
            self._quorum.form(chosen)
        else:
            self._quorum.voters = chosen
            for node in chosen:
                server = self._quorum.server(node)
                server.configured, server.log_zxid = True, self._tree.zxid

    def client(self, node: NodeId) -> ZooKeeperClient:
        """Return the client of a node, always the same."""
        found = self._clients.get(node)
        if found is None:
            found = self._clients[node] = ZooKeeperClient(node, self, self._streams.get(f"zookeeper/{node}"))
        return found

    @property
    def leader(self) -> NodeId:
        """The server that can commit now, NO_NODE if there is none."""
        return self._quorum.leader if self._quorum.serving else NO_NODE

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """The voters of the current configuration, in order of ids."""
        return self._quorum.voters

    def quorum(self) -> bool:
        """Whether a leader can commit now."""
        return self._quorum.serving

    def configured(self, node: NodeId) -> bool:
        """Whether a server is configured on the node's disk (``Started.server``)."""
        return self._quorum.server(node).configured

    def server_running(self, node: NodeId) -> bool:
        """Whether the node's server process exists."""
        return self._quorum.server(node).running

    def data_view(self, path: str) -> AnyRecord | None:
        """Return the committed record at a path: the truth, whoever can read it now."""
        found = self._tree.nodes.get(path)
        return found.data if found is not None else None

    def paths_below(self, root: str) -> tuple[str, ...]:
        """Return all committed paths below ``root``, in order."""
        return tuple(sorted(change.path for change in self._tree.listing(root, "tree") if change.path != root))

    def on_change(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` when the leader or the quorum changes."""
        self._listeners.append(fn)

    def on_voters(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` when the ensemble has a new configuration."""
        self._voter_listeners.append(fn)

    def on_machine(self, fn: Callable[[AnyRecord | None], None]) -> None:
        """Call ``fn`` with each record of a machine as it is committed."""
        self._machine_listeners.append(fn)

    # -- what happens to servers and sessions --------------------------------------------------------------------------

    def server_up(self, node: NodeId) -> None:
        """Start the configured server of a node whose system is up, of a frozen one when it goes on."""
        if not self._quorum.server(node).configured:
            return
        if self._peers.alive(node):
            self._quorum.start(node)
        else:
            self._late[node] = None

    def server_down(self, node: NodeId, lose_data: bool = False, *, silent: bool = False) -> None:
        """End a server's process. ``silent``: its machine is gone, so the others notice by time-outs only."""
        self._late.pop(node, None)
        self._quorum.stop(node, silent)
        if lose_data:
            server = self._quorum.server(node)
            server.configured, server.log_zxid = False, -1

    def server_freeze(self, node: NodeId) -> None:
        """Stop a server's process without ending it."""
        self._quorum.freeze(node)

    def server_thaw(self, node: NodeId) -> None:
        """Let a frozen server go on, or one start that should have been started meanwhile."""
        self._quorum.thaw(node)
        if node in self._late:
            del self._late[node]
            self._quorum.start(node)

    def server_slow(self, node: NodeId, ms: int) -> None:
        """Let each sync of a server's log take ``ms`` longer; 0 ends it."""
        self._quorum.server(node).slow_ms = ms
        for client in self._clients.values():
            client.link.changed()

    slow = server_slow

    def client_cut(self, node: NodeId) -> None:
        """Drop what the node's client and any server send each other, its own server included; counted."""
        self._block(node, 1)

    def client_mend(self, node: NodeId) -> None:
        """Undo one ``client_cut``."""
        self._block(node, -1)

    def expire(self, target: NodeId | SessionId) -> None:
        """End a session (or that of a node) as if nobody had heard of it; without quorum nothing happens."""
        session = self.client(NodeId(target)).link.session if isinstance(target, str) else SessionId(target)
        if session and self.quorum():
            self.sessions.end(session)

    # -- for clients (twin.world.zookeeper_client.Ensemble) ------------------------------------------------------------

    def usable(self, node: NodeId, server: NodeId) -> bool:
        """Whether a client there reaches that server, and it serves what the quorum commits."""
        return self._quorum.serves(server) and self._reaches(node, server)

    def choose(self, node: NodeId, avoid: NodeId = NO_NODE) -> NodeId:
        """The node's own server if that is usable, else draw a usable one; ``avoid`` only if there is no other."""
        if node != avoid and self.usable(node, node):
            return node
        usable = [server for server in self._quorum.serving_nodes() if self._reaches(node, server)]
        if avoid:
            usable = [server for server in usable if server != avoid] or usable
        return self._streams.get(f"zookeeper/{node}").choice(usable) if usable else NO_NODE

    def hangs_ms(self, node: NodeId, server: NodeId, busy: bool) -> int:
        """How long a client takes to notice that its server is no use any more."""
        its, times = self._quorum.server(server), self.times
        vanish_ms = self._timing.session_timeout_ms * 2 // 3
        if its.frozen or (not its.running and its.silent) or not self._reaches(node, server):
            return vanish_ms
        if not its.running or self._quorum.loud:
            return times.suspended_ms.draw(self._stream)
        close_ms = times.sync_ms + times.cut_close_ms.draw(self._stream)
        return min(vanish_ms, close_ms) if busy else close_ms

    def feed(self, server: NodeId) -> Feed:
        """Return the watch events of one server."""
        found = self._feeds.get(server)
        if found is None:
            found = self._feeds[server] = Feed(self.kernel, self._watch_ms)
        return found

    def zxid(self) -> int:
        """The last transaction."""
        return self._tree.zxid

    def listing(self, root: str, depth: str) -> tuple[Change, ...]:
        """Return what a mirror holds now; shared."""
        return self._tree.listing(root, depth)

    def read(self, path: str) -> Change:
        """Return the committed state of a path."""
        return self._tree.read(path)

    def holds(self, checks: tuple[fx.Check, ...]) -> bool:
        """Whether a transaction of these checks would go through."""
        nodes = self._tree.nodes
        return all((node := nodes.get(check.path)) is not None and node.version == check.version for check in checks)

    def sync_delay_ms(self) -> int:
        """How much slow disks add to a commit now."""
        return self._quorum.sync_delay_ms()

    def round_trip_ms(self, node: NodeId, server: NodeId) -> int:
        """The delay from a client to its server and back."""
        return self._fabric.round_trip_ms(node, server) if server else 0

    def commit(self, op: OpId, session: SessionId, writes: tuple[fx.Write, ...]) -> Answer:
        """Apply a transaction and tell all watchers."""
        outcome = self._tree.transact(writes, session)
        if isinstance(outcome, Applied):
            self._publish(outcome.logged)
            return Committed(zxid=outcome.zxid, versions=outcome.versions)
        return OpFailed(at_ms=0, op=op, reason="conflict", index=outcome.index, detail=outcome.detail)

    def reconfigure(self, effect: fx.Reconfigure, asker: NodeId) -> Answer:
        """Change the voters, if the configuration is current, the joiners run and a majority would follow."""
        record = self.data_view(ENSEMBLE)
        if not isinstance(record, EnsembleRecord) or record.config != effect.config:
            return OpFailed(at_ms=0, op=effect.op, reason="conflict", detail="the configuration has changed")
        for node in effect.joining:
            if not self.usable(asker, node):
                detail = f"the server on {node} is not in sync or does not answer"
                return OpFailed(at_ms=0, op=effect.op, reason="unavailable", detail=detail)
        stay = [node for node in self.voters if node not in effect.leaving]
        voters = tuple(sorted(dict.fromkeys((*stay, *effect.joining))))
        if not voters or not self._quorum.majority(voters):
            return OpFailed(at_ms=0, op=effect.op, reason="unavailable", detail="no quorum of the new configuration")
        self._quorum.voters = voters
        for listener in self._voter_listeners:
            listener()
        config = self._tree.zxid + 1
        self._publish(self._tree.put(ENSEMBLE, EnsembleRecord(config=config, voters=voters), config))
        if self._quorum.leader not in voters:
            self.kernel.after(2, self._step_down, self._quorum.leader)
        return Done()

    def start_server(self, node: NodeId, members: tuple[NodeId, ...], done: Callable[[], None]) -> None:
        """Run a server; ``done`` once it is in sync, or once it runs while there is no quorum."""
        server = self._quorum.server(node)
        server.configured = True
        if not self.voters and all(member == node for member in members):
            self._founder = node
        self._waiting.setdefault(node, []).append(done)
        if server.running:
            self.kernel.after(1, self._quorum.look)
        else:
            self._quorum.start(node)

    def stop_server(self, node: NodeId) -> None:
        """End a server and forget that there was one."""
        self._quorum.stop(node, silent=False)
        self._quorum.server(node).configured = False
        self._waiting.pop(node, None)

    def listen(self, node: NodeId, nodes: tuple[NodeId, ...], emit: Emit) -> None:
        """Pass ``ListenTo`` on to the heartbeats."""
        self._peers.listen(node, nodes, emit)

    def deaf(self, node: NodeId) -> None:
        """End all listening of a node."""
        self._peers.forget(node)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _reaches(self, node: NodeId, server: NodeId) -> bool:
        return self._fabric.both_ways(node, server) and not self._blocked.get(node, 0)

    def _block(self, node: NodeId, by: int) -> None:
        self._blocked[node] = max(0, self._blocked.get(node, 0) + by)
        self.client(node).link.refresh()

    def _watch_ms(self, clients: int) -> int:
        return self.times.watch_ms.draw(self._stream) + clients * self.times.watcher_us // 1000

    def _publish(self, logged: tuple[Logged, ...]) -> None:
        urgent = [e for e in logged if e.change.data is None or not e.change.path.startswith(LAZY)]
        for feed in self._feeds.values():
            feed.offer(logged, urgent, self.coalesce_ms)
        for entry in logged:
            if entry.change.path.startswith(MACHINES + "/"):
                for tell in self._machine_listeners:
                    tell(entry.change.data)
            if entry.change.path.startswith((LEASES, TERMS)):
                for change in (entry.change, entry.was):
                    self._health_changed(change)

    def _health_changed(self, change: Change | None) -> None:
        """Let the holder named by a lease or term look at its beats again."""
        data = change.data if change is not None else None
        owner = self.sessions.owner(data.session) if isinstance(data, LeaseRecord | TermRecord) else None
        if isinstance(owner, Link):
            self.kernel.after(0, owner.changed)

    def _session_ended(self, session: SessionId) -> None:
        self._publish(self._tree.end_session(session))

    def _step_down(self, node: NodeId) -> None:
        if self._quorum.leader == node and self._quorum.serving:
            self._quorum.step_down(self.times.reconfig_leader_ms.draw(self._stream))

    def _quorum_changed(self, restart: bool) -> None:
        if self._founder and not self.voters and self._quorum.server(self._founder).ready:
            founder, self._founder = self._founder, NO_NODE
            self._tree.load({ENSEMBLE: EnsembleRecord(config=1, voters=(founder,))})
            self._quorum.form((founder,))
            return
        if restart:
            self.sessions.restart()
        for client in list(self._clients.values()):
            client.link.refresh()
        for node in list(self._waiting):
            server = self._quorum.server(node)
            if self._quorum.serves(node) or (server.ready and not self.quorum()):
                for done in self._waiting.pop(node):
                    done()
        told = (self._quorum.leader, self._quorum.serving)
        if told != self._told:
            self._told = told
            for listener in self._listeners:
                listener()
