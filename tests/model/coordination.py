"""A small ZooKeeper: znodes with versions, ephemerals, sessions; a commit is atomic."""

import msgspec

from core import effects as fx
from core.records import LEASES, TERMS, AnyRecord, Change, Instance, TermRecord


class Znode(msgspec.Struct, frozen=True):
    data: AnyRecord
    version: int
    owner: int
    zxid: int


class Rejected(msgspec.Struct, frozen=True):
    """A commit that wrote nothing; ``index`` of the write that failed, -1 for a dead session."""

    index: int


class Accepted(msgspec.Struct, frozen=True):
    versions: tuple[int, ...]
    changes: tuple[Change, ...]


class Coordination:
    """The whole ensemble as one atomic store. Mutable; ``copy`` before changing one that is shared."""

    __slots__ = ("_key", "ended", "last_session", "recorded", "sessions", "tree", "zxid")

    def __init__(self) -> None:
        self.tree: dict[str, Znode] = {}
        self.sessions: dict[int, tuple[str, int]] = {}  # session -> (node, expires at)
        self.zxid = 0
        self.last_session = 0
        self.recorded: tuple[Instance, ...] = ()  # every identity that was ever recorded
        self.ended: dict[str, str] = {}  # lease path -> how the last lease there ended: expired, closed, removed
        self._key: object = None

    def copy(self) -> "Coordination":
        other = Coordination.__new__(Coordination)
        other.tree = dict(self.tree)
        other.sessions = dict(self.sessions)
        other.zxid = self.zxid
        other.last_session = self.last_session
        other.recorded = self.recorded
        other.ended = dict(self.ended)
        other._key = None
        return other

    def key(self) -> object:
        if self._key is None:
            self._key = (
                tuple(sorted((path, node.version, node.owner, node.data) for path, node in self.tree.items())),
                tuple(sorted(self.sessions.items())),
                self.zxid,
                self.recorded,
                tuple(sorted(self.ended.items())),
            )
        return self._key

    def commit(self, session: int, writes: tuple[fx.Write, ...]) -> Accepted | Rejected:
        """Apply all writes or none."""
        if session not in self.sessions:
            return Rejected(-1)
        tree = dict(self.tree)
        zxid = self.zxid + 1
        versions: list[int] = []
        changed: dict[str, None] = {}
        for index, write in enumerate(writes):
            node = tree.get(write.path)
            match write:
                case fx.Create():
                    if node is not None:
                        return Rejected(index)
                    tree[write.path] = Znode(write.data, 0, session if write.ephemeral else 0, zxid)
                    versions.append(0)
                case fx.Check() | fx.Put() | fx.Remove():
                    if node is None or node.version != write.version:
                        return Rejected(index)
                    if isinstance(write, fx.Check):
                        versions.append(node.version)
                        continue
                    if isinstance(write, fx.Put):
                        tree[write.path] = Znode(write.data, node.version + 1, node.owner, zxid)
                        versions.append(node.version + 1)
                    else:
                        del tree[write.path]
                        versions.append(0)
            changed[write.path] = None
        if changed:
            self._remember(tree, tuple(changed))
            self.zxid = zxid
            self.tree = tree
        return Accepted(tuple(versions), tuple(self.state(path) for path in changed))

    def _remember(self, tree: dict[str, Znode], changed: tuple[str, ...]) -> None:
        for path in changed:
            if path.startswith(LEASES + "/") and path not in tree:
                self.ended[path] = "removed"
            if path.startswith(TERMS + "/") and path in tree:
                term = tree[path].data
                assert isinstance(term, TermRecord)
                fresh = tuple(instance for instance in term.identities if instance not in self.recorded)
                self.recorded += fresh

    def end_session(self, session: int, how: str) -> tuple[Change, ...]:
        """Remove a session and its ephemerals; what changed. ``how``: expired or closed."""
        if self.sessions.pop(session, None) is None:
            return ()
        gone = [path for path, node in self.tree.items() if node.owner == session]
        self.zxid += 1
        for path in gone:
            del self.tree[path]
            if path.startswith(LEASES + "/"):
                self.ended[path] = how
        return tuple(self.state(path) for path in gone)

    def state(self, path: str) -> Change:
        """What a read of this path now answers."""
        node = self.tree.get(path)
        if node is None:
            return Change(path=path, zxid=self.zxid)
        return Change(path=path, zxid=node.zxid, version=node.version, data=node.data, owner=node.owner)

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
