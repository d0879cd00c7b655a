"""The power of the lab's nodes: what a chassis does when its BMC tells it to, as programs in the node's folder.

``power-off`` takes the node's cables down at the switch first, so that its packets vanish and no connection is reset,
then kills its process 1, which takes everything in its namespaces along. ``power-on`` begins a boot. ``is-on`` ends
with 0 if the node has power. They are shell scripts because a power cut must not wait for an interpreter to start.
"""

import shlex
import sys
from pathlib import Path

from core.ids import NodeId
from drivers.lab.layout import LabNode, Layout
from drivers.lab.shell import NETNS, argv_of, call, members_of, state_of

_HEAD = """#!/bin/sh
# Written by the lab for {node}.
home={home}
"""

_OFF = (
    _HEAD
    + """exec 9>>"$home/power.lock"; flock 9
echo ${{1:-off}} >"$home/power.new" && mv "$home/power.new" "$home/power"
nsenter --net={infra} ip -force -batch - >/dev/null 2>&1 <<END
link set {data} down
link set {management} down
END
state() {{ sed 's/.*) //;s/ .*//' "/proc/$1/stat" 2>/dev/null; }}
runs() {{ case "$(state $1)" in ''|Z|X) return 1;; esac; }}
boot=$(cat "$home/boot.pid" 2>/dev/null)
if [ -n "$boot" ] && grep -qas "$home" "/proc/$boot/cmdline"; then
  init=$(cat "/proc/$boot/task/$boot/children" 2>/dev/null)
  kill -9 $boot $init 2>/dev/null
  for pid in $boot $init; do
    n=0; while runs $pid && [ $n -lt 500 ]; do sleep 0.02; n=$((n+1)); done
    if runs $pid; then echo "process $pid does not die" >&2; exit 1; fi
  done
fi
rm -f "$home/boot.pid"
for file in /sys/block/loop*/loop/backing_file; do
  case "$(cat "$file" 2>/dev/null)" in "$home"/*)
    device=${{file#/sys/block/}}; losetup -d "/dev/${{device%%/*}}" 2>/dev/null;;
  esac
done
exit 0
"""
)

_ON = (
    _HEAD
    + """exec 9>>"$home/power.lock"; flock 9
[ -f "$home/boot.pid" ] && exit 0
echo on >"$home/power.new" && mv "$home/power.new" "$home/power"
cd {cwd} || exit 1
PYTHONPATH={cwd} setsid {python} -m drivers.lab.machine boot "$home" >>"$home/console.log" 2>&1 </dev/null 9>&- &
echo $! >"$home/boot.pid"
exit 0
"""
)

_IS_ON = _HEAD + """[ "$(cat "$home/power" 2>/dev/null)" = on ]\n"""

PACKAGES = Path(__file__).resolve().parents[2]


def write_switches(layout: Layout, node: LabNode) -> None:
    """Put the three programs into a node's folder; a node that has no power state yet is off."""
    home = layout.home(node.id)
    home.mkdir(parents=True, exist_ok=True)
    words = {
        "node": node.id,
        "home": shlex.quote(str(home)),
        "infra": shlex.quote(str(NETNS / layout.infra)),
        "data": node.data_port,
        "management": node.management_port,
        "cwd": shlex.quote(layout.programs.replace("{node}", node.id) or str(PACKAGES)),
        "python": shlex.quote(layout.python or sys.executable),
    }
    for name, text in (("power-off", _OFF), ("power-on", _ON), ("is-on", _IS_ON)):
        path = home / name
        path.write_text(text.format(**words), encoding="utf-8")
        path.chmod(0o700)
    if not (home / "power").exists():
        (home / "power").write_text("off\n", encoding="utf-8")


def power_on(layout: Layout, node: NodeId) -> None:
    """Press the button: a node that does not run begins to boot. Raises: LabFailure."""
    call((str(layout.home(node) / "power-on"),))


def power_off(layout: Layout, node: NodeId) -> None:
    """Pull the plug. Raises: LabFailure if something of the node survives."""
    call((str(layout.home(node) / "power-off"),))


def crash(layout: Layout, node: NodeId) -> None:
    """Have a node's operating system die while its power stays on. Raises: LabFailure."""
    call((str(layout.home(node) / "power-off"), "on"))


def reset(layout: Layout, node: NodeId) -> None:
    """Restart a node, as its reset button does. Raises: LabFailure."""
    power_off(layout, node)
    power_on(layout, node)


def has_power(layout: Layout, node: NodeId) -> bool:
    """Whether the node is switched on, booting, running or crashed."""
    try:
        return (layout.home(node) / "power").read_text(encoding="utf-8").strip() == "on"
    except OSError:
        return False


def init_of(layout: Layout, node: NodeId) -> int:
    """The number of a node's process 1 on this machine; 0 while it does not run."""
    try:
        boot = int((layout.home(node) / "boot.pid").read_text(encoding="utf-8"))
        children = Path(f"/proc/{boot}/task/{boot}/children").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return 0
    home = str(layout.home(node))
    for child in map(int, children):
        argv = argv_of(child)
        if "init" in argv and home in argv and state_of(child) not in ("", "Z"):
            return child
    return 0


def processes_of(layout: Layout, node: NodeId) -> list[int]:
    """Everything that runs on a node, by its number on this machine."""
    return members_of((layout.netns(node),))
