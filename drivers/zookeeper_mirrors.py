"""Mirrors of paths, kept by watches: nothing is lost and nothing told twice, through disconnections too.

A watch says only that a path changed, so each is read back; what is read is told if it is newer than what was told
before. When a mirror begins, and after every reconnect, the watch is set first and then everything is read, while what
changes meanwhile waits. No library is used here: ``Source`` is the connection.
"""

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

import msgspec

from core.ids import SessionId
from core.records import Change

CREATED, DELETED, CHANGED = 1, 2, 3
"""Kinds of watch events. Source: ``org.apache.zookeeper.Watcher.Event.EventType``."""

Depth = Literal["tree", "names", "one"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A path as a server showed it. ``data`` None: it does not exist as of ``zxid``, else ``zxid`` last changed it."""

    zxid: int
    data: bytes | None = None
    version: int = 0
    owner: SessionId = SessionId(0)
    children: int = 0


class Source(Protocol):
    """A connection. Requests are answered in order; with None (or False) if it broke or the server refused."""

    def get(self, path: str, then: Callable[[Seen | None], None]) -> None:
        """Read a path."""
        ...

    def children(self, path: str, then: Callable[[tuple[str, ...] | None], None]) -> None:
        """Read the names below a path; none if it does not exist."""
        ...

    def watch(self, path: str, recursive: bool, then: Callable[[bool], None]) -> None:
        """Send an event for every change of a path (and of everything below it) from now on."""
        ...

    def unwatch(self, path: str) -> None:
        """Send no more events for a path."""
        ...

    def soon(self, act: Callable[[], None]) -> None:
        """Do something after what has arrived already."""
        ...


Decode = Callable[[str, Seen], Change | None]
Tell = Callable[[tuple[Change, ...], tuple[str, ...]], None]
"""Takes changes, and the roots that were read anew: empty for deltas."""


class Mirrors:
    """All mirrors of one client. ``decode`` makes a change of what was read: None if it holds no record."""

    def __init__(self, source: Source, decode: Decode, tell: Tell, broken: Callable[[], None]) -> None:
        self._source = source
        self._decode = decode
        self._tell = tell
        self._broken = broken
        self._depths: dict[str, Depth] = {}
        self._told: dict[str, int] = {}
        self._unread: dict[str, None] = {}
        self._dirty: dict[str, None] = {}
        self._connected = False
        self._busy = False
        self._life = 0

    def mirror(self, path: str, depth: Depth) -> None:
        """Keep one more path mirrored; one that is already is read again."""
        self._depths[path] = depth
        self._unread[path] = None
        self._go_on()

    def unmirror(self, path: str) -> None:
        """Mirror a path no more."""
        if self._depths.pop(path, None) is None:
            return
        self._unread.pop(path, None)
        if self._connected:
            self._source.unwatch(path)
        for known in [known for known in self._told if not self._is_wanted(known)]:
            del self._told[known]

    def connected(self) -> None:
        """Read every mirror anew: a connection was made."""
        self.disconnected()
        self._connected = True
        self._unread = dict.fromkeys(self._depths)
        self._go_on()

    def disconnected(self) -> None:
        """Forget what was under way: watches end with their connection, and nobody answers."""
        self._life += 1
        self._connected = self._busy = False
        self._dirty.clear()

    def clear(self) -> None:
        """End all mirrors: the session is over."""
        self.disconnected()
        self._depths.clear()
        self._told.clear()
        self._unread.clear()

    def on_event(self, kind: int, path: str) -> None:
        """A watch fired."""
        if self._connected and self._is_wanted(path, kind):
            self._dirty.pop(path, None)
            self._dirty[path] = None
            self._go_on()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _is_wanted(self, path: str, kind: int = 0) -> bool:
        if path in self._depths and self._depths[path] != "names":
            return True
        above = path.rpartition("/")[0]
        if self._depths.get(above) == "names" and kind != CHANGED:
            return True
        while above:
            if self._depths.get(above) == "tree":
                return True
            above = above.rpartition("/")[0]
        return False

    def _go_on(self) -> None:
        """Begin to read what there is to read, once all that has arrived is seen: a burst is read as one."""
        if self._connected and not self._busy and (self._unread or self._dirty):
            self._busy = True
            life = self._life
            self._source.soon(lambda: self._begin() if life == self._life else None)

    def _begin(self) -> None:
        if self._unread:
            roots, self._unread = tuple(self._unread), {}
            _Listing(self._source, {root: self._depths[root] for root in roots}, self._alive(self._listed))
        else:
            paths, self._dirty = tuple(self._dirty), {}
            _Batch(self._source, paths, self._alive(self._reread))

    def _alive(self, then: Callable[[dict[str, Seen], tuple[str, ...]], None]) -> "_Then":
        """Take an answer only in the connection that was asked; an unanswered question means that it is no good."""
        life = self._life

        def take(found: dict[str, Seen] | None, asked: tuple[str, ...]) -> None:
            if life != self._life:
                return
            if found is None:
                self._broken()
                return
            then(found, asked)
            self._busy = False
            self._go_on()

        return take

    def _listed(self, found: dict[str, Seen], roots: tuple[str, ...]) -> None:
        roots = tuple(root for root in roots if root in self._depths)
        for path in [path for path in self._told if any(_holds(root, self._depths[root], path) for root in roots)]:
            del self._told[path]
        changes = []
        for path in sorted(found):
            change = self._decode(path, found[path]) if found[path].data is not None else None
            if change is not None and self._is_wanted(path):
                self._told[path] = change.zxid
                changes.append(change)
        if roots:
            self._tell(tuple(changes), roots)

    def _reread(self, found: dict[str, Seen], paths: tuple[str, ...]) -> None:
        changes = [change for path in paths if (change := self._news(path, found[path])) is not None]
        if changes:
            self._tell(tuple(changes), ())

    def _news(self, path: str, seen: Seen) -> Change | None:
        """What is to be told of a path that was read back; None if it was told before, or is mirrored no more."""
        if not self._is_wanted(path):
            return None
        before = self._told.get(path)
        if seen.data is None:
            if before is None:
                return None
            del self._told[path]
            return Change(path=path, zxid=max(seen.zxid, before + 1))
        change = self._decode(path, seen)
        if change is None or (before is not None and change.zxid <= before):
            return None
        self._told[path] = change.zxid
        return change


def _holds(root: str, depth: Depth, path: str) -> bool:
    """Whether a mirror of ``root`` holds ``path``."""
    match depth:
        case "one":
            return path == root
        case "names":
            return path.rpartition("/")[0] == root
        case "tree":
            return path == root or path.startswith(root + "/")


_Then = Callable[[dict[str, Seen] | None, tuple[str, ...]], None]


class _Batch:
    """Reads paths at once; ``then`` is called when all are there, or with None when one cannot be had."""

    def __init__(self, source: Source, paths: tuple[str, ...], then: _Then) -> None:
        self._found: dict[str, Seen] = {}
        self._left = len(paths)
        self._paths = paths
        self._then = then
        for path in paths:
            source.get(path, self._take(path))

    def _take(self, path: str) -> Callable[[Seen | None], None]:
        def take(seen: Seen | None) -> None:
            self._left -= 1
            if seen is not None:
                self._found[path] = seen
            if self._left == 0:
                whole = len(self._found) == len(self._paths)
                self._then(self._found if whole else None, self._paths)

        return take


class _Listing:
    """Sets watches and reads all that mirrors hold: level by level, each level at once."""

    def __init__(self, source: Source, roots: dict[str, Depth], then: _Then) -> None:
        self._source = source
        self._found: dict[str, Seen] = {}
        self._roots = tuple(roots)
        self._then = then
        self._left = 0
        self._ok = True
        for root, depth in roots.items():
            self._left += 1
            source.watch(root, depth != "one", self._watched)
        for root, depth in roots.items():
            if depth == "names":
                self._names(root, deep=False)
            else:
                self._get(root, deep=depth == "tree")

    def _watched(self, ok: bool) -> None:
        self._answered(ok)

    def _get(self, path: str, *, deep: bool) -> None:
        def take(seen: Seen | None) -> None:
            if seen is not None:
                self._found[path] = seen
                if deep and seen.children:
                    self._names(path, deep=True)
            self._answered(seen is not None)

        self._left += 1
        self._source.get(path, take)

    def _names(self, path: str, *, deep: bool) -> None:
        def take(names: Iterable[str] | None) -> None:
            for name in sorted(names or ()):
                self._get(f"{path}/{name}", deep=deep)
            self._answered(names is not None)

        self._left += 1
        self._source.children(path, take)

    def _answered(self, ok: bool) -> None:
        self._left -= 1
        self._ok = self._ok and ok
        if self._left == 0:
            self._then(self._found if self._ok else None, self._roots)
