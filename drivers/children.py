"""Child processes of the supervisor: started so that they cannot outlive it, and heard of when they end."""

import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from drivers.loop import Loop

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Source: linux/prctl.h."""
MARK = "MOXIE_UNIT"
"""In the environment of everything that belongs to a service, so that what left its process group is found again."""

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl


class Born(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a child.

    ``env`` is all of its environment. ``log``: a file that takes what it prints (appended), or None: the supervisor's
    own standard error. ``group``: the ``cgroup.procs`` it enters before it runs. ``talk``: give it a pipe as input.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None
    log: Path | None = None
    group: Path | None = None
    talk: bool = False


class Child:
    """One process, leader of its own session and group, killed when the supervisor dies.

    ``ended`` is called once, in the loop, when it has ended and was reaped; what it started itself may run on.
    """

    def __init__(self, loop: Loop, born: Born, ended: Callable[[int], None]) -> None:
        """Start it. Raises: OSError if it cannot be started."""
        self._loop = loop
        self._ended = ended
        self._process = _popen(born)
        self.pid = self._process.pid
        self.alive = True
        self._handle = os.pidfd_open(self.pid)
        loop.watch(self._handle, self._reap)

    def send(self, number: int) -> None:
        """Send it a signal; nothing happens if it is gone."""
        if self.alive:
            signal.pidfd_send_signal(self._handle, number)

    def send_group(self, number: int) -> None:
        """Send a signal to all of its process group, also after its own end."""
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(self.pid, number)

    def say(self, line: bytes) -> bool:
        """Write a line to its input and close that; whether it could be written."""
        pipe = self._process.stdin
        if pipe is None or not self.alive:
            return False
        try:
            pipe.write(line)
            pipe.close()
        except OSError:
            return False
        return True

    def _reap(self) -> None:
        self._loop.unwatch(self._handle)
        os.close(self._handle)
        self.alive = False
        code = self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):  # what was not read is lost with the reader
                self._process.stdin.close()
        self._ended(code)


def environment(more: Mapping[str, str], mark: str = "") -> dict[str, str]:
    """Make a child's environment: nothing of ours but the language, and what it is given."""
    found = {"PATH": PATH, "HOME": "/root", "LANG": os.environ.get("LANG", "C.UTF-8")}
    found.update(more)
    if mark:
        found[MARK] = mark
    return found


def describe(code: int) -> str:
    """Say for a person how a process ended (``code`` as ``subprocess`` gives it)."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def adopt_orphans() -> None:
    """Become the parent of every orphan among our descendants, so that none escapes; needs no privilege."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(seen: set[int]) -> set[int]:
    """Reap adopted children that are dead and were so at the last look (``seen``); return those that are dead now.

    Only what nobody waited for in all that time is reaped: others of this process wait for children of their own.
    """
    dead = {pid for pid in _children() if _is_dead(pid)}
    for pid in sorted(dead & seen):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return dead - seen


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _is_dead(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "Z"
        )
    except OSError:
        return False


def _popen(born: Born) -> subprocess.Popen[bytes]:
    if not born.argv:
        raise FileNotFoundError(errno.ENOENT, "nothing to run")
    log = _open_log(born.log) if born.log is not None else None
    group = None
    try:
        if born.group is not None:
            group = os.open(born.group, os.O_WRONLY | os.O_CLOEXEC)
        parent = os.getpid()
        return subprocess.Popen(
            born.argv,
            env=dict(born.env),
            cwd=born.cwd,
            stdin=subprocess.PIPE if born.talk else subprocess.DEVNULL,
            stdout=log if log is not None else 2,
            stderr=log if log is not None else 2,
            start_new_session=True,
            bufsize=0,
            preexec_fn=lambda: prepare(parent, group),  # only system calls: safe beside other threads
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"the child could not be prepared: {error}") from error
    finally:
        if group is not None:
            os.close(group)
        if log is not None:
            log.close()


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("ab", buffering=0)


def prepare(parent: int, group: int | None = None) -> None:
    """In the child, before its program: hear all signals, die with the parent, enter the group.

    What is ignored stays ignored through exec, and a shell cannot even trap it then: a supervisor started in the
    background of a shell, or with nohup, would have services that no SIGQUIT, SIGINT or SIGHUP stops.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)
    if group is not None:
        os.write(group, b"0")
