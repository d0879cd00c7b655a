"""What a dead supervisor may have left of its volumes: processes that hold images, mounts, loop devices, files."""

import os
import select
import shutil
import signal
from pathlib import Path

from drivers.programs import run

STEP_MS_MAX = 5_000
PROC, BLOCK_DEVICES = Path("/proc"), Path("/sys/block")


def clear_orphans(root: Path) -> int:
    """Kill, unmount, detach and remove everything below ``root``; return how many things that were."""
    found = _kill(root) + _unmount(root) + _detach(root)
    shutil.rmtree(root, ignore_errors=True)
    return found


def _kill(root: Path) -> int:
    """Kill the processes that were started with a path below the folder, and wait for their ends."""
    killed = 0
    for pid_file in sorted(root.glob("*/*/daemon.pid")):
        try:
            pid = int(pid_file.read_text(encoding="ascii"))
            handle = os.pidfd_open(pid)
        except (OSError, ValueError):
            continue
        try:
            words = (PROC / str(pid) / "cmdline").read_bytes()
            if str(pid_file.parent).encode() in words:  # a pid may have been given to somebody else
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                _wait(handle)
                killed += 1
        except OSError:
            pass  # it ended by itself
        finally:
            os.close(handle)
    return killed


def _wait(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll(STEP_MS_MAX)


def _unmount(root: Path) -> int:
    """Unmount what is mounted below the folder in our namespace, the newest first."""
    lines = (PROC / "self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    ours = [point for point in points if Path(point).is_relative_to(root.absolute())]
    for point in reversed(ours):
        run(("umount", "--lazy", point), STEP_MS_MAX)
    return len(ours)


def _detach(root: Path) -> int:
    """Detach loop devices over files below the folder."""
    detached = 0
    for backing in sorted(BLOCK_DEVICES.glob("loop*/loop/backing_file")):
        try:
            path = backing.read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if Path(path).is_relative_to(root.absolute()):
            run(("losetup", "--detach", f"/dev/{backing.parent.parent.name}"), STEP_MS_MAX)
            detached += 1
    return detached
