"""Mirrors against a made-up server whose answers and events arrive late, in bursts, or never because of a break."""

import random
from collections import deque
from collections.abc import Callable

import pytest

from core.ids import DomainId, NodeId, RackId
from core.records import Change, Lifecycle, NodeRecord
from drivers.zookeeper_codec import decode, encode
from drivers.zookeeper_mirrors import CHANGED, CREATED, DELETED, Mirrors, Seen


def data(count: int) -> bytes:
    return encode(
        NodeRecord(
            node=NodeId("x"), rack=RackId("r"), power_domain=DomainId("p"), state=Lifecycle.JOINED, attempts=count
        )
    )


def change(path: str, seen: Seen) -> Change | None:
    read = decode(seen.data) if seen.data else None
    return Change(path=path, zxid=seen.zxid, version=seen.version, data=read.record) if read else None


class Server:
    """Paths with one client: requests wait in ``asked`` until served, answers and events in ``inbox`` until taken."""

    def __init__(self) -> None:
        self.nodes: dict[str, Seen] = {"/a": Seen(zxid=0, data=b"")}
        self.zxid = 0
        self.watches: dict[str, bool] = {}
        self.asked: deque[Callable[[], None]] = deque()
        self.inbox: deque[Callable[[], None]] = deque()
        self.on_event: Callable[[int, str], None]

    def write(self, path: str, content: bytes | None) -> None:
        self.zxid += 1
        before = self.nodes.pop(path, None)
        if content is not None:
            version = before.version + 1 if before is not None else 0
            self.nodes[path] = Seen(zxid=self.zxid, data=content, version=version)
            kind = CHANGED if before is not None else CREATED
        else:
            kind = DELETED
        if any(path == root or (deep and path.startswith(root + "/")) for root, deep in self.watches.items()):
            self.inbox.append(lambda: self.on_event(kind, path))

    def allows(self, path: str, content: bytes | None) -> bool:
        """Nothing is without its parent."""
        if content is None:
            return not any(other.startswith(path + "/") for other in self.nodes)
        return path.rpartition("/")[0] in ("", *self.nodes)

    def lose_connection(self) -> None:
        self.watches.clear()
        self.asked.clear()
        self.inbox.clear()

    # -- zookeeper_mirrors.Source --

    def get(self, path: str, then: Callable[[Seen | None], None]) -> None:
        def serve() -> None:
            found = self.nodes.get(path)
            below = sum(p.rpartition("/")[0] == path for p in self.nodes)
            seen = Seen(zxid=self.zxid)
            if found is not None:
                seen = Seen(zxid=found.zxid, data=found.data, version=found.version, children=below)
            self.inbox.append(lambda: then(seen))

        self.asked.append(serve)

    def children(self, path: str, then: Callable[[tuple[str, ...] | None], None]) -> None:
        def serve() -> None:
            names = tuple(p.rpartition("/")[2] for p in self.nodes if p.rpartition("/")[0] == path)
            self.inbox.append(lambda: then(names))

        self.asked.append(serve)

    def watch(self, path: str, recursive: bool, then: Callable[[bool], None]) -> None:
        def serve() -> None:
            self.watches[path] = recursive
            self.inbox.append(lambda: then(True))

        self.asked.append(serve)

    def unwatch(self, path: str) -> None:
        self.asked.append(lambda: self.watches.pop(path, None) and None)

    def soon(self, act: Callable[[], None]) -> None:
        self.inbox.append(act)

    def settle(self) -> None:
        while self.asked or self.inbox:
            if self.asked:
                self.asked.popleft()()
            if self.inbox:
                self.inbox.popleft()()


