"""The one importer of Ceph's libraries, ``rados`` and ``rbd``: plain calls, each bounded; no library type leaves.

Debian's bindings fit one version of Python. Where ours is another, the same file runs under the system's own Python as
a child process and is spoken to in JSON lines (``FarLink``); hence it imports nothing but the standard library.
"""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import itertools
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/python3/dist-packages")
"""Where Debian's python3-rados and python3-rbd install."""
SYSTEM_PYTHON = Path("/usr/bin/python3")
LIBRARY_S_MAX = 10
"""After this the library itself gives up an operation, so that no thread is lost for ever; its defaults wait for ever.
Source: facts/ceph.md, trap 2."""
STUCK_MAX = 32
"""Calls that may wait in the library at once; with more of them out, new ones are refused at once."""


class LinkError(Exception):
    """A call went wrong.

    ``reason``: unanswered (outcome unknown), unavailable (nothing done), refused, missing (no such thing), failed.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def _load(name: str) -> Any:
    """Import a binding from our own packages, else from Debian's. Raises: ImportError."""
    if name in sys.modules:
        return sys.modules[name]
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = DEBIAN / f"{name}{suffix}"
        spec = importlib.util.spec_from_file_location(name, path) if path.exists() else None
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except ImportError:
            del sys.modules[name]
            raise
        return module
    raise ImportError(f"no {name} for Python {sys.version_info.major}.{sys.version_info.minor}")


class Bounded:
    """Runs calls that may block, each in a thread of its own, and waits for them no longer than asked."""

    def __init__(self, expected: tuple[type[Exception], ...]) -> None:
        self._expected = expected
        self._slots = threading.BoundedSemaphore(STUCK_MAX)

    def run(self, what: str, call: Callable[[], Any], ms_max: int) -> Any:
        """Return what ``call`` returns. Raises: what it is expected to raise; LinkError when time is up."""
        if not self._slots.acquire(blocking=False):
            raise LinkError("unavailable", f"{what}: {STUCK_MAX} calls wait for the storage already")
        done = threading.Event()
        result: list[Any] = []
        raised: list[Exception] = []

        def body() -> None:
            try:
                result.append(call())
            except self._expected as error:
                raised.append(error)
            finally:
                self._slots.release()
                done.set()

        threading.Thread(target=body, name=f"ceph {what}", daemon=True).start()
        if not done.wait(max(ms_max, 1) / 1_000):
            raise LinkError("unanswered", f"{what}: no answer within {ms_max} ms")
        if raised:
            raise raised[0]
        if not result:
            raise RuntimeError(f"{what}: see the thread's own traceback")
        return result[0]


