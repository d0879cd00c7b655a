"""Emulated machines of the lab: what a chassis does when its BMC tells it to, as programs in the machine's folder.

``power-on`` starts QEMU with the machine's identity, its disk, its network cable and its serial port; ``power-off``
kills it, as a power cut does. A machine that was told to boot from the network does so once; every other boot is from
its disk. The emulated processor is always QEMU's own (TCG): a ``/dev/kvm`` may open and yet be useless in a sandbox.
"""

import shlex
import shutil
import subprocess
import time
from pathlib import Path

from core.errors import InputError
from drivers.clock import now_ms
from drivers.lab import bmcs
from drivers.lab.layout import DATA_NET, INFRA_HOST, Guest, Layout
from drivers.lab.shell import NETNS, argv_of, batch, call, inside, state_of

PROGRAM = "qemu-system-x86_64"
OVMF = Path("/usr/share/OVMF")
OVMF_CODE, OVMF_VARS = OVMF / "OVMF_CODE_4M.fd", OVMF / "OVMF_VARS_4M.fd"
MIB = 1 << 20
OFF_MS_MAX = 5_000
ACCELERATOR = "tcg,tb-size=256"
"""Never KVM. Translated code is kept in so many MiB: by default QEMU takes a gigabyte more than the machine has."""
PROCESSOR = "qemu64,+rdrand,+cx16,+ssse3,+sse4.1,+sse4.2,+popcnt,+pclmulqdq"
"""What every server of the last ten years has at least. Without SSE 4 and PCLMULQDQ Debian's Ceph dies at its start."""

_HEAD = """#!/bin/sh
# Written by the lab for machine {name}.
home={home}
pid=$(cat "$home/qemu.pid" 2>/dev/null)
alive() {{ [ -n "$pid" ] && grep -qas "$home/qemu.pid" "/proc/$pid/cmdline"; }}
"""
# A process that nobody buries has no command line: it reads as off, whatever `kill -0` says.

_IS_ON = _HEAD + "alive\n"

_OFF = (
    _HEAD
    + """exec 9>>"$home/power.lock"; flock 9
alive && kill -9 "$pid"
n=0; while alive && [ $n -lt 250 ]; do sleep 0.02; n=$((n+1)); done
if alive; then echo "process $pid does not die" >&2; exit 1; fi
rm -f "$home/qemu.pid"
exit 0
"""
)

_ON = (
    _HEAD
    + """exec 9>>"$home/power.lock"; flock 9
alive && exit 0
if [ "$(cat "$home/boot" 2>/dev/null)" = pxe ]; then
  set -- {from_network}
else
  set -- {from_disk}
fi
rm -f "$home/boot" "$home/qmp.sock"
cd "$home" || exit 1
echo "$(date +%s.%N) on $*" >>"$home/powered.log"
exec nsenter --net={infra} {program} {words} "$@" -pidfile "$home/qemu.pid" -daemonize </dev/null 9>&-
"""
)


def write(layout: Layout, guest: Guest) -> None:
    """Make a machine's folder: its disk, empty if it is new, and its chassis. Raises: OSError."""
    case = layout.case(guest)
    case.mkdir(parents=True, exist_ok=True)
    disk = case / "disk.raw"
    if not disk.exists():
        with disk.open("wb") as file:
            file.truncate(guest.disk_mib * MIB)
    if guest.firmware == "uefi" and not (case / "vars.fd").exists():
        shutil.copyfile(OVMF_VARS, case / "vars.fd")
    network, local = boot_words(guest)
    words = {
        "name": guest.name,
        "home": shlex.quote(str(case)),
        "infra": shlex.quote(str(NETNS / layout.infra)),
        "program": PROGRAM,
        "words": shlex.join(_words(layout, guest)),
        "from_network": shlex.join(network),
        "from_disk": shlex.join(local),
    }
    for name, text in (("power-on", _ON), ("power-off", _OFF), ("is-on", _IS_ON)):
        path = case / name
        path.write_text(text.format(**words), encoding="utf-8")
        path.chmod(0o700)


def _words(layout: Layout, guest: Guest) -> tuple[str, ...]:
    """What the machine is made of, as QEMU wants to hear it."""
    case = layout.case(guest)
    port = f"socket,id=serial,host=127.0.0.1,port={guest.console_port},server=on,wait=off,logfile={case}/console.log"
    cache = "unsafe" if guest.key else "writeback"  # a power cut ends QEMU, not the machine that it runs on
    words: tuple[str, ...] = (
        *("-name", f"{layout.name}-{guest.name}", "-accel", ACCELERATOR, "-cpu", PROCESSOR),
        *("-m", str(guest.memory_mib), "-smp", str(guest.processors)),
        *("-uuid", guest.uuid, "-smbios", f"type=1,uuid={guest.uuid},serial={layout.name}-{guest.slot}-{guest.age}"),
        *("-display", "none", "-vga", "none", "-nodefaults"),
        *("-qmp", "unix:qmp.sock,server=on,wait=off"),
        *("-chardev", f"{port},logappend=on", "-serial", "chardev:serial"),
        *("-drive", f"file={case}/disk.raw,if=none,id=disk,format=raw,cache={cache},discard=unmap"),
        *("-netdev", f"tap,id=net,ifname={guest.tap},script=no,downscript=no"),
        *("-device", "virtio-rng-pci"),
    )
    if guest.firmware == "uefi":
        code = ("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}")
        return (*words, "-machine", "q35", *code, "-drive", f"if=pflash,format=raw,unit=1,file={case}/vars.fd")
    return (*words, "-machine", "pc")


