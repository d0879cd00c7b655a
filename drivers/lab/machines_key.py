"""The virtual rack from a USB key: its first server is an emulated machine that boots it, with nobody at a keyboard.

The key is a copy of an image's ``disk.img`` with a folder ``moxie`` on its boot partition, as ``docs/first-server.md``
says. No process of the rack runs natively: what the lab knows of it comes from serial ports, from the key, and from
the rack's records, asked with the operator's certificate that the first server has put on the key.
"""

import os
import re
import secrets
import shutil
import tempfile
import time
import uuid
from pathlib import Path

import msgspec

from core.errors import InputError
from core.specs import Timing
from drivers.bmc import BmcFailure, Limit
from drivers.ca import write_secret
from drivers.clock import now_ms
from drivers.image.disk import layout as parts_of
from drivers.image.manifest import DISK
from drivers.image.profile import PROFILES
from drivers.inventory import BmcTable, Machine
from drivers.lab import network, qemu
from drivers.lab.build import GIVE_UP_PERCENT, PASSWORD_BYTES
from drivers.lab.lab import Say, check_free, connect
from drivers.lab.layout import DATA_NET, INFRA_HOST, MANAGEMENT_NET, Guest, LabFailure, Layout, write_layout
from drivers.lab.machines import ORDER_MS_MAX, check_guests, up_or_away, wait_joined
from drivers.lab.machines_build import INSTALL, POOL, TIMING, Image
from drivers.lab.machines_watch import Tail, Watch, course_text
from drivers.lab.shell import call, enter
from drivers.power import open_bmc
from drivers.toml_text import toml_text
from formats.load import read_toml

PROFILE = "hyperconverged"
FIRST_SLOT = 1
FIRST_MIB, FIRST_PROCESSORS = 3_072, 2
MACHINE_MIB = 3_072
"""Of a machine that boots the hyperconverged image from the network: it holds the whole root in memory."""
DISK_MIB = 8_192
FIRST_MS_MAX = 1_500_000
JOIN_MS_MAX = 1_800_000
LOOK_S = 0.5
START_MS_MAX = 600_000
CONSOLE_BYTES_MAX = 4 << 20
ANSWERS = "moxie"
OPERATOR = "moxie/operator"
KEY_TIMING = msgspec.structs.replace(
    TIMING,
    session_timeout_ms=40_000,
    fresh_ms=5_000,
    withdraw_ms=1_000,
    suspect_ms=10_000,
    commit_ms_max=40_000,
    fence_ms_max=40_000,
    recover_ms=20_000,
    boot_ms_max=1_200_000,
    scan_ms=15_000,
)
"""An emulated machine loads, checks and starts a root of 600 MB; its ZooKeeper takes seconds for its first handshakes,
and who waits for less (an eighth of a session) only asks again. Source: measured with sessions of 8 s: 69 handshakes
were broken off within 22 s, and none ended.
"""
SAID = re.compile(rb"^(?:\[ *[0-9.]+\] sh\[\d+\]: *(?P<told>.*)|(?P<initrd>moxie: .*))$")
"""What is shown of a first server's serial port: its initrd, and `rack init`. Source: ``image/init.sh``, journald."""
BEGUN, FAILED = b"it looks for machines now", (b"Failed to start moxie-first", b"moxie: FAILED")
"""The last word of a first server that has begun its rack, and the words of one that could not."""


class KeyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rack from a key is built from. ``catalog``: its services, put on the key as they are."""

    layout: Layout
    catalog: Path
    image: Image
    timing: Timing = KEY_TIMING


def first_guest(usb: bool, memory_mib: int = FIRST_MIB) -> Guest:
    """The machine that the key is plugged into; ``usb``: really, else what is on the key is its disk."""
    return Guest(
        slot=FIRST_SLOT,
        uuid=str(uuid.uuid4()),
        memory_mib=memory_mib,
        processors=FIRST_PROCESSORS,
        key="usb" if usb else "disk",
    )


def dark_guests(count: int, memory_mib: int) -> tuple[Guest, ...]:
    """So many dark machines, in the slots after the first."""
    return tuple(
        Guest(slot=FIRST_SLOT + number, uuid=str(uuid.uuid4()), memory_mib=memory_mib, disk_mib=DISK_MIB)
        for number in range(1, count + 1)
    )


def check(plan: KeyPlan) -> None:
    """Raises: InputError saying what this machine lacks for these machines, or that the image has no key."""
    guests = plan.layout.guests
    check_guests(guests, 0)
    problems = []
    disk = plan.image.folder / DISK
    if not disk.is_file():
        problems.append(f"{disk}: is missing; needed: an image built with --disk --profile {PROFILE}")
    if problems:
        raise InputError(problems)


def up(plan: KeyPlan, say: Say, keep: bool = False) -> Watch:
    """Boot a machine from the key, and have its rack find, boot and admit the others; taken away again if that fails.

    ``keep``: leave it as it is even then, for a person to look at.
    Raises: InputError if this machine cannot, LabFailure if something does not work.
    """
    layout = plan.layout
    check(plan)
    check_free(layout)
    with up_or_away(layout, say, keep):
        return _up(plan, say)


def _up(plan: KeyPlan, say: Say) -> Watch:
    layout, begun_ms = plan.layout, now_ms()
    first = layout.guests[0]
    write_layout(layout)
    layout.folder.chmod(0o700)
    network.build(layout)
    qemu.route_management(layout)
    enter(layout.client)
    write_secret(layout.folder / "passwords" / "lab", f"{secrets.token_hex(PASSWORD_BYTES)}\n".encode())
    write_key(plan)
    for guest in layout.guests:
        qemu.plug_in(layout, guest)
    say(f"the key with image {plan.image.id} is in {first.name}; {len(layout.guests) - 1} machines are dark")
    tail = Tail(layout.case(first) / "console.log", CONSOLE_BYTES_MAX)
    call((str(layout.case(first) / "power-on"),))
    say(f"{first.name} is switched on, by its button; from here on nobody types anything")
    await_first(tail, say, FIRST_MS_MAX)
    take_operator(layout)
    watch = watch_dark(layout)
    wait_joined(watch, say, JOIN_MS_MAX)
    say(f"all {len(layout.guests) - 1} machines joined {(now_ms() - begun_ms) / 1_000:.1f} s after the start")
    for line in course_text(list(watch.courses.values()), begun_ms).splitlines():
        say(line)
    return watch


def watch_dark(layout: Layout) -> Watch:
    """Watch all machines but the first server, with the operator's certificate."""
    dark = tuple(guest for guest in layout.guests if not guest.key)
    return Watch(msgspec.structs.replace(layout, guests=dark), connect(layout).observer)


