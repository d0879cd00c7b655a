"""A rack with emulated machines: native nodes find the others dark, power them, and have them join by themselves."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from core.errors import InputError
from core.ids import NO_NODE, NodeId
from drivers.bmc import BmcFailure, Limit
from drivers.clock import now_ms
from drivers.inventory import BmcTable, Machine
from drivers.lab import bmcs, network, qemu
from drivers.lab.demolition import demolish
from drivers.lab.lab import Say, boot, check_free, check_machine, connect
from drivers.lab.layout import MACHINES_MAX, Guest, LabFailure, Layout, write_layout
from drivers.lab.machines_build import MachinesPlan, write_files
from drivers.lab.machines_watch import Course, Watch, course_text, machine_in
from drivers.lab.observer import Observer
from drivers.lab.rack import LabRack, bmc_of
from drivers.lab.shell import enter
from drivers.power import open_bmc

Firmware = Literal["bios", "uefi"]

JOIN_MS_MAX = 900_000
LOOK_S = 0.25
SAY_MS = 15_000
ORDER_MS_MAX = 10_000
NATIVE_MIB = 700
"""What native nodes take beside the machines: ZooKeeper, agent, substitute, supervisor, boot service."""
GUEST_EXTRA_MIB = 120
"""What QEMU takes beside a machine's memory. Source: measured, 50 to 115 MB."""


def guests_of(count: int, memory_mib: int, firmware: Firmware) -> tuple[Guest, ...]:
    """So many new machines, in the first slots."""
    return tuple(
        Guest(slot=slot, uuid=str(uuid.uuid4()), memory_mib=memory_mib, firmware=firmware)
        for slot in range(1, count + 1)
    )


def check_guests(guests: tuple[Guest, ...], native: int = 1) -> None:
    """Raises: InputError saying what this machine lacks for these, and how it is got."""
    check_machine(volumes=False, machines=True)
    problems = [line for firmware in sorted({guest.firmware for guest in guests}) for line in qemu.check(firmware)]
    wanted = sum(guest.memory_mib + GUEST_EXTRA_MIB for guest in guests) + NATIVE_MIB * native
    free = free_mib()
    if wanted > free:
        what = f"{len(guests)} machines with {guests[0].memory_mib} MiB each need {wanted} MiB, {free} MiB are free"
        problems.append(f"rack lab: {what}; allowed: fewer machines, or a smaller --memory")
    if problems:
        raise InputError(problems)