def boot_words(guest: Guest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What makes the machine boot from the network once, then from its disk; and from its disk at once.

    SeaBIOS keeps to a boot order that holds for one boot; OVMF only to one of devices, so the disk comes first there
    and an empty one is passed over.
    """
    network: tuple[str, ...]
    disk, card = "virtio-blk-pci,drive=disk", f"virtio-net-pci,netdev=net,mac={guest.mac}"
    if guest.key:
        usb = ("-device", "qemu-xhci", "-device", "usb-storage,drive=disk,bootindex=1")
        local = (*(usb if guest.key == "usb" else ("-device", f"{disk},bootindex=1")), "-device", f"{card},romfile=")
        return local, local
    if guest.firmware == "uefi":
        network = ("-device", f"{card},bootindex=1,romfile=", "-device", f"{disk},bootindex=2")
        return network, ("-device", f"{disk},bootindex=1", "-device", f"{card},romfile=")
    network = ("-device", card, "-device", disk, "-boot", "order=c,once=n")
    return network, ("-device", card, "-device", disk, "-boot", "order=c")


def bmc_of(layout: Layout, guest: Guest) -> bmcs.LabBmc:
    """The BMC of a machine: its identity is the machine's, as SMBIOS tells it."""
    return bmcs.LabBmc(
        name=guest.name,
        folder=layout.case(guest),
        addresses=(guest.bmc_address,),
        password_file=layout.folder / "passwords" / "lab",
        uuid=guest.uuid,
        netns=layout.infra,
        console=f"127.0.0.1:{guest.console_port}",
    )


def plug_in(layout: Layout, guest: Guest) -> None:
    """Connect a machine's cables and give it standby power: from now on its BMC answers, and nothing else does.

    Raises: LabFailure, InputError.
    """
    lines = (
        f"tuntap add dev {guest.tap} mode tap",
        f"link set {guest.tap} master br-data up",
        f"addr add {guest.bmc_address}/24 dev br-mgmt",
    )
    batch(layout.infra, lines, check=False)
    if guest.tap not in call(inside(layout.infra, ("ip", "-brief", "link", "show", "master", "br-data"))):
        raise InputError([f"rack lab: {guest.tap} cannot be made: /dev/net/tun is missing; remedy: modprobe tun"])
    write(layout, guest)
    bmcs.write(bmc_of(layout, guest))
    bmcs.start(bmc_of(layout, guest))


def pull_out(layout: Layout, guest: Guest) -> None:
    """Take a machine out of its slot, running or not: its BMC, its cable, its disk. Raises: LabFailure."""
    bmcs.stop(layout.case(guest))
    power_off(layout, guest)
    lines = (f"link del {guest.tap}", f"addr del {guest.bmc_address}/24 dev br-mgmt")
    batch(layout.infra, lines, check=False)
    shutil.rmtree(layout.case(guest))


def power_off(layout: Layout, guest: Guest) -> None:
    """Pull the plug of a machine, past its BMC. Raises: LabFailure if it survives."""
    if (layout.case(guest) / "power-off").exists():
        call((str(layout.case(guest) / "power-off"),))


def pid_of(layout: Layout, guest: Guest) -> int:
    """The process that emulates a machine; 0 while it is off."""
    file = layout.case(guest) / "qemu.pid"
    try:
        pid = int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return pid if str(file) in argv_of(pid) and state_of(pid) not in ("", "Z") else 0


def route_management(layout: Layout) -> None:
    """Let machines reach the BMCs through the gateway, as racks with a routed management network do."""
    call(inside(layout.infra, ("sysctl", "-q", "-e", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")))


def await_off(layout: Layout, guest: Guest) -> bool:
    """Whether a machine that was told to be off is so, within a few seconds."""
    end_ms = now_ms() + OFF_MS_MAX
    while pid_of(layout, guest) and now_ms() < end_ms:
        time.sleep(0.02)
    return not pid_of(layout, guest)


GATEWAY = f"{DATA_NET}.{INFRA_HOST}"


def check(firmware: str) -> list[str]:
    """Say what this machine lacks for emulated ones, with remedies; nothing if all is there."""
    found = []
    if firmware == "uefi" and not OVMF_CODE.exists():
        found.append(f"rack lab: {OVMF_CODE} is missing; remedy on Debian: apt-get install ovmf")
    if not Path("/dev/net/tun").exists():
        found.append("rack lab: /dev/net/tun is missing, machines cannot be cabled; remedy: modprobe tun")
    return found


def version() -> str:
    """What QEMU calls itself; "" if it does not run."""
    try:
        done = subprocess.run((PROGRAM, "-version"), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.split("\n", 1)[0]
