"""What ``rack retire`` does beside the node's own record: its machine and certificates are refused, its OSDs forgotten.

The record of the machine says that it is retired; boot servers and join servers go by that. ZooKeeper goes by the list
of void certificates (``drivers.void``). The storage forgets a daemon only when it is down and nothing is lost with it,
and only one that is the node's. All of it may be done again.
"""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from core.errors import InputError
from core.ids import NO_GUID, NodeId
from core.records import AnyRecord, Change, Lifecycle, MachineRecord, NodeRecord, machine_path, node_path
from drivers.access import Access
from drivers.ceph import Ceph, CephError, Osd
from drivers.ceph_growth import can_go
from drivers.clock import now_ms
from drivers.void import issued, void_list

LOOK_S = 2.0
KEPT_MAX = 32
NO_OSD = -1
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

    def monitors(self) -> tuple[tuple[str, ...], tuple[str, ...]]: ...

    def remove_monitor(self, name: str) -> None: ...


def finish(access: Access, node: NodeId, wait_ms: int, say: Say) -> bool:
    """Do the rest for a node that is retired; whether nothing is left to do. ``say`` takes each news once.

    Raises: InputError if the ensemble cannot be reached.
    """
    from drivers.zookeeper_operator import Operator, Unreachable

    try:
        with Operator(access.config) as operator:
            refused = refuse(operator, node, issued(access, node), say)
            void = void_list(operator, access, node, say)
    except Unreachable as error:
        raise InputError(
            [f"the ensemble cannot be reached ({error}); 'rack status' says which servers answer"]
        ) from None
    table = access.config.tables.ceph
    if table is None:
        return refused and void
    ceph = Ceph(table)
    try:
        ceph.connect()
        addresses = {machine.address: other for other, machine in access.config.machines.items()}
        return forget(ceph, node, addresses, wait_ms, say) and refused and void
    except CephError as error:
        say(f"the storage was left as it is: {error.detail}; once it answers: rack retire {node}")
        return False
    finally:
        ceph.close()


def take_back(access: Access, node: NodeId, say: Say) -> bool:
    """Have a released node's certificates count again, where a list of void ones was published; whether they do.

    Raises: InputError if the ensemble cannot be reached.
    """
    from drivers.zookeeper_operator import Operator, Unreachable

    try:
        with Operator(access.config) as operator:
            return void_list(operator, access, node, say)
    except Unreachable as error:
        raise InputError([f"the ensemble cannot be reached ({error}); then once more: rack release {node}"]) from None


def refuse(records: Records, node: NodeId, known: tuple[str, ...], say: Say) -> bool:
    """Have everybody know that a node is retired: its machine, and the certificates it had; whether that is written.

    ``known``: serial numbers (hex) of certificates of the node that its record does not list.
    """
    own = records.read(node_path(node))
    record = own.data
    if not isinstance(record, NodeRecord) or record.state is not Lifecycle.RETIRED:
        return False
    void = tuple(dict.fromkeys((*record.certificates, *known)))[-KEPT_MAX:]
    if void != record.certificates:
        kept = msgspec.structs.replace(record, certificates=void)
        if not records.put(own.path, kept, own.version):
            say(f"the record of {node} changed meanwhile; once more: rack retire {node}")
            return False
    change = records.read(machine_path(record.guid)) if record.guid != NO_GUID else None
    if change is None or not isinstance(change.data, MachineRecord):
        say(f"{node} was never identified by its BMC, so no machine can be refused, only certificates: keep it off")
        return True
    void = tuple(dict.fromkeys((*change.data.certificates, *void)))[-KEPT_MAX:]
    new = msgspec.structs.replace(change.data, retired=True, certificates=void)
    if new != change.data and not records.put(change.path, new, change.version):
        say(f"the record of machine {record.guid} changed meanwhile; once more: rack retire {node}")
        return False
    say(f"machine {record.guid} is refused from now on, by whoever boots others and with {len(void)} certificates")
    return True


def forget(storage: Storage, node: NodeId, addresses: Mapping[str, NodeId], wait_ms: int, say: Say) -> bool:
    """Purge the OSDs of a retired node as soon as that loses nothing, and its monitor; whether none is left.

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
        if _without_monitor(storage, node, said, say) and not left:
            if storage.forget_host(node):
                say(f"{node} is no host of the storage any more")
            return True
        if now_ms() >= until_ms:
            say(f"not done yet; later: rack retire {node} --wait 3600")
            return False
        time.sleep(LOOK_S)


def _without_monitor(storage: Storage, node: NodeId, said: dict[int, str], say: Say) -> bool:
    """Remove the monitor of a node if the others have a quorum without it; whether it has none."""
    monitors, quorum = storage.monitors()
    if node not in monitors:
        return True
    if can_go(node, map(NodeId, monitors), map(NodeId, quorum)):
        storage.remove_monitor(node)
        say(f"the monitor of {node} is removed")
        return True
    if NO_OSD not in said:
        said[NO_OSD] = f"the monitor of {node} waits: {len(quorum)} of {len(monitors)} agree, too few without it"
        say(said[NO_OSD])
    return False


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
