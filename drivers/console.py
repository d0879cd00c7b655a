"""What machines write on their serial consoles while they boot: serial over LAN, begun with the order to power on.

One ``ipmitool`` a machine in a process of its own, and one thread for all of them while there are any: nothing here
can hold a power call up, and a dead BMC costs a process that ends by itself. Source: IPMI 2.0, 15 (SOL).
"""

import os
import re
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress

from core.ids import NodeId
from drivers import log
from drivers.bmc import BmcFailure
from drivers.children import environment
from drivers.inventory import BmcTable
from drivers.networks import IPMI_PORT

PROGRAM = "ipmitool"
TAIL_BYTES_MAX = 8 << 10
RAW_BYTES_MAX = 64 << 10
"""Kept of what came: escape sequences take most of a firmware's output."""
READ_BYTES, PAUSE_S, READS_MAX = 16 << 10, 0.01, 8
"""So much is read at once, so long is waited between: a BMC that floods us is held back by its own connection."""
WATCHED_MAX = 64
AGAIN_MS = 2_000
"""A session that ended or could not begin is begun again after this long: many BMCs offer none to a dark machine."""
QUIET_MS = 300
"""Somebody who looks only now has seen what a BMC kept once nothing more comes for so long."""
LEAVE_MS = 1_000
SUITES = ("3", "17")
"""Cipher suites that are tried in turn. Asking for them first takes 10 s at some BMCs (measured with ipmi_sim)."""

_BMC = '-I lanplus -C "$1" -H "$2" -p "$3" -U "$4" -f "$5"'
_SCRIPT = f'"$0" {_BMC} -N 1 -R 2 sol deactivate >/dev/null 2>&1 </dev/null; exec stdbuf -oL "$0" {_BMC} sol activate'
"""A session of somebody who is gone goes on for a minute at the BMC, which has one only."""
_NOISE = ("tcgetattr", "Info: SOL payload already de-activated")
_GREETING = re.compile(rb"\[SOL Session operational\.[^\]]*\][ \t]*\r?\n?")
_PLACED = re.compile(r"\x1b\[[0-9;]*[HfEFd]")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # control sequences
    r"|\x1b[\]PX^_][^\x07\x1b]{0,512}(?:\x07|\x1b\\)?"  # strings: titles and the like
    r"|\x1b[ -/]*[0-~]"  # all others. Source: ECMA-48, 5
)


def readable(raw: bytes) -> str:
    """The last ``TAIL_BYTES_MAX`` of what a console showed, as plain text: no escape sequences, no control signs."""
    text = _GREETING.sub(b"", raw).decode("utf-8", "replace")
    text = _ESCAPES.sub("", _PLACED.sub("\n", text))
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    text = "".join(sign for sign in text if sign == "\n" or sign.isprintable())
    lines = [line.rstrip() for line in text.split("\n")]
    text = "\n".join(line for line in lines if line)
    return text.encode()[-TAIL_BYTES_MAX:].decode("utf-8", "ignore")


class _Watch:
    """One machine's console; ``until_ms`` on the node's clock."""

    def __init__(self, node: NodeId, table: BmcTable, until_ms: int) -> None:
        self.node = node
        self.table = table
        self.until_ms = until_ms
        self.raw = bytearray()
        self.said = b""
        self.heard_ms = -1
        self.met = False
        self.tries = 0
        self.again_ms = 0
        self.kill_ms = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.over = False