def await_first(tail: Tail, say: Say, ms_max: int) -> None:
    """Say what a first server writes on its serial port until its rack has begun. Raises: LabFailure if it does not."""
    end_ms = now_ms() + ms_max
    while now_ms() < end_ms:
        for line in tail.lines():
            found = SAID.match(line.strip())
            if found is not None:
                say(f"n1: {(found['told'] or found['initrd']).decode(errors='replace')}")
            if any(word in line for word in FAILED):
                raise LabFailure("the first server could not begin its rack; what it said last is above")
            if BEGUN in line:
                return
        time.sleep(LOOK_S)
    raise LabFailure(f"the first server has begun no rack in {ms_max / 1_000:.0f} s")


def switch(layout: Layout, guest: Guest, on: bool) -> None:
    """Switch a machine by its BMC, as a person with the BMCs' password may. Raises: LabFailure."""
    bmc = qemu.bmc_of(layout, guest)
    table = BmcTable(driver="ipmi", address=guest.bmc_address, user=bmc.user, password_file=bmc.password_file)
    driver = open_bmc(Machine(id=guest.name, number=200 + guest.slot, address=guest.bmc_address, bmc=table))
    assert driver is not None
    try:
        with driver.login(Limit(now_ms, now_ms() + ORDER_MS_MAX)) as chassis:
            chassis.switch(on=on)
    except BmcFailure as error:
        raise LabFailure(f"the BMC of {guest.name} at {guest.bmc_address}: {error.detail}") from None


# -- the key -----------------------------------------------------------------------------------------------------------


def write_key(plan: KeyPlan) -> Path:
    """Write the key of the first machine: the image's disk, and the answers on it. Raises: LabFailure, InputError."""
    layout = plan.layout
    case = layout.case(layout.guests[0])
    case.mkdir(parents=True)
    key = case / "disk.raw"
    call(("cp", "--sparse=always", str(plan.image.folder / DISK), str(key)), seconds=600)
    with tempfile.TemporaryDirectory(dir=layout.folder) as name:
        folder = Path(name) / ANSWERS
        folder.mkdir()
        (folder / "catalog.toml").write_text(toml_text(patient(plan.catalog)), encoding="utf-8")
        shutil.copyfile(layout.folder / "passwords" / "lab", folder / "bmc")
        (folder / "first-server.toml").write_text(toml_text(answers(plan.timing)), encoding="utf-8")
        _boot_partition("mcopy", key, "-s", str(folder), "::/")
    return key


def answers(timing: Timing) -> dict[str, object]:
    """What the first server of the lab is told: ``moxie/first-server.toml`` of its key."""
    usual = msgspec.structs.asdict(Timing())
    slower = {name: value for name, value in msgspec.structs.asdict(timing).items() if value != usual[name]}
    return {
        "boot": f"{DATA_NET}.0/24",
        "interface": "eth0",
        "management": f"{MANAGEMENT_NET}.0/24",
        "gateway": f"{DATA_NET}.{INFRA_HOST}",
        "pool": POOL,
        "install": INSTALL,
        "bmc_password": "bmc",
        "catalog": "catalog.toml",
        "settings": {
            "give_up_ms": timing.session_timeout_ms * GIVE_UP_PERCENT // 100,
            "zookeeper": {"heap_mib": 64, "java": ["-XX:TieredStopAtLevel=1"]},
            "timing": slower,
        },
    }


def patient(catalog: Path) -> dict[str, object]:
    """A catalog whose services may take as long to start as they do on an emulated processor that starts all at once.

    Raises: InputError if it cannot be read.
    """
    found = read_toml(catalog, "a catalog")
    services = found.get("service", [])
    for service in services if isinstance(services, list) else []:
        service["start_ms_max"] = max(START_MS_MAX, service.get("start_ms_max", 0))
    return found


def take_operator(layout: Layout) -> None:
    """Copy what the operator's commands need from the key, as a person would who has it in another machine.

    Raises: LabFailure if it is not there.
    """
    to = layout.folder / "rack"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(mode=0o700)
    key = layout.case(layout.guests[0]) / "disk.raw"
    _boot_partition("mcopy", key, "-s", "-n", f"::/{OPERATOR}", str(to))
    for path in to.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _boot_partition(program: str, key: Path, *words: str) -> None:
    """Do something with the FAT partition of a key. Raises: LabFailure."""
    boot = parts_of(PROFILES[PROFILE].slot_mb, 0)[1]
    place = ("-i", f"{key}@@{boot.begin}")
    call(("env", "MTOOLS_SKIP_CHECK=1", f"MTOOLSRC={os.devnull}", program, *place, *words), seconds=120)
