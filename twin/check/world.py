"""The small world: real machines, a small ZooKeeper, a small storage, and one action at a time.

``enabled`` lists everything that may happen next and ``apply`` makes one of them happen, so that a walk over a world is
a choice of actions. A world is copied on write: ``branch`` is cheap.
"""

import msgspec

from core import effects as fx
from core import events as ev
from core.ids import NO_SESSION, DomainId, NodeId, OpId, ServiceName, SessionId
from core.records import ENSEMBLE, Change, EnsembleRecord
from twin.check import perform, rules
from twin.check.brains import BASE_MS, Brains, LiveBrains
from twin.check.codes import CODES
from twin.check.coordination import Coordination, Znode, matches
from twin.check.faults import Slots
from twin.check.node import Node, Waiting
from twin.check.options import Options
from twin.check.storage import Storage


class World:
    """A state of the whole small rack. Own a part (``node``, ``own_zk``, ``own_storage``) before changing it."""

    __slots__ = (
        "_owned",
        "brains",
        "faults_left",
        "keep",
        "nodes",
        "now",
        "options",
        "singletons",
        "storage",
        "volumes",
        "zk",
    )

    def __init__(self, options: Options, brains: Brains, now: int = BASE_MS) -> None:
        self.options = options
        self.singletons, self.volumes = options.singletons, options.volumes
        self.brains = brains
        self.now = now
        self.zk = Coordination()
        self.storage = Storage()
        self.nodes = [Node(name) for name in options.names]
        self.faults_left: Slots = ()
        self.keep = isinstance(brains, LiveBrains)
        self._owned = {-2, -1, *range(len(self.nodes))}
        voters = tuple(NodeId(name) for name in options.names[:1])
        self.zk.tree[ENSEMBLE] = Znode(EnsembleRecord(config=0, voters=voters), 0, NO_SESSION)

    # -- ownership -----------------------------------------------------------------------------------------------------

    def branch(self) -> "World":
        """Return a world in the same state that can be changed on its own; parts are copied when they are."""
        other = World.__new__(World)
        other.options = self.options
        other.singletons, other.volumes = self.singletons, self.volumes
        other.brains = self.brains
        other.now = self.now
        other.zk = self.zk
        other.storage = self.storage
        other.nodes = list(self.nodes)
        other.faults_left = self.faults_left
        other.keep = self.keep
        other._owned = set()
        return other

    def own_node(self, index: int) -> Node:
        if index not in self._owned:
            self.nodes[index] = self.nodes[index].copy()
            self._owned.add(index)
        return self.nodes[index]

    def own_zk(self) -> Coordination:
        if -1 not in self._owned:
            self.zk = self.zk.copy()
            self._owned.add(-1)
        return self.zk

    def own_storage(self) -> Storage:
        if -2 not in self._owned:
            self.storage = self.storage.copy()
            self._owned.add(-2)
        return self.storage

    def share(self) -> None:
        """Own nothing any more: whatever is changed from now on is copied first."""
        self._owned = set()

    def owned_nodes(self) -> list[int]:
        """Indexes of the nodes that were changed since the world was branched."""
        return [index for index in range(len(self.nodes)) if index in self._owned]

    def by_name(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.name == name), None)

    def index_of(self, name: str) -> int:
        return self.options.names.index(name)

    def domain_of(self, name: str) -> DomainId:
        return self.options.node_spec(self.index_of(name)).power_domain

    def serves(self, node: Node, service: str) -> bool:
        """Whether a client of the service could be answered by this node now."""
        found = node.services.get(service)
        if found is None or not node.awake or not found.running or found.suspended or not found.announced:
            return False
        right = node.rights.get(service)
        return right is not None and right[0] == found.epoch and self.now < right[1] + self.options.timing.withdraw_ms

    def note_evidence(self, node: Node, key: tuple[str, str], epoch: int, asked: int) -> None:
        """Remember as truth when evidence of an epoch was asked for at the latest."""
        known, at = node.evidence.get(key, (0, 0))
        node.evidence[key] = (epoch, max(at, asked) if known == epoch else asked)

    # -- stepping ------------------------------------------------------------------------------------------------------

    def start_agent(self, index: int) -> None:
        """A new agent process on a node that is up."""
        node = self.own_node(index)
        node.agent = True
        node.incarnation += 1
        node.mirrors = ()
        node.connected = False
        node.brain = self.brains.start(self.options.opening(index))
        running = tuple(
            ev.Running(service=ServiceName(name), epoch=s.epoch, instance=s.instance, announced=s.announced)
            for name, s in sorted(node.services.items())
            if s.running
        )
        started = ev.Started(
            at_ms=self.now,
            boot_id=node.boot_id(),  # type: ignore[arg-type]  # the small world names things with plain strings
            session=SessionId(node.session),
            running=running,
            server=node.server,
        )
        self.step(index, started)
        self.step(index, ev.StorageSeen(at_ms=self.now, ok=not node.storage_cut))

    def step(self, index: int, event: ev.AnyEvent) -> None:
        """Give a machine one event and let its effects begin."""
        node = self.own_node(index)
        if event.at_ms != self.now:
            event = msgspec.structs.replace(event, at_ms=self.now)
        node.brain, effects = self.brains.step(node.brain, event)
        for effect in effects:
            self.began(index, effect)
            perform.begin(self, index, effect)

    def began(self, index: int, effect: fx.AnyEffect) -> None:
        """A place to watch effects from."""

    def post(self, index: int, event: ev.AnyEvent) -> None:
        """Put an event at the end of what ZooKeeper sends to a node, in order."""
        node = self.own_node(index)
        if node.agent:
            node.inbox += (CODES.number(event),)

    def arrive(self, index: int, incarnation: int, event: ev.AnyEvent) -> None:
        """Let an answer come to a node, in no particular order; lost if the agent that asked is gone."""
        node = self.own_node(index)
        if node.agent and node.incarnation == incarnation:
            node.arrivals += (CODES.number(event),)

    def succeed(self, index: int, waiting: Waiting, result: ev.Result) -> None:
        effect = CODES.values[waiting.effect]
        event = ev.OpSucceeded(at_ms=0, op=effect.op, result=result)
        self.arrive(index, waiting.incarnation, event)

    def fail(self, index: int, waiting: Waiting, reason: ev.Reason, index_of_write: int = -1) -> None:
        effect = CODES.values[waiting.effect]
        op: OpId = effect.op
        self.arrive(index, waiting.incarnation, ev.OpFailed(at_ms=0, op=op, reason=reason, index=index_of_write))

    # -- ZooKeeper -----------------------------------------------------------------------------------------------------

    def tell_changes(self, changes: tuple[Change, ...]) -> None:
        """Send what changed to every connected mirror, in order."""
        for index, node in enumerate(self.nodes):
            if not node.connected or node.cut:
                continue
            seen = tuple(c for c in changes if any(_covers(root, depth, c) for root, depth in node.mirrors))
            if seen:
                self.post(index, ev.RecordsChanged(at_ms=0, changes=seen))

    def end_session(self, session: int, how: str) -> None:
        """A session is over: its ephemerals go, its owner hears of it if it is connected."""
        entry = self.zk.sessions.get(session)
        if entry is None:
            return
        changes = self.own_zk().end_session(session, how)
        index = self.index_of(entry[0])
        node = self.nodes[index]
        if node.agent and node.session == session and node.connected and not node.cut:
            self.lose_session(index)
        self.tell_changes(changes)

    def lose_session(self, index: int) -> None:
        """A client hears that its session is over, and goes on to open a new one."""
        node = self.own_node(index)
        session = SessionId(node.session)
        node.connected = False
        node.mirrors = ()
        self.post(index, ev.SessionEnded(at_ms=0, session=session))
        node.session = 0
        node.outbox += (Waiting(node.incarnation, CODES.number(fx.OpenSession(resume=SessionId(0))), self.now),)

    # -- checks --------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        rules.check_state(self)


def _covers(root: str, depth: str, change: Change) -> bool:
    if depth == "names" and change.data is not None and change.version > 0:
        return False
    return matches(change.path, root, depth)
