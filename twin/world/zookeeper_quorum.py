"""The servers of the ensemble: which run, which are in sync, who leads, and how long it takes until another does.

Source of all times: facts/zookeeper.md section 2. Not modelled: a majority of servers that lost their disks (nobody is
elected then; a real ensemble may lose commits), two ensembles under one name.
"""

from collections.abc import Callable

from core.ids import NO_NODE, NodeId
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.fabric import Fabric
from twin.world.zookeeper_times import ZooKeeperTimes


class Server:
    """One server. ``ready``: its process can vote; ``in_sync``: it follows the leader (or leads)."""

    __slots__ = (
        "configured", "cut_ms", "frozen", "in_sync", "joining", "led", "log_zxid", "node", "ready", "running",
        "silent", "slow_ms", "starting",
    )  # fmt: skip

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.configured = False
        self.running = False
        self.ready = False
        self.frozen = False
        self.in_sync = False
        self.silent = False
        self.led = False
        self.slow_ms = 0
        self.log_zxid = 0
        self.cut_ms = -1
        self.starting: Handle | None = None
        self.joining: Handle | None = None

    @property
    def active(self) -> bool:
        """Whether it takes part in elections and replication."""
        return self.running and self.ready and not self.frozen


class Quorum:
    """Leader and followers. ``on_change`` is called whenever serving servers or the leader may have changed.

    ``stalled``: there is a leader that cannot commit. ``loud``: the others knew at once that the last leader was gone.
    """

    def __init__(
        self,
        kernel: Kernel,
        stream: Stream,
        times: ZooKeeperTimes,
        fabric: Fabric,
        zxid: Callable[[], int],
        on_change: Callable[[bool], None],
    ) -> None:
        self.voters: tuple[NodeId, ...] = ()
        self.servers: dict[NodeId, Server] = {}
        self.leader: NodeId = NO_NODE
        self.stalled = False
        self.loud = False
        self._kernel = kernel
        self._stream = stream
        self._times = times
        self._fabric = fabric
        self._zxid = zxid
        self._on_change = on_change
        self._election: Handle | None = None
        self._stalled_ms = 0

    @property
    def serving(self) -> bool:
        """Whether a leader can commit now."""
        return self.leader != NO_NODE and not self.stalled

    def server(self, node: NodeId) -> Server:
        """Return a node's server, which may never have run."""
        found = self.servers.get(node)
        if found is None:
            found = self.servers[node] = Server(node)
        return found

    def serves(self, node: NodeId) -> bool:
        """Whether the server there answers clients with what the quorum commits."""
        if not self.serving:
            return False
        server = self.servers.get(node)
        return server is not None and self._follows(server)

    def serving_nodes(self) -> list[NodeId]:
        """Voters that answer clients, in order of ids."""
        return [node for node in self.voters if self.serves(node)]

    def sync_delay_ms(self) -> int:
        """How much slow disks add to a commit: the slowest disk of the fastest majority."""
        if not any(server.slow_ms for node in self.voters if (server := self.servers.get(node)) is not None):
            return 0
        delays = sorted(self.servers[node].slow_ms for node in self.voters if self._follows(self.servers[node]))
        need = len(self.voters) // 2
        return delays[min(need, len(delays) - 1)] if delays else 0

    def form(self, voters: tuple[NodeId, ...]) -> None:
        """Let these servers be the ensemble, running and in sync at once; the last id leads."""
        self.voters = tuple(sorted(voters))
        for node in self.voters:
            server = self.server(node)
            server.configured = server.running = server.ready = True
            server.log_zxid = self._zxid()
        self._elect()

    def start(self, node: NodeId) -> None:
        """Start a server's process."""
        server = self.server(node)
        if not server.running:
            server.running, server.frozen, server.cut_ms = True, False, -1
            server.starting = self._kernel.after(self._times.start_ms.draw(self._stream), self._ready, server)

    def stop(self, node: NodeId, silent: bool) -> None:
        """End a server's process; ``silent``: nobody is told (its machine is gone too)."""
        server = self.server(node)
        if server.running:
            self._leave(server)
            server.running = server.ready = server.frozen = False
            server.silent = silent
            if server.starting is not None:
                server.starting.cancel()
            self.look()

    def freeze(self, node: NodeId) -> None:
        """Stop a server's process without ending it: it falls silent."""
        server = self.server(node)
        if server.running and not server.frozen:
            if server.cut_ms < 0:
                server.log_zxid, server.cut_ms = self._log(server), self._kernel.now
            server.frozen = True
            self.look()

    def thaw(self, node: NodeId) -> None:
        """Let a frozen server go on."""
        server = self.server(node)
        if server.frozen:
            server.frozen = False
            self.look()

    def look(self) -> None:
        """Work out what a change of servers or paths means for the leader; call it after every such change."""
        if self.leader == NO_NODE:
            self._seek_leader()
            self._on_change(False)
            return
        if self._has_quorum(self.servers[self.leader]) and not self._given_up():
            restart, self.stalled = self.stalled, False
            if restart:
                self._cancel_election()
            self._watch_followers()
            self._on_change(restart)
            return
        if not self.stalled:
            self._stall()
        self._on_change(False)

    def step_down(self, delay_ms: int) -> None:
        """The leader was removed from the ensemble: another leads after ``delay_ms``."""
        self._leave(self.servers[self.leader])
        self.leader, self.loud = NO_NODE, True
        self._election = self._kernel.after(delay_ms, self._elect)
        self._on_change(False)

    def majority(self, voters: tuple[NodeId, ...]) -> bool:
        """Whether more than half of these would follow the leader."""
        following = [node for node in voters if node in self.servers and self._follows(self.servers[node])]
        return len(following) * 2 > len(voters)

    # -- leader and followers ------------------------------------------------------------------------------------------

    def _follows(self, server: Server) -> bool:
        return server.active and server.in_sync and self._fabric.both_ways(server.node, self.leader)

    def _given_up(self) -> bool:
        """Whether the followers have left a stalled leader for good, though it may reach them again."""
        return self.stalled and self._kernel.now - self._stalled_ms > self._times.sync_ms

    def _log(self, server: Server) -> int:
        """The last transaction that a server has on its disk."""
        return self._zxid() if server.in_sync and server.cut_ms < 0 else server.log_zxid

    def _has_quorum(self, leader: Server) -> bool:
        return leader.active and leader.in_sync and self.majority(self.voters)

    def _watch_followers(self) -> None:
        """Notice followers that were cut off, or may come back."""
        for server in self.servers.values():
            if not server.active:
                continue
            reached = self._fabric.both_ways(server.node, self.leader)
            if not reached and server.cut_ms < 0:
                server.cut_ms = self._kernel.now
                server.log_zxid = self._zxid() if server.in_sync else server.log_zxid
            elif reached and server.cut_ms >= 0:
                if self._kernel.now - server.cut_ms > self._times.sync_ms:
                    self._leave(server)
                    delay = self._times.heal_leader_ms if server.led else self._times.heal_ms
                    self._join_later(server, delay.draw(self._stream))
                server.cut_ms, server.led = -1, False
            elif reached and not server.in_sync and server.joining is None:
                self._join_later(server, self._times.join_ms.draw(self._stream))

    def _stall(self) -> None:
        """The leader has no quorum any more: work out when the others (or itself) give it up."""
        leader = self.servers[self.leader]
        self.stalled = True
        self._stalled_ms = self._kernel.now
        self.loud = not leader.running and not leader.silent
        leader.led = True
        self._cancel_election()
        if self.loud:
            self.leader, self.stalled = NO_NODE, False
            self._seek_leader()
        else:
            timeout_ms = self._times.sync_ms + self._times.cut_election_ms.draw(self._stream)
            if leader.active and not any(s.active for s in self._other_voters()):
                timeout_ms = self._times.quorum_lost_ms.draw(self._stream)
            self._election = self._kernel.after(timeout_ms, self._elect)

    def _other_voters(self) -> list[Server]:
        return [self.server(node) for node in self.voters if node != self.leader]

    def _seek_leader(self) -> None:
        if self._election is None and self._candidate() is not None:
            self._election = self._kernel.after(self._times.election_ms.draw(self._stream), self._elect)

    def _cancel_election(self) -> None:
        if self._election is not None:
            self._election.cancel()
            self._election = None

    def _candidate(self) -> Server | None:
        """Who would win: it has every commit, reaches a majority, and has the highest id."""
        for node in sorted(self.voters, reverse=True):
            server = self.server(node)
            if server.active and self._log(server) >= self._zxid():
                near = [n for n in self.voters if self.server(n).active and self._fabric.both_ways(n, node)]
                if len(near) * 2 > len(self.voters):
                    return server
        return None

    def _elect(self) -> None:
        self._election = None
        chosen = self._candidate()
        self.stalled = False
        self.leader = chosen.node if chosen is not None else NO_NODE
        for server in self.servers.values():
            reached = server.active and chosen is not None and self._fabric.both_ways(server.node, chosen.node)
            if reached:
                self._enter(server)
                server.cut_ms, server.led = -1, False
            else:
                self._leave(server)
                if chosen is not None and server.active:
                    server.cut_ms = self._kernel.now - self._times.sync_ms - 1
        self._on_change(chosen is not None)

    def _enter(self, server: Server) -> None:
        server.in_sync = True
        if server.joining is not None:
            server.joining.cancel()
            server.joining = None

    def _leave(self, server: Server) -> None:
        if server.in_sync:
            server.log_zxid = self._log(server)
            server.in_sync = False
        if server.joining is not None:
            server.joining.cancel()
            server.joining = None

    def _ready(self, server: Server) -> None:
        server.ready, server.starting = True, None
        self.look()

    def _join_later(self, server: Server, delay_ms: int) -> None:
        server.joining = self._kernel.after(delay_ms, self._join, server)

    def _join(self, server: Server) -> None:
        server.joining = None
        if self.serving and server.active and self._fabric.both_ways(server.node, self.leader):
            self._enter(server)
        self.look()
