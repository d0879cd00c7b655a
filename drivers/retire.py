"""What ``rack retire`` does beside the node's own record: its machine and certificates are refused, its OSDs forgotten.

The record of the machine says that it is retired; boot servers, join servers and ZooKeeper go by that. The storage
forgets a daemon only when it is down and nothing is lost with it, and only one that is the node's. All of it may be
done again.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from core.errors import InputError
from core.ids import NO_GUID, NodeId
from core.records import AnyRecord, Change, Lifecycle, MachineRecord, NodeRecord, machine_path, node_path
from drivers.access import Access
from drivers.ca import Authority
from drivers.ceph import Ceph, CephError, Osd
from drivers.clock import now_ms

LOOK_S = 2.0
KEPT_MAX = 32
Say = Callable[[str], None]


class Records(Protocol):
    """Reading and writing shared records, as ``drivers.zookeeper_operator.Operator`` does."""

    def read(self, path: str) -> Change: ...

    def put(self, path: str, record: AnyRecord, version: int) -> bool: ...


class Storage(Protocol):
    """What of the storage this needs, as ``drivers.ceph.Ceph`` has it; every method raises CephError."""

    def osds(self) -> tuple[Osd, ...]: ...

    def take_out(self, osds: list[int]) -> None: ...

    def needed(self, osd: int) -> str: ...

    def purge(self, osd: int) -> None: ...

    def forget_host(self, host: str) -> bool: ...


def finish(access: Access, node: NodeId, wait_ms: int, say: Say) -> bool:
    """Do the rest for a node that is retired; whether nothing is left to do. ``say`` takes each news once.

    Raises: InputError if the ensemble cannot be reached.
    """
    from drivers.zookeeper_operator import Operator, Unreachable

    known = _issued(access, node)
    try:
        with Operator(access.config) as operator:
            refuse(operator, node, known, say)
    except Unreachable as error:
        raise InputError(
            [f"the ensemble cannot be reached ({error}); 'rack status' says which servers answer"]
        ) from None
    table = access.config.tables.ceph
    if table is None:
        return True
    ceph = Ceph(table)
    try:
        ceph.connect()
        addresses = {machine.address: other for other, machine in access.config.machines.items()}
        return forget(ceph, node, addresses, wait_ms, say)
    except CephError as error:
        say(f"the storage was left as it is: {error.detail}; once it answers: rack retire {node}")
        return False
    finally:
        ceph.close()


def refuse(records: Records, node: NodeId, known: tuple[str, ...], say: Say) -> bool:
    """Have everybody know that the node's machine is retired, and which certificates are void; whether they will.

    ``known``: serial numbers (hex) of certificates of the node that its record does not list.
    """
    record = records.read(node_path(node)).data
    if not isinstance(record, NodeRecord) or record.state is not Lifecycle.RETIRED:
        return False
    if record.guid == NO_GUID:
        say(f"{node} was never identified by its BMC: nothing but its record is refused; keep it switched off")
        return False
    change = records.read(machine_path(record.guid))
    if not isinstance(change.data, MachineRecord):
        say(f"machine {record.guid} of {node} has no record: nothing but the node's is refused; keep it switched off")
        return False
    void = tuple(dict.fromkeys((*change.data.certificates, *record.certificates, *known)))[-KEPT_MAX:]
    new = msgspec.structs.replace(change.data, retired=True, certificates=void)
    if new != change.data and not records.put(change.path, new, change.version):
        say(f"the record of machine {record.guid} changed meanwhile; once more: rack retire {node}")
        return False
    say(f"machine {record.guid} is refused from now on; {len(void)} certificates of {node} are void within a minute")
    return True


def forget(storage: Storage, node: NodeId, addresses: Mapping[str, NodeId], wait_ms: int, say: Say) -> bool:
    """Purge the OSDs of a retired node as soon as that loses nothing; whether none is left.

    ``addresses``: whose each address is; a daemon that answers from another node's was moved there and stays.
    Raises: CephError.
    """
    until_ms, said, first = now_ms() + wait_ms, dict[int, str](), True
    while True:
        own: list[Osd] = []
        for osd in storage.osds():
            where = addresses.get(osd.address, node)
            if osd.host == node and where == node:
                own.append(osd)
            elif osd.host == node and osd.id not in said:
                said[osd.id] = f"osd.{osd.id} is listed under {node} but runs on {where}: left alone"
                say(said[osd.id])
        if first and own:
            storage.take_out([osd.id for osd in own])
            say(f"out of the storage: {', '.join(f'osd.{osd.id}' for osd in own)}; their data is copied to others")
        first = False
        left = [osd for osd in own if not _purged(storage, osd, said, say)]
        if not left:
            if storage.forget_host(node):
                say(f"{node} is no host of the storage any more")
            return True
        if now_ms() >= until_ms:
            say(f"not done yet; later: rack retire {node} --wait 3600")
            return False
        time.sleep(LOOK_S)


def _purged(storage: Storage, osd: Osd, said: dict[int, str], say: Say) -> bool:
    """Purge one daemon if it may be; whether it was. Why not is said when it changes."""
    needed = "it is up: switch the machine off" if osd.up else storage.needed(osd.id)
    if not needed:
        storage.purge(osd.id)
        say(f"osd.{osd.id} is purged")
        return True
    kind = needed.partition(" ")[0]
    if said.get(osd.id) != kind:
        said[osd.id] = kind
        say(f"osd.{osd.id} waits: {needed}")
    return False


def _issued(access: Access, node: NodeId) -> tuple[str, ...]:
    """Certificates that an authority within reach signed for the node: the one of 'rack init', or this node's own."""
    netboot = access.config.tables.netboot
    folders: list[Path] = [access.file.parent.parent / "ca"]
    folders += [netboot.ca] if netboot is not None else []
    return tuple(serial for folder in folders for serial, name in Authority(folder).issued() if name == node)