def free_mib() -> int:
    """The memory that programs can still have on this machine, in MiB."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


def up(plan: MachinesPlan, say: Say, keep: bool = False) -> Watch:
    """Bring it up from one native node and dark machines, until all have joined; taken away again if that fails.

    ``keep``: leave it as it is even then, for a person to look at.

    Raises: InputError if this machine cannot, LabFailure if something does not work.
    """
    layout = plan.layout
    check_guests(layout.guests, len(layout.nodes))
    check_free(layout)
    with up_or_away(layout, say, keep):
        return _up(plan, say)


@contextmanager
def up_or_away(layout: Layout, say: Say, keep: bool) -> Iterator[None]:
    """Take away what was begun if it does not come up; ``keep``: leave it then, for a person to look at."""
    try:
        yield
    except BaseException:
        if keep:
            say(f"it did not come up; left as it is: rack lab down --name {layout.name} --dir {layout.folder}")
            raise
        say("it did not come up; taking away what was begun")
        demolish(layout.name, layout.folder, layout, say)
        raise


def _up(plan: MachinesPlan, say: Say) -> Watch:
    layout, begun_ms = plan.layout, now_ms()
    write_layout(layout)
    layout.folder.chmod(0o700)
    network.build(layout)
    qemu.route_management(layout)
    enter(layout.client)
    write_files(plan)
    for node in layout.nodes:
        bmcs.start(bmc_of(layout, node))
    for guest in layout.guests:
        qemu.plug_in(layout, guest)
    say(f"{len(layout.guests)} machines are plugged in and dark; image {plan.image.id}")
    rack = connect(layout)
    boot(rack, say)
    watch = Watch(layout, rack.observer)
    wait_joined(watch, say, JOIN_MS_MAX)
    say(f"all {len(layout.guests)} machines joined {(now_ms() - begun_ms) / 1_000:.1f} s after the start")
    for line in course_text(list(watch.courses.values()), begun_ms).splitlines():
        say(line)
    return watch


def wait_joined(watch: Watch, say: Say, ms_max: int) -> None:
    """Say what happens until every machine has joined. Raises: LabFailure naming those that have not."""
    end_ms, said_ms = now_ms() + ms_max, now_ms()
    while not watch.joined:
        for line in watch.look():
            say(line)
            said_ms = now_ms()
        if now_ms() > end_ms:
            raise LabFailure(f"not joined in {ms_max / 1_000:.0f} s: {'; '.join(_still(watch))}")
        if now_ms() - said_ms > SAY_MS:
            said_ms = now_ms()
            say(f"waiting: {'; '.join(_still(watch))}")
        time.sleep(LOOK_S)


def _still(watch: Watch) -> list[str]:
    """What keeps machines from having joined, a few words each."""
    return [_pending(course) for course in watch.courses.values() if "joined" not in course.at]


def _pending(course: Course) -> str:
    name = course.node or course.guest.name
    return f"{name} is {course.state or 'not on record'}, last seen: {course.stage or 'nothing'}"


class Machines:
    """A rack with emulated machines that is up, and what a person does to it, from its clients' namespace."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rack: LabRack = connect(layout)

    @property
    def observer(self) -> Observer:
        """The way to its records."""
        return self.rack.observer

    def add(self, memory_mib: int, firmware: Firmware) -> Guest:
        """Plug one more dark machine in; nobody tells the rack. Raises: InputError, LabFailure."""
        taken = {guest.slot for guest in self.layout.guests}
        slot = next((slot for slot in range(1, MACHINES_MAX + 1) if slot not in taken), 0)
        if not slot:
            raise InputError([f"rack lab machine add: {len(taken)} machines are plugged in; allowed: {MACHINES_MAX}"])
        guest = Guest(slot=slot, uuid=str(uuid.uuid4()), memory_mib=memory_mib, firmware=firmware)
        self._have((*self.layout.guests, guest))
        qemu.plug_in(self.layout, guest)
        return guest

    def replace(self, guest: Guest) -> Guest:
        """Put another machine, with an empty disk, in the slot of this one; its BMC has the address of the old one's.

        Raises: InputError, LabFailure.
        """
        new = msgspec.structs.replace(guest, uuid=str(uuid.uuid4()), age=guest.age + 1)
        qemu.pull_out(self.layout, guest)
        self._have(tuple(new if one.slot == guest.slot else one for one in self.layout.guests))
        qemu.plug_in(self.layout, new)
        return new

    def cut(self, guest: Guest) -> None:
        """Switch a machine off by its BMC, as hard as a power cut. Raises: LabFailure."""
        bmc = qemu.bmc_of(self.layout, guest)
        table = BmcTable(driver="ipmi", address=guest.bmc_address, user=bmc.user, password_file=bmc.password_file)
        driver = open_bmc(Machine(id=guest.name, number=200 + guest.slot, address=guest.bmc_address, bmc=table))
        assert driver is not None
        try:
            with driver.login(Limit(now_ms, now_ms() + ORDER_MS_MAX)) as chassis:
                chassis.switch(on=False)
        except BmcFailure as error:
            raise LabFailure(f"the BMC of {guest.name} at {guest.bmc_address}: {error.detail}") from None
        if not qemu.await_off(self.layout, guest):
            raise LabFailure(f"{guest.name} is on in spite of its BMC")

    def find(self, name: str) -> Guest:
        """The machine of this name, or that is the node of this name. Raises: InputError."""
        names = self.names()
        for guest in self.layout.guests:
            if name in (guest.name, names[guest.name]):
                return guest
        known = ", ".join(f"{guest.name} ({names[guest.name] or 'no node yet'})" for guest in self.layout.guests)
        natives = ", ".join(node.id for node in self.layout.nodes)
        raise InputError([f'rack lab machine: "{name}": no such machine; allowed: {known}; native: {natives}'])

    def names(self) -> dict[str, NodeId]:
        """Which node each machine is; NO_NODE for one that was not found yet."""
        records = self.observer.records()
        found = {guest.name: machine_in(records, guest) for guest in self.layout.guests}
        return {name: machine.node if machine is not None else NO_NODE for name, machine in found.items()}

    def _have(self, guests: tuple[Guest, ...]) -> None:
        self.layout = msgspec.structs.replace(self.layout, guests=guests)
        write_layout(self.layout)


def console_of(layout: Layout, guest: Guest) -> Path:
    """Where everything is kept that a machine ever wrote on its serial port."""
    return layout.case(guest) / "console.log"