class NearLink:
    """The libraries in this process. Any number of threads may call."""

    def __init__(self, conf: str, user: str, keyring: str) -> None:
        try:
            self._rados, self._rbd = _load("rados"), _load("rbd")
        except ImportError as error:
            raise LinkError("missing", str(error)) from error
        self._bounded = Bounded((self._rados.Error, self._rbd.Error, LinkError))
        self._settings = {
            "rados_mon_op_timeout": str(LIBRARY_S_MAX),
            "rados_osd_op_timeout": str(LIBRARY_S_MAX),
            "mon_client_ping_interval": "1",  # a monitor whose packets vanish is given up after 2 s instead of 30
            "mon_client_ping_timeout": "2",
            "mon_client_hunt_interval": "0.5",
            "admin_socket": "",
            "log_file": "",
        }
        if keyring:
            self._settings["keyring"] = keyring
        self._conf, self._user = conf, user
        self._cluster: Any = None
        self._pools: dict[str, Any] = {}
        self._lock = threading.Lock()

    def connect(self, ms_max: int) -> str:
        """Connect; return the address of this client instance as the storage sees it."""

        def connect() -> str:
            mount_s = str(math.ceil(ms_max / 1_000))
            settings = {**self._settings, "client_mount_timeout": mount_s}
            cluster = self._rados.Rados(conffile=self._conf, rados_id=self._user, conf=settings)
            cluster.connect()
            self._cluster = cluster
            return str(cluster.get_addrs())

        return str(self._call("connect", connect, ms_max + 500))

    def close(self) -> None:
        """Let the cluster go; waits a second at most."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            with contextlib.suppress(LinkError):
                self._call("close", cluster.shutdown, 1_000)

    def command(self, target: str, words: dict[str, Any], ms_max: int, text_in: str = "") -> Any:
        """Send a command (and ``text_in`` with it) to ``mon``, ``mgr`` or ``osd.N``; its JSON, or else what it says."""
        text, given = json.dumps({"format": "json", **words}), text_in.encode()
        cluster = self._connected()

        def send() -> tuple[int, bytes, str]:
            if target == "mgr":
                return cluster.mgr_command(text, given)  # type: ignore[no-any-return] # the library has no types
            if target.startswith("osd."):
                return cluster.osd_command(int(target[4:]), text, given)  # type: ignore[no-any-return] # as above
            return cluster.mon_command(text, given)  # type: ignore[no-any-return] # as above

        code, out, said = self._call(str(words.get("prefix")), send, ms_max)
        if code:
            self._fail(str(words.get("prefix")), abs(code), said)
        try:
            return json.loads(out) if out.strip() else said
        except ValueError:
            return out.decode(errors="replace").strip()

    def latest_map(self, ms_max: int) -> None:
        """Wait until this client has the newest map."""
        self._call("newest map", self._connected().wait_for_latest_osdmap, ms_max)

    def watchers(self, pool: str, image: str, ms_max: int) -> list[str]:
        """List the client instances that have an image open, "IP:0/NONCE" each, in order."""

        def look() -> list[str]:
            with self._rbd.Image(self._pool(pool), image, read_only=True) as opened:
                return sorted({str(watcher["addr"]) for watcher in opened.watchers_list()})

        return list(self._call(f"watchers of {image}", look, ms_max))

    def pools(self, pool: str, image: str, ms_max: int) -> list[int]:
        """List the ids of the pools that hold an image: its own and that of its data."""

        def look() -> list[int]:
            with self._rbd.Image(self._pool(pool), image, read_only=True) as opened:
                data = opened.data_pool_id()
            own = self._cluster.pool_lookup(pool)
            return sorted({int(own), int(data)} if data >= 0 else {int(own)})

        return list(self._call(f"pools of {image}", look, ms_max))

    def make_image(self, pool: str, image: str, size_bytes: int, ms_max: int) -> bool:
        """Make an image if there is none, with exclusive lock and nothing that slows opening; whether it was made."""
        features = self._rbd.RBD_FEATURE_LAYERING | self._rbd.RBD_FEATURE_EXCLUSIVE_LOCK

        def make() -> bool:
            try:
                self._rbd.RBD().create(self._pool(pool), image, size_bytes, old_format=False, features=features)
            except self._rbd.ImageExists:
                return False
            return True

        return bool(self._call(f"make {image}", make, ms_max))

    def write_all(self, pool_id: int, names: list[str], ms_max: int) -> None:
        """Write every object whole, all at once; done when the last is acknowledged."""

        def write() -> None:
            pool = self._connected().open_ioctx2(pool_id)
            try:
                for op in [pool.aio_write_full(name, b"moxie") for name in names]:
                    op.wait_for_complete()
                    code = op.get_return_value()
                    if code:
                        self._fail("write", abs(code), "a write was not taken")
            finally:
                pool.close()

        self._call("write", write, ms_max)

    def write_to(self, pool: str, name: str, ms_max: int) -> None:
        """Write one small object whole."""
        self._call(f"write of {name}", lambda: self._pool(pool).write_full(name, b"moxie"), ms_max)

    # -- below the calls --------------------------------------------------------------------------------------------

    def _connected(self) -> Any:
        if self._cluster is None:
            raise LinkError("unavailable", "not connected to the storage")
        return self._cluster

    def _pool(self, name: str) -> Any:
        with self._lock:
            if name not in self._pools:
                self._pools[name] = self._connected().open_ioctx(name)
            return self._pools[name]

    def _call(self, what: str, call: Callable[[], Any], ms_max: int) -> Any:
        try:
            return self._bounded.run(what, call, ms_max)
        except (self._rados.Error, self._rbd.Error) as error:
            self._fail(what, abs(getattr(error, "errno", 0) or 0), str(error))

    def _fail(self, what: str, code: int, said: str) -> None:
        """Translate an error number of the storage."""
        reasons = {1: "refused", 2: "missing", 13: "refused", 30: "refused", 108: "refused", 110: "unanswered"}
        raise LinkError(reasons.get(code, "failed"), f"{what}: {said or 'error'} ({code})")


CALLS = ("connect", "close", "command", "latest_map", "watchers", "pools", "make_image", "write_all", "write_to")


class FarLink:
    """The same calls, made by a child process that is the system's own Python."""

    def __init__(self, conf: str, user: str, keyring: str) -> None:
        argv = [str(SYSTEM_PYTHON), "-I", str(Path(__file__).resolve()), conf, user, keyring]
        try:
            self._child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise LinkError("missing", f"{SYSTEM_PYTHON}: {error.strerror}") from error
        self._numbers = itertools.count(1)
        self._answers: dict[int, Any] = {}
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._listen, name="ceph far", daemon=True).start()

    def connect(self, ms_max: int) -> str:
        """As ``NearLink.connect``; the child's start included."""
        return str(self._ask("connect", ms_max, ms_max))

    def close(self) -> None:
        """End the child."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        try:
            self._child.wait(2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        with self._changed:
            self._changed.wait_for(lambda: self._ended, 1)
        self._child.stdout.close()

    def command(self, target: str, words: dict[str, Any], ms_max: int, text_in: str = "") -> Any:
        """As ``NearLink.command``."""
        return self._ask("command", ms_max, target, words, ms_max, text_in)

    def latest_map(self, ms_max: int) -> None:
        self._ask("latest_map", ms_max, ms_max)

    def watchers(self, pool: str, image: str, ms_max: int) -> list[str]:
        """As ``NearLink.watchers``."""
        return list(self._ask("watchers", ms_max, pool, image, ms_max))

    def pools(self, pool: str, image: str, ms_max: int) -> list[int]:
        """As ``NearLink.pools``."""
        return list(self._ask("pools", ms_max, pool, image, ms_max))

    def make_image(self, pool: str, image: str, size_bytes: int, ms_max: int) -> bool:
        """As ``NearLink.make_image``."""
        return bool(self._ask("make_image", ms_max, pool, image, size_bytes, ms_max))

    def write_all(self, pool_id: int, names: list[str], ms_max: int) -> None:
        """As ``NearLink.write_all``."""
        self._ask("write_all", ms_max, pool_id, names, ms_max)

    def write_to(self, pool: str, name: str, ms_max: int) -> None:
        """As ``NearLink.write_to``."""
        self._ask("write_to", ms_max, pool, name, ms_max)

    def _ask(self, name: str, ms_max: int, *args: Any) -> Any:
        number = next(self._numbers)
        line = json.dumps([number, name, list(args)]) + "\n"
        assert self._child.stdin is not None
        with self._changed:
            try:
                self._child.stdin.write(line)
                self._child.stdin.flush()
            except (BrokenPipeError, ValueError) as error:
                raise LinkError("unavailable", "the process that speaks to the storage has ended") from error
            self._changed.wait_for(lambda: number in self._answers or self._ended, (ms_max + 1_000) / 1_000)
            if number not in self._answers:
                raise LinkError("unanswered", f"{name}: no answer within {ms_max} ms")
            answer, reason, detail = self._answers.pop(number)
        if reason:
            raise LinkError(reason, detail)
        return answer

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            number, *answer = json.loads(line)
            with self._changed:
                self._answers[number] = answer
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def open_link(conf: str, user: str, keyring: str) -> NearLink | FarLink:
    """Use the libraries here if they fit this Python, else through the system's. Raises: LinkError ``missing``."""
    try:
        return NearLink(conf, user, keyring)
    except LinkError:
        return FarLink(conf, user, keyring)


def serve(conf: str, user: str, keyring: str) -> None:
    """Answer the calls of a ``FarLink`` on standard input until it ends; each in a thread of its own."""
    lock = threading.Lock()

    def say(number: int, answer: Any, reason: str = "", detail: str = "") -> None:
        with lock:
            print(json.dumps([number, answer, reason, detail]), flush=True)

    def answer(link: NearLink, number: int, name: str, args: list[Any]) -> None:
        try:
            say(number, getattr(link, name)(*args))
        except LinkError as error:
            say(number, None, error.reason, error.detail)

    link: NearLink | None = None
    for line in sys.stdin:
        number, name, args = json.loads(line)
        try:
            link = link or NearLink(conf, user, keyring)
        except LinkError as error:
            say(number, None, error.reason, error.detail)
            continue
        if name in CALLS:
            threading.Thread(target=answer, args=(link, number, name, args), daemon=True).start()
    if link is not None:
        link.close()


if __name__ == "__main__":
    serve(*sys.argv[1:4])
