"""A machine of the lab that has nothing but its firmware: from its power button over DHCP and iPXE to a joined node.

    python -m drivers.lab.netbooted NODEDIR     runs first in a node that is found; what it leaves is then started

The protocols are the real ones and so is ``rack join``; there is no kernel to start, so the machine goes on in its
namespace. Its system is in memory, what a node must remember is on its disk: ``etc`` is made anew at each boot, and
``state`` stays. Files in ``odd`` say what is odd about the machine: another board, another card, a loader that hangs.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from drivers.image.manifest import PUBLIC_KEY
from drivers.join.boot import Self
from drivers.join.bundle import IMAGE_KEY, RUN_DIR, STATE_DIR
from drivers.join.client import NODE_FILE, Machine
from drivers.join.client import main as join
from drivers.lab import firmware
from drivers.lab.layout import LabNode, Layout, read_layout
from drivers.lab.machine import read_software
from drivers.lab.odd import Odd
from drivers.lab.rack import bmc_of
from drivers.lab.request import Ticket, redeem
from drivers.netboot.shelf import RUNNING

ASKS_MAX = 2_000
"""So often a machine asks for an address before it stands still: more than an hour."""
PAUSE_S = 1.0
KERNEL_S = 2.0
"""What an emulated kernel takes to its first process at least. Source: ../facts/bmc-and-netboot.md, section 5."""
MARGIN_S = 2.0
OTHER_IMAGE = "0123456789abcdef"


def main(home: Path) -> int:
    """Boot and join; 0 if this is a node now. What else happens is told on the console, as firmware does."""
    layout = read_layout(read_software(home).lab)
    if layout is None:
        return _stands("this machine is in no lab")
    node = layout.get(read_software(home).node)
    odd, begun = Odd(home), time.monotonic()
    uuid, mac = odd.text("uuid") or bmc_of(layout, node).uuid, odd.text("mac") or node.mac
    _call("ip", "link", "set", "dev", "eth0", "address", mac)
    try:
        return _boot(layout, node, uuid, mac, odd, begun)
    except OSError as error:
        return _stands(f"no bootable device: {error}")


def _boot(layout: Layout, node: LabNode, uuid: str, mac: str, odd: Odd, begun: float) -> int:
    for _ in range(ASKS_MAX):
        came = firmware.find(uuid, mac)
        if came.address:
            break
        time.sleep(PAUSE_S)
    if late_ms := odd.take("late_ms"):
        hangs_s = max(0.0, begun + int(late_ms) / 1_000 + MARGIN_S - time.monotonic())
        _say(f"the boot loader hangs for {hangs_s:.0f} s")
        time.sleep(hangs_s)
    firmware.follow(came, uuid, mac)
    if not came.words:
        return _stands(f"no bootable device: {came.said or 'nobody answered'}")
    firmware.fetch_files(came)
    time.sleep(KERNEL_S)
    _say(f"Linux: root image of {came.root} bytes, {came.sha256[:16]}")
    _take_address(layout, came.words["moxie.ip"])
    if odd.take("image"):
        answer = redeem(Ticket.of(came.words), uuid, image=OTHER_IMAGE)
        return _stands(f"image {OTHER_IMAGE} runs here: {answer.refused or answer.problem}")
    home = layout.home(node.id)
    shutil.rmtree(home / "etc", ignore_errors=True)
    code = join(_machine(layout, home, uuid, mac, came))
    if code == 0:
        _settle(layout, home)
        _show_as_booted(home, came.words["moxie.image"])
    return code


def _machine(layout: Layout, home: Path, uuid: str, mac: str, came: firmware.Booted) -> Machine:
    """The machine as its kernel would show it, in files."""
    place = home / "hardware"
    texts = {
        "uuid": uuid,
        "root_sha256": came.sha256,
        f"cards/{firmware.INTERFACE}/address": mac,
        "cmdline": " ".join(f"{key}={value}" for key, value in came.words.items()),
    }
    for name, text in texts.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{text}\n", encoding="utf-8")
    me = Self(
        uuid=place / "uuid",
        boot_id=home / "boot_id",
        cards=place / "cards",
        root_hash=place / "root_sha256",
        image_key=layout.folder / "images" / PUBLIC_KEY,
    )
    cmdline = place / "cmdline"
    return Machine(cmdline=cmdline, folder=home / "etc", me=me, tokens=(), set_clock=False)


def _settle(layout: Layout, home: Path) -> None:
    """Put what a node expects below / into the machine's own folder: its namespaces share the machine's files."""
    file = home / "etc" / NODE_FILE
    text = file.read_text(encoding="utf-8")
    places = ((STATE_DIR, home / "state"), (RUN_DIR, home / "run"), (IMAGE_KEY, layout.folder / "images" / PUBLIC_KEY))
    for there, here in places:
        text = text.replace(f'"{there}', f'"{here}')
    file.write_text(f'boot_id_path = "{home / "boot_id"}"\n{text}', encoding="utf-8")


def _show_as_booted(home: Path, image: str) -> None:
    """Have the node see what a kernel would show it: its command line, and what its initramfs left."""
    _call("mount", "--bind", str(home / "hardware" / "cmdline"), "/proc/cmdline")
    _call("mount", "-t", "tmpfs", "tmpfs", "/run")
    RUNNING.parent.mkdir(parents=True)
    RUNNING.write_text(f"{image}\n", encoding="ascii")


def _take_address(layout: Layout, address: str) -> None:
    _call("ip", "addr", "flush", "dev", firmware.INTERFACE)
    _call("ip", "addr", "add", address, "dev", firmware.INTERFACE)
    for vip in layout.vips:
        _call("ip", "route", "replace", f"{vip}/32", "dev", firmware.INTERFACE)


def _call(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _say(text: str) -> None:
    print(text, flush=True)


def _stands(why: str) -> int:
    _say(why)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
