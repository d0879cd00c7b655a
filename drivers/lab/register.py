"""A tiny service for the lab, run as a file of its own so that it starts within milliseconds.

    register.py register NODE EPOCH PORT FOLDER     a register and its history, in SQLite on the service's volume
    register.py echo NODE EPOCH PORT                nothing to remember: it only says who it is

Lines over TCP: ``write ID`` and ``read`` are answered ``ok VALUE NODE EPOCH``, ``rows AFTER`` with one line
``ID NODE EPOCH`` for each write whose id is greater than AFTER, in the order they took effect, and ``end``. A write is
answered once it is durable: SQLite's write-ahead log with ``synchronous=FULL``. A process that cannot write its
volume any more ends; a write it was asked for then stays unanswered, for nobody can know whether it happened.
While the file ``$SICK`` or ``$SICK.NODE`` exists, a service that is started listens to nobody: it never gets healthy.
"""

import _thread
import os
import socket
import sys

LINE_BYTES_MAX = 200
BACKLOG = 128
SICK_S = 0.1


class Echo:
    """Remembers nothing."""

    def write(self, number: int) -> int:
        return number

    def read(self) -> int:
        """The value of a register that was never written."""
        return 0

    def rows(self, _after: int) -> list[tuple[int, str, int]]:
        return []


class Register:
    """The last number written and all before it. Reads do not wait for a write that the storage holds up."""

    def __init__(self, folder: str, node: str, epoch: int) -> None:
        import sqlite3  # only where it is needed: every copy of a service without volume starts faster

        self._writing, self._reading = _thread.allocate_lock(), _thread.allocate_lock()
        self._node, self._epoch = node, epoch
        path = os.path.join(folder, "register.db")  # noqa: PTH118 - pathlib takes longer to import than this file to run
        self._writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._writer.execute("PRAGMA synchronous=FULL")
        self._writer.execute(
            "CREATE TABLE IF NOT EXISTS history"
            " (at INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER UNIQUE, node TEXT, epoch INTEGER)"
        )
        self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        self.read()

    def write(self, number: int) -> int:
        """Make ``number`` the value; durable when this returns."""
        values = (number, self._node, self._epoch)
        with self._writing:
            self._writer.execute("INSERT INTO history (number, node, epoch) VALUES (?, ?, ?)", values)
        return number

    def read(self) -> int:
        """The value; 0 if nobody ever wrote."""
        with self._reading:
            row = self._reader.execute("SELECT number FROM history ORDER BY at DESC LIMIT 1").fetchone()
        return int(row[0]) if row else 0

    def rows(self, after: int) -> list[tuple[int, str, int]]:
        """All writes whose number is greater than ``after``, in the order in which they took effect."""
        with self._reading:
            query = "SELECT number, node, epoch FROM history WHERE number > ? ORDER BY at"
            return list(self._reader.execute(query, (after,)))


def serve(store: "Echo | Register", node: str, epoch: int, port: int) -> None:
    """Answer whoever connects, for ever."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", port))
    server.listen(BACKLOG)
    while True:
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _thread.start_new_thread(_talk, (peer, store, node, epoch))


def _talk(peer: socket.socket, store: "Echo | Register", node: str, epoch: int) -> None:
    """Answer one connection; any trouble with the store ends the process."""
    try:
        with peer, peer.makefile("rb") as lines:
            while line := lines.readline(LINE_BYTES_MAX):
                peer.sendall(_answer(line.split(), store, node, epoch))
    except (OSError, ValueError):
        return  # the peer went away, or does not speak our language
    except BaseException as error:  # noqa: BLE001 - a thread must not die alone: sqlite's errors mean a lost volume
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _answer(words: list[bytes], store: "Echo | Register", node: str, epoch: int) -> bytes:
    match words:
        case [b"write", number]:
            return b"ok %d %s %d\n" % (store.write(int(number)), node.encode(), epoch)
        case [b"read"]:
            return b"ok %d %s %d\n" % (store.read(), node.encode(), epoch)
        case [b"rows", after]:
            rows = [b"%d %s %d\n" % (row[0], row[1].encode(), row[2]) for row in store.rows(int(after))]
            return b"".join(rows) + b"end\n"
        case _:
            return b"what?\n"


def main(argv: list[str]) -> None:
    """Run the service until it is killed."""
    kind, node, epoch, port = argv[1], argv[2], int(argv[3]), int(argv[4])
    sick = os.environ.get("SICK", "")
    while sick and (os.path.exists(sick) or os.path.exists(f"{sick}.{node}")):  # noqa: PTH110 - as above
        import time  # needed by nobody else

        time.sleep(SICK_S)
    serve(Register(argv[5], node, epoch) if kind == "register" else Echo(), node, epoch, port)


if __name__ == "__main__":
    main(sys.argv)
