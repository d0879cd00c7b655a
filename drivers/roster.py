"""Machines that were found, as entries of ``config.machines``: from their shared records, kept for the next start.

The inventory counts more than any record: what contradicts it is said, and left out.
"""

import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol
from uuid import UUID

import msgspec

from core.ids import NO_GUID, Guid, NodeId
from core.records import MACHINES, Change, MachineRecord, machine_path
from drivers import log
from drivers.inventory import BmcTable, Inventory, Machine, Machines
from drivers.networks import AccessTable
from drivers.state_file import write_whole

FILE = "roster.json"
"""Its name in ``state_dir``; beside the inventory it is what a node (or an operator) begins with."""
BYTES_MAX = 1 << 20


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    format: int = 1
    machines: tuple[MachineRecord, ...] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All machines of a rack, and what could not be taken for one: a sentence each."""

    machines: dict[NodeId, Machine]
    problems: tuple[str, ...] = ()


class Named(Protocol):
    """What of ``drivers.config.Config`` a roster is about."""

    @property
    def node(self) -> NodeId: ...

    @property
    def machines(self) -> Machines: ...

    @property
    def inventory(self) -> Inventory: ...


class Roster:
    """Keeps ``config.machines`` like the records of machines. For one thread; ``problems`` may be read by any.

    ``folder``: where it is kept, None: nowhere. ``told`` is called with all records after each change. ``quiet``:
    nothing goes to the log, where a person sees the problems anyhow.
    """

    def __init__(
        self,
        config: Named,
        folder: Path | None = None,
        told: Callable[[tuple[MachineRecord, ...]], None] = lambda _: None,
        *,
        quiet: bool = False,
    ) -> None:
        self._log = (lambda *_, **__: None) if quiet else log.event
        self._config = config
        self._folder = folder
        self._told = told
        self._seen: dict[str, int] = {}
        self._records: dict[Guid, MachineRecord] = {}
        if folder is not None:
            self._records = {record.guid: record for record in read(folder) or ()}
        self.problems: tuple[str, ...] = ()
        self._apply()

    @property
    def records(self) -> tuple[MachineRecord, ...]:
        """The records of machines that are nodes, in order of their identity."""
        return tuple(record for _, record in sorted(self._records.items()) if record.node)

    @property
    def known(self) -> tuple[MachineRecord, ...]:
        """All records of machines, also of those that are no nodes (yet). May be read by any thread."""
        return tuple(self._records.values())

    def take(self, changes: Iterable[Change], roots: tuple[str, ...] = ()) -> bool:
        """Follow changes of records, of which others than those of machines are left alone; whether anything changed.

        ``roots``: what is at or below them and not among the changes is gone, as in ``core.events.RecordsChanged``.
        """
        before = self.records
        listed: set[str] = set()
        for change in changes:
            if change.path.startswith(MACHINES + "/"):
                listed.add(change.path)
                self._take_one(change)
        for guid in tuple(self._records):
            path = machine_path(guid)
            if path not in listed and any(path == root or path.startswith(root + "/") for root in roots):
                self._forget(guid)
        return self._changed(before)

    def replace(self, records: Iterable[MachineRecord]) -> bool:
        """Have exactly these records; whether anything changed."""
        before = self.records
        self._records = {record.guid: record for record in records}
        return self._changed(before)

    def _take_one(self, change: Change) -> None:
        if change.zxid < self._seen.get(change.path, 0):
            return
        self._seen[change.path] = change.zxid
        guid = Guid(change.path.removeprefix(MACHINES + "/"))
        if isinstance(change.data, MachineRecord) and change.data.guid == guid:
            self._records = self._records | {guid: change.data}
        else:
            self._forget(guid)

    def _forget(self, guid: Guid) -> None:
        self._records = {known: record for known, record in self._records.items() if known != guid}

    def _changed(self, before: tuple[MachineRecord, ...]) -> bool:
        now = self.records
        if now == before:
            return False
        self._apply()
        self._keep()
        self._told(now)
        return True

    def _apply(self) -> None:
        config = self._config
        found = with_found(config.inventory, self.records, config.node)
        if config.node in config.machines:
            found.machines.setdefault(config.node, config.machines[config.node])  # it runs: it cannot be gone
        if found.machines != dict(config.machines):
            config.machines.replace(found.machines)
        for problem in found.problems:
            if problem not in self.problems:
                self._log("machine_left_out", problem=problem)
        self.problems = found.problems

    def _keep(self) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / FILE, encode(self.records))
        except OSError as error:
            self._log("not_written", path=str(self._folder / FILE), error=str(error))


def encode(records: Iterable[MachineRecord]) -> bytes:
    """Write records as ``FILE`` has them."""
    return msgspec.json.format(msgspec.json.encode(_Kept(machines=tuple(records))), indent=1) + b"\n"


def read(folder: Path) -> tuple[MachineRecord, ...] | None:
    """Read the records that are kept in a folder; None if there are none that can be read."""
    path = folder / FILE
    try:
        if path.stat().st_size > BYTES_MAX:
            return None
        return msgspec.json.decode(path.read_bytes(), type=_Kept).machines
    except (OSError, msgspec.DecodeError):
        return None  # the rack itself knows better, and will tell


def restored(inventory: Inventory, own: NodeId, *folders: Path) -> dict[NodeId, Machine]:
    """The machines of an inventory and those that the first of these folders with such a file knows of.

    ``own``: the node that this is for. A file that does not know it is no use to a node that was found itself: then the
    next one counts.
    """
    kept = [records for folder in folders if (records := read(folder)) is not None]
    found = [with_found(inventory, records, own).machines for records in (*kept, ())]
    return next((machines for machines in found if own in machines), found[0])


def with_found(inventory: Inventory, records: Iterable[MachineRecord], own: NodeId) -> Found:
    """Put the machines of an inventory and those that were found together.

    ``own`` is this machine itself, whose size is measured; that of others is known from what they say as members.
    """
    machines = dict(inventory.machines)
    addresses = {machine.address: node for node, machine in machines.items()}
    numbers = {machine.number: node for node, machine in machines.items()}
    problems: list[str] = []
    for record in sorted(records, key=lambda one: (one.number, one.guid)):
        listed = inventory.machines.get(record.node)
        if listed is not None:
            machines[record.node], problem = _as_listed(listed, record, inventory)
        else:
            machine, problem = _made(record, inventory, own)
            if machine is not None and machine.id not in machines:
                there = numbers.get(machine.number) or addresses.get(machine.address)
                if there is not None:
                    problem = f"number {machine.number} or address {machine.address} is {there}'s"
                else:
                    machines[record.node] = machine
                    numbers[machine.number] = addresses[machine.address] = record.node
            elif machine is not None:
                problem = f"another machine is {record.node} already"
        if problem:
            problems.append(f"{record.node} (machine {record.guid} at BMC {record.bmc}): {problem}")
    return Found(machines=machines, problems=tuple(problems))


def bmc_table(inventory: Inventory, bmc: str, access: str) -> BmcTable | None:
    """What a BMC at ``ADDRESS:PORT`` is called with; None if nothing of that name is given for its network."""
    address, port = address_and_port(bmc)
    for network in inventory.networks:
        if network.has(address):
            for one in network.access:
                if one.name == access:
                    return table_of(one, address, port)
    return None


def table_of(access: AccessTable, address: str, port: int) -> BmcTable:
    """What one BMC is called with."""
    return BmcTable(
        driver=access.driver,
        address=address,
        port=port or access.at_port,
        user=access.user,
        password_file=access.password_file,
        ca=access.ca,
        tls=access.tls,
    )


def address_and_port(bmc: str) -> tuple[str, int]:
    """Take ``ADDRESS:PORT`` apart; the port is 0 if there is none."""
    address, _, port = bmc.rpartition(":")
    address = address.strip("[]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return bmc.strip("[]"), 0
    return address, int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0


def _as_listed(listed: Machine, record: MachineRecord, inventory: Inventory) -> tuple[Machine, str]:
    """A machine of the inventory with what was found out about it: its identity, and a way to its BMC."""
    if record.number and record.number != listed.number:
        return listed, f"was found with number {record.number}; the inventory says {listed.number}, which counts"
    if not listed.uuid:
        listed = msgspec.structs.replace(listed, uuid=_uuid(record.guid))
    if listed.bmc.driver == "none" and record.access and not record.retired:
        table = bmc_table(inventory, record.bmc, record.access)
        if table is not None:
            listed = msgspec.structs.replace(listed, bmc=table)
    return listed, ""


def _made(record: MachineRecord, inventory: Inventory, own: NodeId) -> tuple[Machine | None, str]:
    """The machine of a record; or None, and why there is none. A machine may have a problem and be one all the same."""
    if not record.node:
        return None, ""
    if inventory.boot is None:
        return None, "the inventory has no [boot] table, so it has no address"
    forbidden = inventory.boot.forbids(record.number)
    if forbidden:
        return None, forbidden
    table = None if record.retired else bmc_table(inventory, record.bmc, record.access)
    problem = ""
    if table is None and record.bmc and not record.retired:
        problem = f'no [[network]] has its BMC and an access "{record.access}"'
    fields: dict[str, object] = {
        "id": record.node,
        "number": record.number,
        "address": inventory.boot.address_of(record.number),
        "rack": record.rack,
        "power_domain": record.power_domain,
        "uuid": _uuid(record.guid),
        **(_size() if record.node == own else {}),
    }
    try:
        machine = msgspec.convert(fields, Machine)
    except msgspec.ValidationError as error:
        return None, f"its record says what no node can be: {error}"
    return (machine if table is None else msgspec.structs.replace(machine, bmc=table)), problem


def _uuid(guid: Guid) -> str:
    try:
        return str(UUID(guid)) if guid != NO_GUID else ""
    except ValueError:
        return ""


def _size() -> dict[str, object]:
    """What this machine has."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cores": min(os.cpu_count() or 1, 4_096), "memory_gib": min(max(memory_bytes >> 30, 1), 65_536)}


def learn(config: Named, records: Mapping[str, Change], folder: Path | None) -> tuple[str, ...]:
    """Have the machines of all shared ``records`` in ``config``; what could not be taken, a sentence each.

    ``folder``: where they are kept for the next time, None: nowhere.
    """
    roster = Roster(config, folder, quiet=True)
    roster.take(records.values(), (MACHINES,))
    return roster.problems
