"""What an operator's change does to a map, with the ids that Ceph itself would give to what is new."""

from collections.abc import Sequence

import msgspec
import numpy as np

from core.errors import InputError
from twin.crush.map import ONE, Choice, Choose
from twin.crush.osdmap import OsdMap, OsdState
from twin.crush.tree import Tree, free_rule

_TEBI = 1 << 40


def crush_weight(size_bytes: int) -> int:
    """Compute the CRUSH weight (16.16) that an OSD on a disk of this size gives itself when it starts.

    Source: ``OSD::update_crush_location`` of Ceph 16.2: tebibytes, printed with four decimals, read as a float.
    """
    shown = f"{max(0.00001, size_bytes / _TEBI):.4f}"
    return int(np.float32(shown) * np.float32(ONE))


def add_host(osdmap: OsdMap, name: str, osds: Sequence[tuple[str, int]], parent: str) -> OsdMap:
    """Add a host with OSDs, given as (device class or "", CRUSH weight in 16.16), below a bucket.

    The OSDs are up and in, and get the lowest free ids. The host gets the first free bucket id, once the first
    OSD's class has its shadows; then come the host's own shadows, by class.

    Raises: InputError if the name is taken, the parent does not exist, or there is no type "host".
    """
    tree = Tree(osdmap.crush)
    above = tree.bucket(parent, "parent")
    ids = _free_osds(osdmap, len(osds))
    if osds:
        tree.add_device(ids[0], osds[0][0])
    tree.add_bucket(name, tree.type_of("host", "type"), above, filled=bool(osds))
    return _with_osds(osdmap, tree, name, ids, osds)


def add_osds(osdmap: OsdMap, host: str, osds: Sequence[tuple[str, int]]) -> OsdMap:
    """Add OSDs, given as (device class or "", CRUSH weight in 16.16), to a host that is there.

    Raises: InputError if there is no such host.
    """
    return _with_osds(osdmap, Tree(osdmap.crush), host, _free_osds(osdmap, len(osds)), osds)


def add_bucket(osdmap: OsdMap, name: str, type_name: str, parent: str) -> OsdMap:
    """Add an empty bucket of a type, such as a rack, below another one.

    Raises: InputError if the name is taken, or the type or the parent does not exist.
    """
    tree = Tree(osdmap.crush)
    tree.add_bucket(name, tree.type_of(type_name, "type"), tree.bucket(parent, "parent"), filled=False)
    return _made(osdmap, tree)


def remove_osds(osdmap: OsdMap, osds: Sequence[int]) -> OsdMap:
    """Remove OSDs for good (``ceph osd purge``); their hosts stay, if need be empty.

    Raises: InputError if one does not exist.
    """
    tree = Tree(osdmap.crush)
    for osd in _checked(osdmap, osds):
        tree.remove_device(osd)
    states = tuple(state for state in osdmap.osds if state.id not in osds)
    return msgspec.structs.replace(_made(osdmap, tree), osds=states, max_osd=_osd_count(osdmap))


def remove_bucket(osdmap: OsdMap, name: str) -> OsdMap:
    """Remove a bucket, a host or a rack, with all OSDs below it.

    Raises: InputError if there is none of that name, or a rule starts from it.
    """
    tree = Tree(osdmap.crush)
    order = [tree.bucket(name, "name")]
    for bucket in order:  # it grows: first the bucket, then all below
        order += [tree.buckets[item] for item in bucket.items if item < 0]
    gone = {item for bucket in order for item in bucket.items if item >= 0}
    for osd in sorted(gone):
        tree.remove_device(osd)
    for bucket in reversed(order):
        tree.remove_bucket(tree.buckets[bucket.id])
    states = tuple(state for state in osdmap.osds if state.id not in gone)
    return msgspec.structs.replace(_made(osdmap, tree), osds=states, max_osd=_osd_count(osdmap))


def move_bucket(osdmap: OsdMap, name: str, parent: str) -> OsdMap:
    """Move a bucket, such as a host to another rack, with all it holds; one that is there already stays as it is.

    Raises: InputError if either does not exist, or the bucket would hold itself.
    """
    tree = Tree(osdmap.crush)
    bucket, above = tree.bucket(name, "name"), tree.bucket(parent, "parent")
    if bucket.id in above.items:
        return osdmap
    tree.move(bucket, above)
    return _made(osdmap, tree)


def reweight_device(osdmap: OsdMap, osd: int, weight: int) -> OsdMap:
    """Change an OSD's CRUSH weight (16.16), and with it those of all buckets above it.

    Raises: InputError if there is no such OSD or the weight is below 0.
    """
    if not 0 <= weight < 1 << 32:
        raise InputError([f"weight = {weight}: allowed: 0 to {(1 << 32) - 1} (16.16 fixed point)"])
    tree = Tree(osdmap.crush)
    tree.weigh(_checked(osdmap, [osd])[0], weight)
    return _made(osdmap, tree)


def set_class(osdmap: OsdMap, osds: Sequence[int], device_class: str) -> OsdMap:
    """Change the device class of OSDs. Raises: InputError if one does not exist."""
    tree = Tree(osdmap.crush)
    for osd in _checked(osdmap, osds):
        tree.set_class(osd, device_class)
    return _made(osdmap, tree)