class Consoles:
    """The consoles of other machines. May be called from any thread; no method waits but ``tail``.

    ``watch_ms_max``: how long after its order a machine is watched at most.
    """

    def __init__(self, now_ms: Callable[[], int], watch_ms_max: int) -> None:
        self._now_ms = now_ms
        self._watch_ms_max = watch_ms_max
        self._changed = threading.Condition(threading.RLock())
        self._watches: dict[NodeId, _Watch] = {}
        self._leaving: list[_Watch] = []
        self._selector: selectors.BaseSelector | None = None
        self._closing = False

    def begin(self, node: NodeId, table: BmcTable) -> None:
        """Watch a machine's console from now on; what was seen before its order is forgotten."""
        if table.driver != "ipmi" or table.password_file is None:
            return
        until_ms = self._now_ms() + self._watch_ms_max
        with self._changed:
            watch = self._watches.get(node)
            if watch is not None and watch.table == table and watch.process is not None:
                watch.raw.clear()
                watch.until_ms = until_ms
                return
        self._begin(_Watch(node, table, until_ms))

    def end(self, node: NodeId) -> None:
        """Watch it no more, and forget what it wrote: it is up."""
        with self._changed:
            watch = self._watches.pop(node, None)
            if watch is not None:
                self._leaving.append(watch)

    def tail(self, node: NodeId, table: BmcTable, until_ms: int) -> str:
        """The end of what a machine wrote since its order ("": nothing); looks now if it was not watched.

        Raises: BmcFailure if it cannot be watched.
        """
        if table.driver != "ipmi":
            raise BmcFailure("failed", f"the console of {node} can only be read over IPMI")
        with self._changed:
            watch = self._watches.get(node)
        if watch is None or (watch.over and not watch.raw):
            watch = _Watch(node, table, until_ms)
            if not self._begin(watch):
                raise BmcFailure("unreachable", f"{WATCHED_MAX} consoles are watched already")
        if not watch.raw:
            self._await_quiet(watch, until_ms)
        with self._changed:
            raw, said, met = bytes(watch.raw), readable(bytes(watch.said))[:200], watch.met
        text = readable(raw)
        if not text and not met:
            why = said or "its BMC offers no serial over LAN within the time"
            raise BmcFailure("failed", f"the console of {node} cannot be read: {why}")
        return text

    def close(self) -> None:
        """End everything."""
        with self._changed:
            self._closing = True
            self._leaving += self._watches.values()
            self._watches.clear()
            self._changed.wait_for(lambda: self._selector is None, 2 * LEAVE_MS / 1_000)

    @property
    def watched(self) -> int:
        """How many processes run now."""
        with self._changed:
            return sum(watch.process is not None for watch in (*self._watches.values(), *self._leaving))

    def _begin(self, watch: _Watch) -> bool:
        with self._changed:
            old = self._watches.pop(watch.node, None)
            if old is not None:
                self._leaving.append(old)
            busy = sum(not one.over for one in self._watches.values())
            if self._closing or busy >= WATCHED_MAX:
                return False
            self._watches[watch.node] = watch
            if self._selector is None:
                self._selector = selectors.DefaultSelector()
                threading.Thread(target=self._run, args=(self._selector,), name="consoles", daemon=True).start()
        return True

    def _await_quiet(self, watch: _Watch, until_ms: int) -> None:
        with self._changed:
            while (left_ms := until_ms - self._now_ms()) > 0 and not watch.over:
                quiet_ms = self._now_ms() - watch.heard_ms if watch.heard_ms >= 0 else -1
                if quiet_ms >= QUIET_MS:
                    return
                self._changed.wait(min(left_ms, QUIET_MS) / 1_000)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self, selector: selectors.BaseSelector) -> None:
        with selector:
            while self._turn(selector):
                for key, _ in selector.select(0.1):
                    self._take(selector, key)
                threading.Event().wait(PAUSE_S)

    def _turn(self, selector: selectors.BaseSelector) -> bool:
        """Begin, end and bury processes; whether there is anything left to do."""
        now = self._now_ms()
        with self._changed:
            for watch in (*self._watches.values(), *self._leaving):
                if watch.process is not None and watch.process.poll() is not None:
                    self._bury(selector, watch, now)
                elif watch.process is not None and (now >= watch.until_ms or watch in self._leaving):
                    self._send_away(watch, now)
                elif watch.process is None and now >= watch.until_ms:
                    watch.over, watch.raw = True, bytearray(readable(bytes(watch.raw)).encode())
                elif watch.process is None and now >= watch.again_ms and watch not in self._leaving:
                    self._start(selector, watch)
            self._leaving = [watch for watch in self._leaving if watch.process is not None]
            if self._leaving or any(not watch.over for watch in self._watches.values()):
                return True
            self._selector = None
            self._changed.notify_all()
            return False

    def _start(self, selector: selectors.BaseSelector, watch: _Watch) -> None:
        table, suite = watch.table, SUITES[watch.tries % len(SUITES)]
        place = (table.address, str(table.port or IPMI_PORT), table.user, str(table.password_file))
        watch.tries += 1
        try:
            watch.process = subprocess.Popen(
                ["sh", "-c", _SCRIPT, PROGRAM, suite, *place],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                env=environment({"LC_ALL": "C"}),
            )
        except OSError as error:
            watch.over, watch.said = True, str(error).encode()
            log.event("console_not_watched", about=watch.node, error=str(error))
            return
        for pipe, which in ((watch.process.stdout, "out"), (watch.process.stderr, "error")):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ, (watch, which))

    def _take(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        watch, which = key.data
        try:
            data = os.read(key.fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        with self._changed:
            if not data:
                selector.unregister(key.fileobj)
            elif which == "error":
                lines = [line for line in data.splitlines() if line and not line.decode("latin-1").startswith(_NOISE)]
                watch.said = lines[-1][:500] if lines else watch.said
            else:
                watch.raw += data
                watch.met = True  # the first that is written is the greeting
                del watch.raw[:-RAW_BYTES_MAX]
                watch.heard_ms = self._now_ms()
            self._changed.notify_all()

    def _send_away(self, watch: _Watch, now: int) -> None:
        """End a session as ``ipmitool`` ends it by itself: at the end of its input; after a while by force."""
        process = watch.process
        assert process is not None
        assert process.stdin is not None
        if not watch.kill_ms:
            watch.kill_ms = now + LEAVE_MS
            process.stdin.close()
        elif now >= watch.kill_ms:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _bury(self, selector: selectors.BaseSelector, watch: _Watch, now: int) -> None:
        process = watch.process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        for fd, key in tuple(selector.get_map().items()):
            if key.data[0] is watch:
                for _ in range(READS_MAX):  # what it wrote before it ended
                    if fd not in selector.get_map():
                        break
                    self._take(selector, key)
                if fd in selector.get_map():
                    selector.unregister(fd)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        watch.process, watch.kill_ms = None, 0
        watch.again_ms = now + AGAIN_MS
        self._changed.notify_all()
