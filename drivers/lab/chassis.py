"""The chassis of one lab machine: the program that its simulated BMC runs for every request, and its folder's files.

A shell program, because it runs for every reading: 2 ms, where Python's start alone takes 15.
"""

from pathlib import Path
from typing import Literal

Fault = Literal["nofeed", "lie", "hang", "slow_ms", "contrary"]

PROGRAM = """\
#!/bin/sh
# chassis FOLDER get WORD... | set WORD VALUE...
# Hooks in FOLDER: power-on, power-off, is-on (exit 0: on). Faults: nofeed, lie, hang, slow_ms, contrary.
nd=$1 op=$2; shift 2
while [ -e "$nd/hang" ]; do sleep 0.1; done
if [ -s "$nd/slow_ms" ]; then read -r ms <"$nd/slow_ms"; sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"; fi
is_on() { [ ! -e "$nd/nofeed" ] && "$nd/is-on" >/dev/null 2>&1 </dev/null; }
turn() { "$nd/power-$1" >>"$nd/power.log" 2>&1 </dev/null; }
reported() {
  if [ -s "$nd/lie" ]; then read -r state <"$nd/lie"; echo "$state"; elif is_on; then echo 1; else echo 0; fi
}
set_power() {
  [ -e "$nd/contrary" ] && [ "$(reported)" = "$1" ] && return 1
  [ -e "$nd/lie" ] && return 0
  if [ "$1" = 1 ]; then [ ! -e "$nd/nofeed" ] && { is_on || turn on; }; else ! is_on || turn off; fi
}
reset() { [ -e "$nd/lie" ] || ! is_on || { turn off && turn on; }; }
while [ $# -gt 0 ]; do
  w=$1; shift
  if [ "$op" = get ]; then
    case $w in
      power) echo "power:$(reported)" ;;
      boot) if [ -s "$nd/boot" ]; then echo "boot:$(cat "$nd/boot")"; else echo boot:default; fi ;;
      *) exit 1 ;;
    esac
  else
    v=$1; shift
    case $w in
      power) set_power "$v" || exit 1 ;;
      reset) reset || exit 1 ;;
      shutdown) set_power 0 || exit 1 ;;
      boot) echo "$v" >"$nd/boot" ;;
      identify) [ $# -gt 0 ] && shift ;;
      *) exit 1 ;;
    esac
  fi
done
exit 0
"""


def write(folder: Path) -> Path:
    """Write the program into a machine's folder and return its path."""
    path = folder / "chassis"
    path.write_text(PROGRAM, encoding="utf-8")
    path.chmod(0o755)
    return path


def break_it(folder: Path, fault: Fault, value: int = 1) -> None:
    """Make a machine's chassis fail from its next request on.

    ``nofeed``: it has no power, reads off and cannot be switched on. ``lie``: reports ``value`` (1 on, 0 off) and
    ignores orders. ``hang``: never answers. ``slow_ms``: each answer takes ``value`` longer. ``contrary``: an order
    that is fulfilled already is answered with an error.
    """
    (folder / fault).write_text(f"{value}\n", encoding="utf-8")


def mend(folder: Path, fault: Fault) -> None:
    """End one of the chassis' faults; a hung request goes on within 100 ms."""
    (folder / fault).unlink(missing_ok=True)


def boot_device(folder: Path) -> str:
    """Return what the machine was last told to boot from ("pxe": the network), and forget it: an order counts once."""
    path = folder / "boot"
    try:
        device = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "default"
    path.unlink(missing_ok=True)
    return device or "default"