class Shown:
    """What was told, applied as a machine does it."""

    def __init__(self, server: Server) -> None:
        self.known: dict[str, Change] = {}
        self.last: dict[str, int] = {}
        self.told: list[Change] = []
        self.events: list[tuple[Change, ...]] = []
        self.resyncs: list[tuple[str, ...]] = []
        self.breaks = 0
        self.mirrors = Mirrors(server, change, self.take, self.broken)
        server.on_event = self.mirrors.on_event
        self.mirrors.connected()

    def broken(self) -> None:
        self.breaks += 1

    def take(self, changes: tuple[Change, ...], roots: tuple[str, ...]) -> None:
        self.events.append(changes)
        if roots:
            self.resyncs.append(roots)
            listed = {change.path for change in changes}
            below = tuple(f"{root}/" for root in roots)
            for path in [p for p in self.known if (p in roots or p.startswith(below)) and p not in listed]:
                del self.known[path]
        else:
            self.told.extend(changes)
            for told in changes:
                assert told.zxid > self.last.get(told.path, -1), "nothing is told twice, and never backwards"
        for told in changes:
            assert told.zxid >= self.last.get(told.path, -1)
            self.last[told.path] = told.zxid
            if told.data is None:
                self.known.pop(told.path, None)
            else:
                self.known[told.path] = told


@pytest.mark.parametrize("seed", range(60))
def test_whatever_breaks_when_the_mirror_ends_up_equal_and_no_path_goes_backwards(seed: int) -> None:
    chance = random.Random(seed)  # reproducible by its seed
    server = Server()
    shown = Shown(server)
    shown.mirrors.mirror("/a", "tree")
    paths = ["/a/1", "/a/2", "/a/3", "/a/3/x", "/b"]
    for step in range(400):
        dice = chance.random()
        if dice < 0.25:
            path = chance.choice(paths)
            content = None if path in server.nodes and chance.random() < 0.4 else data(step)
            if server.allows(path, content):
                server.write(path, content)
        elif dice < 0.6 and server.asked:
            server.asked.popleft()()
        elif dice < 0.97 and server.inbox:
            server.inbox.popleft()()
        elif dice >= 0.985:
            server.lose_connection()
            shown.mirrors.disconnected()
            shown.mirrors.connected()
    server.settle()
    wanted = {path: seen.version for path, seen in server.nodes.items() if path.startswith("/a/")}
    assert {path: change.version for path, change in shown.known.items()} == wanted
    assert shown.breaks == 0


def test_a_burst_is_told_as_one_and_in_its_order() -> None:
    server = Server()
    shown = Shown(server)
    shown.mirrors.mirror("/a", "tree")
    server.settle()
    before = len(shown.events)
    for path in ("/a/3", "/a/1", "/a/2"):
        server.write(path, data(1))
    server.settle()
    assert [[change.path for change in event] for event in shown.events[before:]] == [["/a/3", "/a/1", "/a/2"]]


def test_names_hear_of_creation_and_deletion_only() -> None:
    server = Server()
    server.write("/a/old", data(0))
    shown = Shown(server)
    shown.mirrors.mirror("/a", "names")
    server.settle()
    assert list(shown.known) == ["/a/old"]
    for path, content in (("/a/1", data(1)), ("/a/1", data(2)), ("/a/1/deep", data(3)), ("/a/old", None)):
        server.write(path, content)
        server.settle()
    assert [(change.path, change.data is None) for change in shown.told] == [("/a/1", False), ("/a/old", True)]


def test_a_path_of_two_mirrors_is_told_once_and_forgotten_when_nobody_wants_it() -> None:
    server = Server()
    shown = Shown(server)
    shown.mirrors.mirror("/a", "names")
    shown.mirrors.mirror("/a/1", "one")
    server.settle()
    server.write("/a/1", data(1))
    server.settle()
    server.write("/a/1", data(2))
    server.settle()
    assert len(shown.told) == 2
    shown.mirrors.unmirror("/a/1")
    server.settle()
    server.write("/a/1", data(3))
    server.settle()
    assert len(shown.told) == 2
    shown.mirrors.clear()
    server.write("/a/1", None)
    server.settle()
    assert len(shown.told) == 2


def test_a_mirror_of_nothing_still_says_that_it_looked() -> None:
    server = Server()
    shown = Shown(server)
    shown.mirrors.mirror("/power/n1", "one")
    server.settle()
    assert shown.resyncs == [("/power/n1",)]
    assert shown.known == {}


def test_a_question_that_the_server_does_not_answer_breaks_the_connection() -> None:
    class Silent(Server):
        def get(self, path: str, then: Callable[[Seen | None], None]) -> None:
            self.inbox.append(lambda: then(None))

    server = Silent()
    shown = Shown(server)
    shown.mirrors.mirror("/a", "tree")
    server.settle()
    assert shown.breaks == 1
    assert shown.resyncs == []