def set_reweight(osdmap: OsdMap, osds: Sequence[int], reweight: int) -> OsdMap:
    """Set the reweight of OSDs: ``ONE`` is in, 0 is out, between them an OSD refuses a part of what CRUSH gives it.

    Raises: InputError if an OSD does not exist or the reweight is not from 0 to ``ONE``.
    """
    if not 0 <= reweight <= ONE:
        raise InputError([f"reweight = {reweight}: allowed: 0 to {ONE} (16.16 fixed point)"])
    wanted = set(_checked(osdmap, osds))
    states = tuple(
        msgspec.structs.replace(state, reweight=reweight) if state.id in wanted else state for state in osdmap.osds
    )
    return msgspec.structs.replace(osdmap, osds=states, epoch=osdmap.epoch + 1)


def set_out(osdmap: OsdMap, osds: Sequence[int]) -> OsdMap:
    """Mark OSDs out: they are to give away what they hold. Raises: InputError if one does not exist."""
    return set_reweight(osdmap, osds, 0)


def set_up(osdmap: OsdMap, osds: Sequence[int], up: bool) -> OsdMap:
    """Mark OSDs up or down: what a down one holds stays its own. Raises: InputError if one does not exist."""
    wanted = set(_checked(osdmap, osds))
    states = tuple(msgspec.structs.replace(state, up=up) if state.id in wanted else state for state in osdmap.osds)
    return msgspec.structs.replace(osdmap, osds=states, epoch=osdmap.epoch + 1)


def change_failure_domain(osdmap: OsdMap, pool: int, type_name: str) -> OsdMap:
    """Let a pool spread its replicas over another type of bucket: by a new rule, like its old one but for that type.

    Raises: InputError if there is no such pool or type, or the rule chooses in more than one step.
    """
    tree = Tree(osdmap.crush)
    type_id = tree.type_of(type_name, "failure domain")
    found = [one for one in osdmap.pools if one.id == pool]
    if not found:
        raise InputError([f"pool = {pool}: allowed: {', '.join(str(one.id) for one in osdmap.pools) or 'none'}"])
    old = next(rule for rule in tree.rules if rule.id == found[0].rule)
    if sum(isinstance(step, Choose) for step in old.steps) != 1:
        raise InputError([f'rule "{old.name}": it chooses in several steps; only a rule with one can be changed'])
    steps = tuple(_spread(step, type_id) if isinstance(step, Choose) else step for step in old.steps)
    name = f"{old.name}-{type_name}"
    same = [rule for rule in tree.rules if rule.steps == steps and rule.type_id == old.type_id]
    new = (
        same[0] if same else msgspec.structs.replace(old, id=free_rule(tree.rules), name=_new(name, tree), steps=steps)
    )
    if not same:
        tree.rules = sorted([*tree.rules, new], key=lambda rule: rule.id)
    pools = tuple(msgspec.structs.replace(one, rule=new.id) if one.id == pool else one for one in osdmap.pools)
    return msgspec.structs.replace(_made(osdmap, tree), pools=pools)


def _spread(step: Choose, type_id: int) -> Choose:
    how: Choice = "chooseleaf_firstn" if step.how.endswith("firstn") else "chooseleaf_indep"
    return Choose(how=how, num=step.num, type_id=type_id)


def _new(name: str, tree: Tree) -> str:
    taken = {rule.name for rule in tree.rules}
    return next(one for at in range(len(taken) + 1) if (one := name if at == 0 else f"{name}-{at + 1}") not in taken)


def _with_osds(osdmap: OsdMap, tree: Tree, host: str, ids: Sequence[int], osds: Sequence[tuple[str, int]]) -> OsdMap:
    parent = tree.bucket(host, "host").id
    for number, (device_class, weight) in zip(ids, osds, strict=True):
        tree.add_device(number, device_class)
        tree.insert(number, parent, weight)
    states = sorted([*osdmap.osds, *(OsdState(id=number) for number in ids)], key=lambda state: state.id)
    count = max([_osd_count(osdmap), *(number + 1 for number in ids)])
    return msgspec.structs.replace(_made(osdmap, tree), osds=tuple(states), max_osd=count)


def _made(osdmap: OsdMap, tree: Tree) -> OsdMap:
    return msgspec.structs.replace(osdmap, crush=tree.made(), epoch=osdmap.epoch + 1)


def _free_osds(osdmap: OsdMap, count: int) -> list[int]:
    """The ids that the monitors give to new OSDs: the lowest that do not exist."""
    taken = {state.id for state in osdmap.osds}
    return [number for number in range(len(taken) + count) if number not in taken][:count]


def _checked(osdmap: OsdMap, osds: Sequence[int]) -> Sequence[int]:
    known = {state.id for state in osdmap.osds}
    if unknown := [osd for osd in osds if osd not in known]:
        names = ", ".join(f"osd.{osd}" for osd in unknown[:20])
        raise InputError([f"{names}: no such OSD; there are {len(known)}, the last is osd.{max(known, default=-1)}"])
    return osds


def _osd_count(osdmap: OsdMap) -> int:
    return max(osdmap.max_osd, max((state.id + 1 for state in osdmap.osds), default=0))
