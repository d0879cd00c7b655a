"""The committed state of the ensemble: znodes, transactions, ephemerals, and listings that many clients share.

A znode is the ``Change`` that made it what it is, so a listing is a tuple of existing objects. Parents are implicit.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from core import effects as fx
from core.effects import Write
from core.ids import NO_SESSION, SessionId
from core.records import AnyRecord, Change


class Logged(msgspec.Struct, frozen=True):
    """One changed path of one transaction: what it is now, what it was (None: it did not exist)."""

    change: Change
    was: Change | None

    @property
    def structural(self) -> bool:
        """Whether the path was created or deleted, not just changed."""
        return self.was is None or self.change.data is None


class Applied(msgspec.Struct, frozen=True):
    """A transaction that went through."""

    zxid: int
    versions: tuple[int, ...]
    logged: tuple[Logged, ...]


class Rejected(msgspec.Struct, frozen=True):
    """A transaction that wrote nothing, because of write ``index``."""

    index: int
    detail: str


@lru_cache(maxsize=1 << 14)
def ancestry(path: str) -> tuple[str, ...]:
    """Return the path itself and every path above it, longest first."""
    found = [path]
    cut = path.rfind("/")
    while cut > 0:
        path = path[:cut]
        found.append(path)
        cut = path.rfind("/")
    return tuple(found)


def parent(path: str) -> str:
    """Return the path above."""
    return path[: path.rfind("/")]


class Tree:
    """All znodes. ``zxid`` counts transactions; a rejected one takes none."""

    def __init__(self) -> None:
        self.zxid = 0
        self.nodes: dict[str, Change] = {}
        self._owned: dict[SessionId, dict[str, None]] = {}
        self._parts: dict[str, dict[tuple[str, str], dict[str, Change]]] = {}
        self._tuples: dict[tuple[str, str], tuple[Change, ...]] = {}

    def transact(self, writes: tuple[Write, ...], session: SessionId) -> Applied | Rejected:
        """Apply all writes or none; a later write sees the earlier ones."""
        draft: dict[str, tuple[AnyRecord | None, int, SessionId]] = {}
        versions: list[int] = []
        for index, write in enumerate(writes):
            problem = self._draft(write, session, draft, versions)
            if problem:
                return Rejected(index, problem)
        if not draft:
            return Applied(self.zxid, tuple(versions), ())
        return Applied(self.zxid + 1, tuple(versions), self._apply(draft))

    def end_session(self, session: SessionId) -> tuple[Logged, ...]:
        """Delete everything that the session owns, in one transaction."""
        owned = self._owned.get(session)
        if not owned:
            return ()
        return self._apply(dict.fromkeys(owned, (None, 0, NO_SESSION)))

    def put(self, path: str, record: AnyRecord, version: int) -> tuple[Logged, ...]:
        """Set a path unconditionally, in one transaction."""
        return self._apply({path: (record, version, NO_SESSION)})

    def load(self, records: Mapping[str, AnyRecord]) -> None:
        """Create paths in one transaction, without telling anybody."""
        self._apply({path: (record, 0, NO_SESSION) for path, record in records.items()})

    def read(self, path: str) -> Change:
        """Return a path's state; ``data`` is None if it does not exist."""
        found = self.nodes.get(path)
        return found if found is not None else Change(path=path, zxid=self.zxid)

    def listing(self, root: str, depth: str) -> tuple[Change, ...]:
        """Return the existing paths of a mirror; the same tuple until one of them changes."""
        key = (root, depth)
        found = self._tuples.get(key)
        if found is None:
            part = self._parts.get(root, {}).get(key)
            if part is None:
                part = {path: node for path, node in self.nodes.items() if within(path, root, depth)}
                self._parts.setdefault(root, {})[key] = part
            found = self._tuples[key] = tuple(part.values())
        return found

    def _draft(
        self,
        write: Write,
        session: SessionId,
        draft: dict[str, tuple[AnyRecord | None, int, SessionId]],
        versions: list[int],
    ) -> str:
        path = write.path
        data, version, owner = draft.get(path) or self._state(path)
        match write:
            case fx.Create():
                if data is not None:
                    return f"{path} exists"
                draft[path] = (write.data, 0, session if write.ephemeral else NO_SESSION)
                versions.append(0)
                return ""
            case fx.Check() | fx.Put() | fx.Remove():
                if data is None:
                    return f"{path} does not exist"
                if write.version != version:
                    return f"{path} is at version {version}, not {write.version}"
        match write:
            case fx.Check():
                versions.append(version)
            case fx.Put():
                draft[path] = (write.data, version + 1, owner)
                versions.append(version + 1)
            case fx.Remove():
                draft[path] = (None, 0, NO_SESSION)
                versions.append(0)
        return ""

    def _state(self, path: str) -> tuple[AnyRecord | None, int, SessionId]:
        node = self.nodes.get(path)
        return (None, 0, NO_SESSION) if node is None else (node.data, node.version, node.owner)

    def _apply(self, draft: Mapping[str, tuple[AnyRecord | None, int, SessionId]]) -> tuple[Logged, ...]:
        self.zxid += 1
        logged: list[Logged] = []
        for path, (data, version, owner) in draft.items():
            was = self.nodes.get(path)
            if was is None and data is None:
                continue
            change = Change(path=path, zxid=self.zxid, version=version, data=data, owner=owner)
            self._store(path, change, was)
            logged.append(Logged(change, was))
        return tuple(logged)

    def _store(self, path: str, change: Change, was: Change | None) -> None:
        if was is not None and was.owner:
            self._owned[was.owner].pop(path, None)
            if not self._owned[was.owner]:
                del self._owned[was.owner]
        if change.data is None:
            del self.nodes[path]
        else:
            self.nodes[path] = change
            if change.owner:
                self._owned.setdefault(change.owner, {})[path] = None
        for root in ancestry(path):
            for key, part in self._parts.get(root, {}).items():
                if within(path, root, key[1]):
                    self._tuples.pop(key, None)
                    if change.data is None:
                        part.pop(path, None)
                    else:
                        part[path] = change


def within(path: str, root: str, depth: str) -> bool:
    """Whether a mirror of ``root`` at ``depth`` holds ``path``."""
    if depth == "one":
        return path == root
    if depth == "names":
        return parent(path) == root
    return path == root or path.startswith(root + "/")
