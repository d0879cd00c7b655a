"""What ``rack status`` shows of a storage that grows with its rack: how far it is, and what it waits for."""

import msgspec

from core.records import Lifecycle
from drivers.ceph import Ceph, CephError
from drivers.ceph_growth import Cluster, changes
from drivers.ceph_look import look
from drivers.config import Config
from drivers.rack_state import RackState

SERVICE = "storage"
"""The service of the catalog that makes a rack's own storage grow."""
CONNECT_MS_MAX = 2_000


def with_storage(config: Config, rack: RackState) -> RackState:
    """Add what the storage says of itself, where it is the rack's own."""
    if config.tables.ceph is None or SERVICE not in config.catalog.names:
        return rack
    return msgspec.structs.replace(rack, storage=_asked(config, rack))


def storage_lines(cluster: Cluster) -> tuple[str, ...]:
    """Say how a storage is, and what it waits for; a sentence each."""
    said = [f"{len(cluster.quorum)} of {_many(len(cluster.monitors), 'monitor')} agree: {' '.join(cluster.quorum)}"]
    said.append(f"disks on {_many(len(cluster.hosts), 'node')}: {' '.join(cluster.hosts[:12]) or 'none'}")
    for pool in cluster.pools:
        size = f"{pool.size} {'copy' if pool.size == 1 else 'copies'}"
        said.append(f"pool {pool.name}: {size}, a write needs {pool.min_size}")
    return (*said, *changes(cluster).waits)


def _many(count: int, of: str) -> str:
    return f"{count} {of}" if count == 1 else f"{count} {of}s"


def _asked(config: Config, rack: RackState) -> tuple[str, ...]:
    assert config.tables.ceph is not None
    voters = rack.ensemble.voters if rack.ensemble is not None else ()
    retired = [node for node, life in sorted(rack.lives.items()) if life.state is Lifecycle.RETIRED]
    conf = config.tables.ceph.conf
    if not conf.exists():  # an operator's folder that was carried elsewhere
        return (f"cannot be asked from this machine, which has no {conf}; a node of the rack has it",)
    ceph = Ceph(config.tables.ceph)
    try:
        ceph.connect(CONNECT_MS_MAX)
        return storage_lines(look(ceph, voters, retired).cluster)
    except CephError as error:
        return (f"cannot be asked: {error.detail}",)
    finally:
        ceph.close()
