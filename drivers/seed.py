"""The first shared records of a rack: containers with their access lists, its size, and its services."""

from typing import Protocol

import msgspec

from core.errors import InputError
from core.records import CLUSTER, AnyRecord, Change, ClusterRecord, ServiceRecord, service_path
from drivers.access import Access
from drivers.ceph import Ceph, CephError
from drivers.config import Config
from drivers.zookeeper_operator import ANSWER_MS_MAX, Operator, Unreachable

ENSEMBLE_SIZES = (5, 3, 1)


class Writer(Protocol):
    """What seeding needs of ``Operator``."""

    def prepare(self) -> tuple[str, ...]: ...

    def read(self, path: str) -> Change: ...

    def create(self, path: str, record: AnyRecord) -> bool: ...

    def put(self, path: str, record: AnyRecord, version: int) -> bool: ...


def ensemble_size(nodes: int) -> int:
    """How many voters a rack of so many nodes is to grow to: 5, 3 or 1."""
    return next(size for size in ENSEMBLE_SIZES if size <= max(nodes, 1))


def ensemble_goal(config: Config) -> int:
    """How many voters this rack is to grow to: the most, where machines that nobody listed are found and join."""
    return ENSEMBLE_SIZES[0] if config.inventory.networks else ensemble_size(len(config.machines))


def seed(operator: Writer, config: Config) -> tuple[str, ...]:
    """Write what is missing and say what was done, one sentence each; again is harmless.

    Lifecycle records are not among them: nodes and stewards write those from the inventory. A service whose spec
    differs from the catalog's is set to the catalog's.
    """
    said = [f"made {path}" for path in operator.prepare()]
    wanted: dict[str, AnyRecord] = {CLUSTER: ClusterRecord(ensemble_size=ensemble_goal(config))}
    wanted |= {service_path(spec.name): ServiceRecord(spec=spec) for spec in config.catalog.specs}
    for path, record in wanted.items():
        change = operator.read(path)
        if change.data is None and operator.create(path, record):
            said.append(f"wrote {path}")
            continue
        change = operator.read(path)
        new = _kept(change.data, record)
        if new != change.data and operator.put(path, new, change.version):
            said.append(f"changed {path}")
    return tuple(said)


def make_volumes(config: Config) -> tuple[str, ...]:
    """Make the images of the catalog's volumes that are not there yet; nothing else ever makes one.

    An agent that finds no image fails to open it: an empty database in place of a lost one would be worse.

    Raises: InputError if the storage cannot be reached.
    """
    table, wanted = config.tables.ceph, [spec.volume for spec in config.catalog.specs if spec.volume]
    if not wanted:
        return ()
    if table is None:
        return (f"did not make {', '.join(wanted)}: {config.file} has no [ceph] table; make them with rbd create",)
    ceph = Ceph(table)
    try:
        ceph.connect()
        made = [volume for volume in wanted if ceph.ensure_volume(volume, table.volume_mib << 20)]
    except CephError as error:
        raise InputError(
            [f"{config.file}: [ceph]: {error.detail}; needed: a storage that answers client.{table.user}"]
        ) from None
    finally:
        ceph.close()
    return tuple(f"made volume {volume} of {table.volume_mib} MiB" for volume in made)


def _kept(old: AnyRecord | None, new: AnyRecord) -> AnyRecord:
    """The new record with what the rack itself keeps in the old one."""
    if isinstance(old, ClusterRecord) and isinstance(new, ClusterRecord):
        return msgspec.structs.replace(old, ensemble_size=new.ensemble_size)
    return new


def seed_rack(access: Access) -> tuple[str, ...]:
    """Seed the rack that an operator's file leads to; the sentences in order.

    Raises: InputError if the ensemble cannot be reached, or this certificate may not write.
    """
    try:
        with Operator(access.config, max(ANSWER_MS_MAX, access.config.timing.session_timeout_ms)) as operator:
            said = seed(operator, access.config)
            said += make_volumes(access.config)
    except Unreachable as error:
        remedy = "start 'rack supervisor' on the first node, and wait until 'rack status' answers"
        raise InputError([f"the ensemble cannot be reached ({error}); {remedy}"]) from None
    return said or ("everything is there already",)
