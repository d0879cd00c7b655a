"""Taking a lab away, whatever is left of it: processes, devices, mounts, namespaces, folders. Touches nothing else.

A process belongs to a lab if its network namespace does; so a lab whose own command was killed is found as well.
"""

import os
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from drivers.lab import power
from drivers.lab.layout import STATE_FILE, LabFailure, Layout
from drivers.lab.shell import NETNS, argv_of, call, members_of, send, wait_gone

ROUNDS_MAX = 50
GONE_S = 10.0


def demolish(name: str, folder: Path, layout: Layout | None, say: Callable[[str], None]) -> None:
    """Take the lab ``name`` in ``folder`` away; twice is as good as once.

    Raises: LabFailure if something of it resists.
    """
    folder = folder.absolute()
    killed = _kill_boots(folder)
    if layout is not None:
        for node in layout.nodes:
            if (layout.home(node.id) / "power-off").exists():
                power.power_off(layout, node.id)
    spaces = namespaces_of(name)
    killed += _kill_members(spaces)
    loops = _free_loops(folder)
    mounts = _unmount(folder)
    for space in spaces:
        call(("ip", "netns", "del", space), check=False)
    _remove_groups(folder)
    left = [space for space in spaces if (NETNS / space).exists()]
    if left:
        raise LabFailure(f"these namespaces cannot be removed: {', '.join(left)}")
    known = (folder / STATE_FILE).exists()
    if known:
        shutil.rmtree(folder)
    counts = ((killed, "processes"), (loops, "loop devices"), (mounts, "mounts"), (len(spaces), "namespaces"))
    words = [f"{count} {what}" for count, what in counts if count] + ([str(folder)] if known else [])
    say(f"removed {', '.join(words)}" if words else "nothing was left")


def namespaces_of(name: str) -> list[str]:
    """The network namespaces of a lab, by their names."""
    if not NETNS.is_dir():
        return []
    return sorted(path.name for path in NETNS.iterdir() if path.name.startswith(f"{name}-"))


def _kill_boots(folder: Path) -> int:
    """Kill nodes that still wait for their firmware: they are in no namespace of the lab yet."""
    count = 0
    for file in folder.glob("nodes/*/boot.pid"):
        try:
            pid = int(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if str(file.parent) in argv_of(pid) and send(pid, signal.SIGKILL):
            count += 1
            wait_gone((pid,), GONE_S)
    return count


def _kill_members(spaces: list[str]) -> int:
    """Kill everybody who lives in one of these namespaces, but not whoever calls this from there."""
    mine = _own_line()
    count = 0
    for _ in range(ROUNDS_MAX):
        found = [pid for pid in members_of(spaces) if pid not in mine]
        if not found:
            return count
        for pid in found:
            count += send(pid, signal.SIGKILL)
        wait_gone(found, GONE_S / ROUNDS_MAX)
    raise LabFailure(f"processes of the lab do not die: {', '.join(map(str, found))}")


def _own_line() -> set[int]:
    """This process and those it comes from."""
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


def _free_loops(folder: Path) -> int:
    """Detach loop devices whose files are in the lab's folder."""
    count = 0
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            behind = file.read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if behind.startswith(f"{folder}/"):
            call(("losetup", "-d", f"/dev/{file.parent.parent.name}"), check=False)
            count += 1
    return count


def _unmount(folder: Path) -> int:
    """Unmount what is mounted in the lab's folder, the innermost first."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = sorted((line.split()[1] for line in lines if line.split()[1].startswith(f"{folder}/")), reverse=True)
    for point in points:
        call(("umount", "-l", point), check=False)
    return len(points)


def _remove_groups(folder: Path) -> None:
    """Remove the control groups that supervisors made for their services; they are empty by now."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    roots = [Path(line.split()[1]) for line in lines if line.split()[2] == "cgroup2"]
    for home in folder.glob("nodes/*"):
        name = f"moxie-{home.name}-{zlib.crc32(str(home / 'run').encode()):08x}"
        for root in roots:
            for group in root.rglob(name):
                _remove_group(group)


def _remove_group(group: Path) -> None:
    inner: Iterable[Path] = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for path in (*inner, group):
        for _ in range(ROUNDS_MAX):
            try:
                path.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)  # the kernel takes a moment after the last process
