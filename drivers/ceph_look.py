"""What the storage says of itself, as ``drivers.ceph_growth`` wants it: a few questions to monitors, one to a manager.

The figures of placement groups lag the map by up to two seconds. So a group counts as whole only if the copies that it
names are as many as its pool keeps by the map. Source: facts/ceph.md section 5.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from core.ids import NodeId
from drivers.ceph import Ceph, CephError
from drivers.ceph_growth import Cluster, Pool, unfinished

REPLICATED = 1
"""A pool's type in the map; 3 is erasure-coded, which has no copies to raise. Source: Ceph 16, osd_types.h."""
ANSWER_MS_MAX = 5_000
GROUPS_MAX = 100_000


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look. ``mon_host``: where the monitors are, as a configuration names them; ``osds``: identity by number."""

    cluster: Cluster
    fsid: str
    mon_host: str
    osds: Mapping[int, str]


def look(ceph: Ceph, voters: Iterable[NodeId], retired: Iterable[NodeId]) -> Seen:
    """Ask the storage. Raises: CephError, also if an answer is none that this version knows."""
    try:
        return _look(ceph, tuple(voters), tuple(retired))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CephError("failed", f"an answer of the storage is not understood: {error!r}") from None


def _look(ceph: Ceph, voters: tuple[NodeId, ...], retired: tuple[NodeId, ...]) -> Seen:
    quorum = ceph.command("quorum_status", ms_max=ANSWER_MS_MAX)
    dump = ceph.command("osd dump", ms_max=ANSWER_MS_MAX)
    managers = ceph.command("mgr dump", ms_max=ANSWER_MS_MAX)
    monmap = quorum["monmap"]
    there = {int(osd["osd"]) for osd in dump["osds"] if osd["up"] and osd["in"]}
    tree = ceph.command("osd tree", ms_max=ANSWER_MS_MAX)["nodes"]
    hosts = [NodeId(one["name"]) for one in tree if one["type"] == "host" and there & set(one["children"])]
    names = [managers["active_name"], *(one["name"] for one in managers["standbys"])]
    cluster = Cluster(
        hosts=tuple(sorted(hosts)),
        monitors=tuple(sorted(NodeId(one["name"]) for one in monmap["mons"])),
        quorum=tuple(sorted(NodeId(name) for name in quorum["quorum_names"])),
        leader=NodeId(quorum["quorum_leader_name"]),
        managers=tuple(sorted(name for name in names if name)),
        pools=_pools(dump, []),
        voters=voters,
        retired=retired,
    )
    if unfinished(cluster):
        cluster = msgspec.structs.replace(cluster, pools=_pools(dump, _groups(ceph)))
    return Seen(
        cluster=cluster,
        fsid=str(monmap["fsid"]),
        mon_host=",".join(_address(one) for one in sorted(monmap["mons"], key=lambda one: str(one["name"]))),
        osds={int(osd["osd"]): str(osd["uuid"]) for osd in dump["osds"]},
    )


def _address(monitor: Mapping[str, Any]) -> str:
    """Both addresses of a monitor in one word of ``mon_host``."""
    found = ",".join(f"{one['type']}:{one['addr']}" for one in monitor["public_addrs"]["addrvec"])
    return f"[{found}]"


def _groups(ceph: Ceph) -> list[Mapping[str, Any]]:
    """The placement groups with their states; none while no manager answers: then nothing counts as whole."""
    try:
        said = ceph.command("pg dump", target="mgr", ms_max=ANSWER_MS_MAX, dumpcontents=["pgs_brief"])
    except CephError:
        return []
    found = said["pg_stats"] if isinstance(said, dict) else said
    return list(found[:GROUPS_MAX]) if isinstance(found, list) else []


def _pools(dump: Mapping[str, Any], groups: list[Mapping[str, Any]]) -> tuple[Pool, ...]:
    found = []
    for pool in sorted(dump["pools"], key=lambda one: int(one["pool"])):
        if pool["type"] != REPLICATED:
            continue
        size = int(pool["size"])
        own = [one for one in groups if str(one["pgid"]).partition(".")[0] == str(pool["pool"])]
        whole = sum(1 for one in own if one["state"] == "active+clean" and len(set(one["acting"])) == size)
        found.append(
            Pool(
                name=str(pool["pool_name"]),
                size=size,
                min_size=int(pool["min_size"]),
                groups=int(pool["pg_num"]),
                whole=whole,
            )
        )
    return tuple(found)
