"""Watch events of one server: one kernel event per broadcast, in order of zxid, coalesced per client."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from core.events import RecordsChanged
from core.records import Change
from twin.kernel import Handle, Kernel
from twin.world.zookeeper_tree import Logged, ancestry, parent


class Receiver(Protocol):
    """A connected client. It has seen everything up to ``floor`` (a zxid); ``mirrors`` maps paths to depths."""

    mirrors: dict[str, str]
    floor: int

    def deliver(self, event: RecordsChanged) -> None:
        """Take an event, which other receivers may share."""
        ...


Key = tuple[str, str]
"""A path and the depth at which it is mirrored."""
Bucket = dict[Receiver, None]
FEW = 16
"""Up to so many clients are told of urgent news alone; the others go on waiting for what is held."""


class Feed:
    """What the clients of one server are told. ``latency_ms(clients)`` draws the time from commit to delivery."""

    def __init__(self, kernel: Kernel, latency_ms: Callable[[int], int]) -> None:
        self._kernel = kernel
        self._latency_ms = latency_ms
        self._buckets: dict[Key, Bucket] = {}
        self._clients: dict[Receiver, dict[Key, None]] = {}
        self._pending: list[Logged] = []
        self._flush: Handle | None = None
        self._urgent: list[Logged] = []
        self._soon: Handle | None = None

    def attach(self, client: Receiver) -> None:
        """Add a client with its mirrors."""
        self._clients[client] = {}
        for path, depth in client.mirrors.items():
            self.watch(client, path, depth)

    def detach(self, client: Receiver) -> None:
        """Forget a client; what it was not told yet it must read again."""
        if client in self._clients:
            for path, depth in list(self._clients[client]):
                self.unwatch(client, path, depth)
            del self._clients[client]

    def watch(self, client: Receiver, path: str, depth: str) -> None:
        """Tell an attached client about one more path."""
        self._buckets.setdefault((path, depth), {})[client] = None
        self._clients[client][path, depth] = None

    def unwatch(self, client: Receiver, path: str, depth: str) -> None:
        """Tell a client no more about a path."""
        bucket = self._buckets.get((path, depth))
        if bucket is not None and client in bucket:
            del bucket[client], self._clients[client][path, depth]
            if not bucket:
                del self._buckets[path, depth]

    def offer(self, logged: tuple[Logged, ...], urgent: Sequence[Logged], hold_ms: int) -> None:
        """Take the changes of one transaction; those that are not ``urgent`` may wait ``hold_ms`` for more.

        Whoever is told of an urgent change is told of all that came before it.
        """
        if not self._clients or not logged:
            return
        self._pending.extend(logged)
        soon_ms = self._kernel.now + self._latency_ms(len(self._clients))
        if urgent and hold_ms:
            self._urgent.extend(urgent)
            if self._soon is None or self._soon.at_ms > soon_ms:
                _cancel(self._soon)
                self._soon = self._kernel.at(soon_ms, self._tell_soon)
        if self._flush is None or self._flush.at_ms > soon_ms + hold_ms:
            _cancel(self._flush)
            self._flush = self._kernel.at(soon_ms + hold_ms, self._broadcast)

    def _tell_soon(self) -> None:
        """Tell the few who wait for urgent changes; everybody, if they are many."""
        self._soon = None
        urgent, self._urgent = self._urgent, []
        clients = {client: None for entry in urgent for bucket in self._interested(entry) for client in bucket}
        if len(clients) > FEW:
            self._broadcast()
            return
        for client in clients:
            self.catch_up(client, self._pending[-1].change.zxid)

    def catch_up(self, client: Receiver, zxid: int) -> None:
        """Deliver now what is pending for one client, which is then up to date to ``zxid``."""
        watched, pending = self._clients[client], self._pending
        unseen = pending[bisect_right(pending, client.floor, key=_zxid) :] if watched else ()
        changes = [entry.change for entry in unseen if not watched.keys().isdisjoint(_keys(entry))]
        client.floor = zxid
        if changes:
            client.deliver(RecordsChanged(at_ms=self._kernel.now, changes=tuple(changes)))

    def _interested(self, entry: Logged) -> list[Bucket]:
        buckets = self._buckets
        return [buckets[key] for key in _keys(entry) if key in buckets]

    def _broadcast(self) -> None:
        _cancel(self._flush)
        _cancel(self._soon)
        self._flush = self._soon = None
        self._urgent.clear()
        batch, self._pending = self._pending, []
        interested = [(entry.change, self._interested(entry)) for entry in batch]
        hit = {id(bucket): bucket for _, buckets in interested for bucket in buckets}
        if len(hit) == 1:
            self._tell_all(list(next(iter(hit.values()))), [change for change, buckets in interested if buckets])
        elif hit:
            self._tell_each(interested)

    def _tell_all(self, clients: list[Receiver], changes: list[Change]) -> None:
        """All clients of one bucket share one event, but for those that have read a part already."""
        event = RecordsChanged(at_ms=self._kernel.now, changes=tuple(changes))
        first = changes[0].zxid
        for client in clients:
            if client.floor < first:
                self._tell(client, event)
            else:
                self._tell_rest(client, changes)

    def _tell_each(self, interested: list[tuple[Change, list[Bucket]]]) -> None:
        """Those in the same buckets share one event; who is in the bucket that is hit first is told first."""
        hit = {id(bucket): bucket for _, buckets in interested for bucket in buckets}
        found: dict[Receiver, tuple[int, ...]] = {}
        for number, bucket in hit.items():
            for client in bucket:
                found[client] = (*found.get(client, ()), number)
        news = [(change, [id(bucket) for bucket in buckets]) for change, buckets in interested]
        shared: dict[tuple[int, ...], tuple[list[Change], RecordsChanged]] = {}
        for client, numbers in found.items():
            if numbers not in shared:
                mirrored = set(numbers)
                mine = [change for change, hits in news if not mirrored.isdisjoint(hits)]
                shared[numbers] = mine, RecordsChanged(at_ms=self._kernel.now, changes=tuple(mine))
            mine, event = shared[numbers]
            if client.floor >= mine[0].zxid:
                self._tell_rest(client, mine)
            else:
                self._tell(client, event)

    def _tell_rest(self, client: Receiver, changes: list[Change]) -> None:
        rest = tuple(change for change in changes if change.zxid > client.floor)
        if rest:
            self._tell(client, RecordsChanged(at_ms=self._kernel.now, changes=rest))

    def _tell(self, client: Receiver, event: RecordsChanged) -> None:
        if client in self._clients:
            client.deliver(event)


def _zxid(entry: Logged) -> int:
    return entry.change.zxid


@lru_cache(maxsize=1 << 14)
def _keys_of(path: str, structural: bool) -> tuple[Key, ...]:
    """The mirrors that hold a path; one of names is told only of paths that come or go."""
    keys = (*((above, "tree") for above in ancestry(path)), (path, "one"))
    return (*keys, (parent(path), "names")) if structural else keys


def _keys(entry: Logged) -> tuple[Key, ...]:
    return _keys_of(entry.change.path, entry.structural)


def _cancel(handle: Handle | None) -> None:
    if handle is not None:
        handle.cancel()
