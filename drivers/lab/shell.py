"""Running the system's own programs, here or in a network namespace of the lab; and who lives in which namespace."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from drivers.lab.layout import LabFailure

NETNS = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


def inside(netns: str, argv: Sequence[str]) -> tuple[str, ...]:
    """The command that runs ``argv`` in a network namespace, without copying any mounts."""
    return ("nsenter", f"--net={NETNS / netns}", *argv)


def call(argv: Sequence[str], text: str = "", seconds: float = 30.0, check: bool = True) -> str:
    """Run a program and give its output; ``text`` is its input.

    Raises: LabFailure if it fails (unless ``check`` is False), is missing, or takes longer than ``seconds``.
    """
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise LabFailure(f"{argv[0]}: no such program") from None
    except subprocess.TimeoutExpired:
        raise LabFailure(f"{' '.join(argv)}: no end after {seconds:g} s") from None
    if check and done.returncode:
        words = (done.stderr or done.stdout).strip().replace("\n", "; ")[:500]
        raise LabFailure(f"{' '.join(argv)[:200]}: {words or f'exit code {done.returncode}'}")
    return done.stdout


def batch(netns: str, lines: Iterable[str], check: bool = True) -> None:
    """Run lines of ``ip`` in a namespace, in one process. Raises: LabFailure."""
    force = () if check else ("-force",)
    call(inside(netns, ("ip", *force, "-batch", "-")), "\n".join(lines) + "\n", check=check)


def enter(netns: str) -> None:
    """Move this process (its calling thread, and all threads started later) into a network namespace.

    Raises: LabFailure if there is none of that name.
    """
    path = NETNS / netns
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabFailure(f"{path}: {error.strerror}") from None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET):
            raise LabFailure(f"setns {netns}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(handle)


def identity(netns: str) -> str:
    """What the kernel calls a named namespace, as in ``/proc/PID/ns/net``; empty if there is none."""
    try:
        return f"net:[{(NETNS / netns).stat().st_ino}]"
    except OSError:
        return ""


def pids() -> Iterator[int]:
    """The processes of this machine, oldest number first."""
    yield from sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def netns_of(pid: int) -> str:
    """The identity of a process's network namespace; empty if it is gone or a zombie."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def members_of(netns: Sequence[str]) -> list[int]:
    """The processes that live in one of these namespaces."""
    wanted = {name for name in map(identity, netns) if name}
    return [pid for pid in pids() if netns_of(pid) in wanted] if wanted else []


def argv_of(pid: int) -> list[str]:
    """The arguments of a process; empty if it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    except OSError:
        return []


def state_of(pid: int) -> str:
    """One letter: R, S, D, T (stopped), Z (zombie); empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def send(pid: int, signal: int) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        os.kill(pid, signal)
    except ProcessLookupError:
        return False
    return True


def wait_gone(gone: Iterable[int], seconds: float) -> bool:
    """Wait until none of these processes runs any more (zombies do not count); False if some still do."""
    left, end = list(gone), time.monotonic() + seconds
    while left := [pid for pid in left if state_of(pid) not in ("", "Z", "X")]:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
