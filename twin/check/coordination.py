"""A small ZooKeeper: znodes with versions, ephemerals, sessions; a commit is atomic."""

from collections.abc import Hashable

import msgspec

from core import effects as fx
from core.ids import NO_SESSION, SessionId
from core.records import LEASES, TERMS, AnyRecord, Change, Instance, TermRecord

SESSIONS_MAX = 1_000
"""Sessions of one node in one world."""


class Znode(msgspec.Struct, frozen=True):
    data: AnyRecord
    version: int
    owner: SessionId


class Rejected(msgspec.Struct, frozen=True):
    """A commit that wrote nothing; ``index`` of the write that failed, -1 for a dead session."""

    index: int


class Accepted(msgspec.Struct, frozen=True):
    versions: tuple[int, ...]
    changes: tuple[Change, ...]


class Coordination:
    """The whole ensemble as one atomic store. Mutable; ``copy`` before changing one that is shared.

    A zxid here counts the changes of one path: the core compares zxids of the same path only, so that the order of
    changes to different paths need not make states differ.
    """

    __slots__ = ("counts", "ended", "number", "opened", "recorded", "sessions", "tree")

    def __init__(self) -> None:
        self.tree: dict[str, Znode] = {}
        self.sessions: dict[int, tuple[str, int]] = {}  # session -> (node, expires at)
        self.counts: dict[str, int] = {}  # path -> how often it changed
        self.opened: dict[str, int] = {}  # node -> sessions it ever had
        self.recorded: tuple[Instance, ...] = ()  # every identity that was ever recorded
        self.ended: dict[str, str] = {}  # lease path -> how the last lease there ended: expired, closed, removed
        self.number = -1

    def copy(self) -> "Coordination":
        """Return an independent store in the same state."""
        other = Coordination.__new__(Coordination)
        other.tree = dict(self.tree)
        other.sessions = dict(self.sessions)
        other.counts = dict(self.counts)
        other.opened = dict(self.opened)
        other.recorded = self.recorded
        other.ended = dict(self.ended)
        other.number = -1
        return other

    def key(self) -> Hashable:
        """Equal for equal states."""
        return (
            tuple(sorted((path, node.version, node.owner, node.data) for path, node in self.tree.items())),
            tuple(sorted(self.sessions.items())),
            tuple(sorted(self.counts.items())),
            tuple(sorted(self.opened.items())),
            self.recorded,
            tuple(sorted(self.ended.items())),
        )

    def changed(self, path: str) -> int:
        """Count a change of a path and return its number, which stands for the zxid."""
        number = self.counts[path] = self.counts.get(path, 0) + 1
        return number

    def open_session(self, node: str, index: int, until_ms: int) -> SessionId:
        """Open a session of a node; its number names the node, so that it does not matter who was first."""
        count = self.opened[node] = self.opened.get(node, 0) + 1
        session = SessionId((index + 1) * SESSIONS_MAX + count)
        self.sessions[session] = (node, until_ms)
        return session

    def commit(self, session: SessionId, writes: tuple[fx.Write, ...]) -> Accepted | Rejected:
        """Apply all writes or none."""
        if session not in self.sessions:
            return Rejected(-1)
        tree = dict(self.tree)
        versions: list[int] = []
        changed: dict[str, None] = {}
        for index, write in enumerate(writes):
            node = tree.get(write.path)
            match write:
                case fx.Create():
                    if node is not None:
                        return Rejected(index)
                    tree[write.path] = Znode(write.data, 0, session if write.ephemeral else NO_SESSION)
                    versions.append(0)
                case fx.Check() | fx.Put() | fx.Remove():
                    if node is None or node.version != write.version:
                        return Rejected(index)
                    if isinstance(write, fx.Check):
                        versions.append(node.version)
                        continue
                    if isinstance(write, fx.Put):
                        tree[write.path] = Znode(write.data, node.version + 1, node.owner)
                        versions.append(node.version + 1)
                    else:
                        del tree[write.path]
                        versions.append(0)
            changed[write.path] = None
        if changed:
            self._remember(tree, tuple(changed))
            self.tree = tree
            for path in changed:
                self.changed(path)
        return Accepted(tuple(versions), tuple(self.state(path) for path in changed))

    def _remember(self, tree: dict[str, Znode], changed: tuple[str, ...]) -> None:
        for path in changed:
            if path.startswith(LEASES + "/") and path not in tree:
                self.ended[path] = "removed"
            if path.startswith(TERMS + "/") and path in tree:
                term = tree[path].data
                assert isinstance(term, TermRecord)
                fresh = (instance for instance in term.identities if instance not in self.recorded)
                self.recorded = tuple(sorted((*self.recorded, *fresh)))

    def end_session(self, session: int, how: str) -> tuple[Change, ...]:
        """Remove a session and its ephemerals; what changed. ``how``: expired or closed."""
        if self.sessions.pop(session, None) is None:
            return ()
        gone = [path for path, node in self.tree.items() if node.owner == session]
        for path in gone:
            del self.tree[path]
            self.changed(path)
            if path.startswith(LEASES + "/"):
                self.ended[path] = how
        return tuple(self.state(path) for path in gone)

    def state(self, path: str) -> Change:
        """What a read of this path now answers."""
        node = self.tree.get(path)
        if node is None:
            return Change(path=path, zxid=self.counts.get(path, 0))
        return Change(path=path, zxid=self.counts.get(path, 0), version=node.version, data=node.data, owner=node.owner)

    def below(self, root: str, depth: str) -> tuple[Change, ...]:
        """What a new mirror of ``root`` reports."""
        if depth == "one":
            return (self.state(root),) if root in self.tree else ()
        found = [path for path in self.tree if matches(path, root, depth)]
        return tuple(self.state(path) for path in sorted(found))


def matches(path: str, root: str, depth: str) -> bool:
    """Whether a mirror of ``root`` covers ``path``."""
    if depth == "one":
        return path == root
    if depth == "tree":
        return path == root or path.startswith(root + "/")
    return path.startswith(root + "/") and "/" not in path[len(root) + 1 :]
