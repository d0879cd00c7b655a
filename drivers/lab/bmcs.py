"""The BMCs of the lab: one ``ipmi_sim`` a machine, a real IPMI 2.0 server whose chassis is a program of ours.

They are nobody's children and outlive the command that starts them; the pid file in each machine's folder ends them.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.clock import now_ms
from drivers.lab import chassis

PROGRAM = "ipmi_sim"
READY_MS_MAX = 5_000
GONE_MS_MAX = 5_000
POLL_MS = 10
HISTORY_BYTES = 65_536
"""What a BMC keeps of the console while nobody watches."""
ADDRESSES_MAX = 4
"""Addresses of one BMC. Source: ipmi_lan(5)."""

HOOKS = ("power-on", "power-off", "is-on")
"""Executable files in a machine's folder, written by the lab: start it (and return), stop it, exit 0 if it is on."""

_START = 'umask 077; echo $$ >"$1"; shift; exec "$@"'


class LabBmc(msgspec.Struct, frozen=True, kw_only=True):
    """One BMC. ``folder`` holds the chassis' hooks, its faults and all that the BMC writes.

    ``addresses``: up to four, which must be up in ``netns`` (a name below /run/netns; "": here). ``password_file``:
    one line, read by its owner only. ``uuid``: the machine's, what its SMBIOS would say. ``console``: where its serial
    port is, ``HOST:PORT`` in ``netns`` ("": it has none).
    """

    name: str
    folder: Path
    addresses: tuple[str, ...]
    port: int = 623
    user: str = "admin"
    password_file: Path
    uuid: str
    netns: str = ""
    console: str = ""


def write(bmc: LabBmc) -> None:
    """Write what the BMC is started from, owner-only: its configuration holds the password.

    Raises: InputError for more addresses than a BMC can have.
    """
    if not 1 <= len(bmc.addresses) <= ADDRESSES_MAX:
        raise InputError([f"{bmc.name}: {len(bmc.addresses)} addresses; allowed: 1 to {ADDRESSES_MAX}"])
    (bmc.folder / "state").mkdir(parents=True, exist_ok=True)
    program = chassis.write(bmc.folder)
    password = bmc.password_file.read_text(encoding="utf-8").split("\n", 1)[0]
    lan = [f'name "{bmc.name}"', "set_working_mc 0x20", "  startlan 1"]
    lan += [f"    addr {address} {bmc.port}" for address in bmc.addresses]
    lan += ["    priv_limit admin"]
    lan += [f"    allowed_auths_{level} md5" for level in ("callback", "user", "operator", "admin")]
    lan += [f"    guid {bmc.uuid.replace('-', '')}", "  endlan"]
    lan += [f'  chassis_control "{program} {bmc.folder}"']
    if bmc.console:
        lan += [f'  sol "tcp:{bmc.console}" 115200 history={HISTORY_BYTES}']
    lan += [f'  user 2 true "{bmc.user}" "{password}" admin 10 none md5', ""]
    emulated = [
        "mc_setbmc 0x20",
        "mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr",
        "sel_enable 0x20 1000 0x0a",
        "mc_enable 0x20",
        "",
    ]
    for name, lines in (("lan.conf", lan), ("bmc.emu", emulated)):
        path = bmc.folder / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text("\n".join(lines), encoding="utf-8")


def start(bmc: LabBmc) -> int:
    """Start a BMC that was written and return its pid once it listens; one that runs already is left alone.

    Raises: InputError with its last words if it does not come up.
    """
    running = pid_of(bmc.folder)
    if running:
        return running
    command = [PROGRAM, "-n", "-c", str(bmc.folder / "lan.conf"), "-f", str(bmc.folder / "bmc.emu")]
    command += ["-s", str(bmc.folder / "state")]
    inside = ["nsenter", f"--net=/run/netns/{bmc.netns}"] if bmc.netns else []
    starter = ["setsid", "--fork", *inside, "sh", "-c", _START, "sh", str(_pid_file(bmc.folder)), *command]
    log = bmc.folder / "sim.log"
    with log.open("wb") as out:
        subprocess.run(starter, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
    until_ms = now_ms() + READY_MS_MAX
    while now_ms() < until_ms:
        pid = pid_of(bmc.folder)
        if pid and _listens(pid, bmc.port) >= len(bmc.addresses):
            return pid
        time.sleep(POLL_MS / 1_000)
    stop(bmc.folder)
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    why = said[-1] if said else "it said nothing"
    raise InputError([f"{PROGRAM} of {bmc.name} does not listen at {bmc.addresses[0]} port {bmc.port}: {why}"])


def stop(folder: Path) -> None:
    """End the BMC of this folder, if it runs, and whatever request hangs in its chassis."""
    chassis.mend(folder, "hang")
    pid, until_ms = pid_of(folder), now_ms() + GONE_MS_MAX
    if pid:
        os.kill(pid, signal.SIGKILL)
    while pid_of(folder) and now_ms() < until_ms:
        time.sleep(POLL_MS / 1_000)
    _pid_file(folder).unlink(missing_ok=True)


def freeze(folder: Path) -> None:
    """Let the BMC of this folder hang: it is there and answers nothing."""
    _send(folder, signal.SIGSTOP)


def thaw(folder: Path) -> None:
    """Let a frozen BMC go on."""
    _send(folder, signal.SIGCONT)


def pid_of(folder: Path) -> int:
    """Return the process id of this folder's BMC, 0 if it does not run; a pid that was given away does not count."""
    try:
        pid = int(_pid_file(folder).read_text(encoding="utf-8"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0
    return pid if str(folder / "lan.conf").encode() in words else 0


def _send(folder: Path, number: signal.Signals) -> None:
    pid = pid_of(folder)
    if pid:
        os.kill(pid, number)


def _pid_file(folder: Path) -> Path:
    return folder / "bmc.pid"


def _listens(pid: int, port: int) -> int:
    """Count the UDP sockets bound to ``port`` in a process's network namespace."""
    found = 0
    for table in ("udp", "udp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue
        found += sum(line.split()[1].endswith(f":{port:04X}") for line in lines)
    return found
