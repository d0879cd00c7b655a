"""The ground that a supervisor stands on: privileges, a lock, mounts of its own."""

import ctypes
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from core.errors import InputError

CLONE_NEWNS = 0x00020000
MS_REC, MS_SLAVE = 0x4000, 0x80000
"""Source: linux/sched.h and linux/mount.h."""
OOM_SCORE = "-900"
"""When memory runs out the supervisor is among the last to go: everything here dies with it."""

_libc = ctypes.CDLL(None, use_errno=True)


def needs_root() -> None:
    """Check that we may do what a supervisor does. Raises: InputError."""
    if os.geteuid() != 0:
        raise InputError(["rack supervisor: it mounts volumes and sets addresses; needed: run it as root"])


def only_one(run_dir: Path) -> int:
    """Take this node's lock; keep the descriptor open as long as it is needed. Raises: InputError."""
    path = run_dir / "supervisor.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode("ascii", "replace").strip()
        os.close(lock)
        raise InputError(
            [f"{path}: another supervisor of this node runs, process {pid}; needed: stop it first"]
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, b"%d\n" % os.getpid())
    return lock


def own_mounts() -> None:
    """Leave the machine's mount namespace: what is mounted here is seen by our children only, and goes with us.

    What the machine unmounts still goes here too (a slave, not private): else its disks would stay in use for ever.
    Must be called before the first thread is made. Raises: InputError.
    """
    if _libc.unshare(CLONE_NEWNS) != 0 or _libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise InputError([f"rack supervisor: mounts of its own: {reason}; needed: root with CAP_SYS_ADMIN"])


def survive() -> None:
    """Be spared when memory runs out; where that may not be set, it is not."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
