"""The rules of design 2.1 as far as they can be seen from outside: each check names its rule when it fails."""

from typing import TYPE_CHECKING

from core import effects as fx
from core.ids import NO_EPOCH, NodeId, RackId, ServiceName
from core.records import (
    LEASES,
    TERMS,
    DomainRecord,
    MemberRecord,
    NodeRecord,
    PowerRecord,
    TermRecord,
    domain_path,
    lease_path,
    member_path,
    node_path,
    power_path,
    term_path,
)
from twin.check.coordination import Coordination
from twin.check.storage import Storage

if TYPE_CHECKING:
    from twin.check.node import Node
    from twin.check.world import World

RACK = RackId("r1")


class RuleBroken(AssertionError):
    """A rule of design 2.1 did not hold; the message begins with ``rule N``."""


def require(rule: int, holds: bool, words: str) -> None:
    if not holds:
        raise RuleBroken(f"rule {rule}: {words}")


def term_in(zk: Coordination, service: str) -> TermRecord | None:
    node = zk.tree.get(term_path(ServiceName(service)))
    return node.data if node is not None and isinstance(node.data, TermRecord) else None


def owner_of_lease(zk: Coordination, service: str) -> int:
    node = zk.tree.get(lease_path(ServiceName(service)))
    return node.owner if node is not None else 0


# -- transactions ------------------------------------------------------------------------------------------------------


def check_commit(world: "World", node: "Node", session: int, before: Coordination, after: Coordination) -> None:
    """Judge what one accepted transaction did to terms and leases."""
    for path, znode in after.tree.items():
        if not path.startswith(TERMS + "/"):
            continue
        known = before.tree.get(path)
        if known is znode:
            continue
        service = path.rsplit("/", 1)[1]
        new = znode.data
        old = known.data if known is not None else TermRecord(epoch=NO_EPOCH)
        assert isinstance(new, TermRecord)
        assert isinstance(old, TermRecord)
        if new.epoch != old.epoch:
            _check_claim(service, session, old, new, before, after)
        else:
            _check_same_epoch(world, node, service, session, old, new, after)
        _check_blocked(world, old, new, before)
    for path, lease in before.tree.items():
        if path.startswith(LEASES + "/") and path not in after.tree:
            require(4, lease.owner == session, f"{path} was removed by a session that does not own it")


def _check_claim(
    service: str, session: int, old: TermRecord, new: TermRecord, before: Coordination, after: Coordination
) -> None:
    require(1, new.epoch == old.epoch + 1, f"epoch of {service} went from {old.epoch} to {new.epoch}")
    free = owner_of_lease(before, service) == 0
    require(1, free and owner_of_lease(after, service) == session, f"{service} was claimed without creating its lease")
    due = (set(old.unfenced) | set(old.identities)) - set(old.released)
    missing = sorted(due - set(new.unfenced))
    require(3, not missing, f"the claim of {service} forgot to fence {missing}")
    require(2, not new.identities, f"the claim of {service} kept identities of the last epoch")


def _check_same_epoch(
    world: "World", node: "Node", service: str, session: int, old: TermRecord, new: TermRecord, after: Coordination
) -> None:
    dropped = [instance for instance in old.unfenced if instance not in new.unfenced]
    for instance in dropped:
        require(3, world.storage.is_fenced(instance), f"{instance} left unfenced before its fence was in force")
        require(6, instance in new.blocked, f"{instance} was fenced but is not kept in blocked")
    added = [instance for instance in new.identities if instance not in old.identities]
    if added:
        require(2, owner_of_lease(after, service) == session, f"identity {added} recorded without the lease")
        require(
            3, not new.unfenced or not dropped_late(old, new), f"identity recorded while {new.unfenced} is unfenced"
        )
    gone = [instance for instance in old.identities if instance not in new.identities]
    for instance in gone:
        kept = instance in new.unfenced or instance in new.released or instance in new.blocked
        require(2, kept, f"{instance} is neither fenced nor released but its identity is forgotten")
    _check_released(world, node, service, old, new, after)


def dropped_late(old: TermRecord, new: TermRecord) -> bool:
    """Whether entries of earlier epochs are still unfenced although an identity is recorded."""
    return any(instance.epoch < new.epoch for instance in new.unfenced) and bool(old.unfenced)


def _check_released(
    world: "World", node: "Node", service: str, old: TermRecord, new: TermRecord, after: Coordination
) -> None:
    freshly = [instance for instance in new.released if instance not in old.released]
    for instance in freshly:
        require(4, instance in old.identities, f"{instance} released but it is no identity of this epoch")
        require(4, instance.node == node.name, f"{instance} released by another node")
        state = world.storage.instances.get(instance)
        require(4, state == "closed", f"{instance} released while it is {state}")
        require(4, owner_of_lease(after, service) == 0, f"{instance} released without giving up the lease")
    lost = [instance for instance in old.released if instance not in new.released]
    require(4, not lost, f"released entries {lost} were wiped")
    if freshly or new.stopped:
        running = node.services.get(service)
        require(4, running is None or not running.running, f"{service} released while it runs")


def _check_blocked(world: "World", old: TermRecord, new: TermRecord, before: Coordination) -> None:
    for instance in old.blocked:
        if instance not in new.blocked:
            _check_new_boot(world, instance.node, instance.boot_id, before, f"{instance} left blocked")


def _check_new_boot(world: "World", name: str, boot_id: str, zk: Coordination, words: str) -> None:
    target = world.by_name(name)
    truly = target is None or target.boot_id() != boot_id or target.power == "off"
    require(6, truly, f"{words} while that boot is alive")
    reported = {boot_id}
    record = zk.tree.get(node_path(NodeId(name)))
    if record is not None and isinstance(record.data, NodeRecord):
        reported.add(record.data.boot_id)
    member = zk.tree.get(member_path(RACK, NodeId(name)))
    if member is not None and isinstance(member.data, MemberRecord):
        reported.add(member.data.boot_id)
    require(6, len(reported) > 1, f"{words} before the hardware reported a new boot")


# -- effects -----------------------------------------------------------------------------------------------------------


def check_effect(world: "World", node: "Node", effect: fx.AnyEffect) -> None:
    """Judge what a machine asks for, at the moment it asks."""
    match effect:
        case fx.Commit():
            _check_first_write(world, node, effect)
        case fx.OpenVolume() | fx.StartService() if effect.service in world.singletons:
            _check_begin(world, node, effect)
        case fx.ResumeService() | fx.AnnounceAddress() if effect.service in world.singletons:
            _check_go_on(world, node, effect)
        case fx.ArmRight():
            _check_right(world, node, effect)
        case fx.LiftBlock():
            words = f"{effect.instance} lifted"
            _check_new_boot(world, effect.instance.node, effect.instance.boot_id, world.zk, words)
        case fx.CloseSession():
            _check_close(world, node, effect)
        case fx.PowerOrder():
            _check_power(world, effect)
        case fx.FenceInstance():
            _check_settled(node, effect)
            require(6, effect.block_ms >= world.options.timing.block_ms, "a fence that expires early")
        case _:
            pass


def _check_first_write(world: "World", node: "Node", commit: fx.Commit) -> None:
    for name, service in node.services.items():
        term = term_in(world.zk, name)
        if term is None or not service.running or service.suspended or term.epoch != service.epoch:
            continue
        words = f"{name} runs on under session {term.session} at the first write of session {commit.session}"
        require(5, term.session == commit.session, words)


def _check_settled(node: "Node", effect: fx.AnyEffect) -> None:
    require(12, not node.unsettled, f"{effect} although the claim of {node.unsettled} was not read back")


def _check_begin(world: "World", node: "Node", effect: fx.OpenVolume | fx.StartService) -> None:
    _check_settled(node, effect)
    require(4, (effect.service, effect.epoch) not in node.gave_away, f"{effect.service} again after its release")
    claim = node.claims.get(effect.service)
    require(1, claim is not None and claim[0] == effect.epoch, f"{effect} without a claim of that epoch")
    assert claim is not None
    term = term_in(world.zk, effect.service)
    current = term is not None and term.epoch == effect.epoch
    if isinstance(effect, fx.OpenVolume):
        waiting = [i for i in term.unfenced if not world.storage.is_fenced(i)] if term is not None and current else []
        require(3, not waiting, f"{effect.service} opens its volume before {waiting} is fenced")
    elif effect.instance is not None:
        require(2, effect.instance in world.zk.recorded, f"{effect.service} starts on unrecorded {effect.instance}")
    else:
        how = world.zk.ended.get(lease_path(effect.service), "")
        clean = how in ("", "expired", "closed by itself") or (how == "removed" and effect.service not in world.volumes)
        waited = world.now - claim[1] >= world.options.timing.no_volume_wait_ms
        require(
            7, clean or waited, f"{effect.service} starts {world.now - claim[1]} ms after a claim; the lease was {how}"
        )


def _check_go_on(world: "World", node: "Node", effect: fx.ResumeService | fx.AnnounceAddress) -> None:
    require(4, (effect.service, effect.epoch) not in node.gave_away, f"{effect.service} again after its release")
    service = node.services.get(effect.service)
    require(1, service is None or service.epoch == effect.epoch, f"{effect} for a service of another epoch")
    claim = node.claims.get(effect.service)
    if isinstance(effect, fx.AnnounceAddress) and claim is not None and claim[2] > 0 and claim[0] == effect.epoch:
        waited = world.now - claim[2]
        require(5, waited >= world.options.timing.admission_ms, f"{effect.service} admits {waited} ms after a fence")


def _check_right(world: "World", node: "Node", effect: fx.ArmRight) -> None:
    timing = world.options.timing
    has_volume = effect.service in world.volumes
    limit = timing.fresh_ms if has_volume else timing.coordination_ms
    asked = [at for (name, _), (epoch, at) in node.evidence.items() if name == effect.service and epoch == effect.epoch]
    words = f"right of {effect.service} armed until {effect.until_ms}, evidence asked at {asked}"
    require(5, bool(asked) and effect.until_ms <= max(asked) + limit, words)


def _check_close(world: "World", node: "Node", effect: fx.CloseSession) -> None:
    entry = world.zk.sessions.get(effect.session)
    if entry is None or entry[0] == node.name:
        return
    target = world.by_name(entry[0])
    assert target is not None
    mark = world.zk.tree.get(power_path(NodeId(target.name)))
    marked = mark is not None and isinstance(mark.data, PowerRecord) and mark.data.closed_session == effect.session
    require(10, marked, f"session {effect.session} of {target.name} closed without a mark for it")
    current = target.power == "up" and target.session == effect.session
    require(10, not current or target.lied, f"session of {target.name} closed though its BMC says on")


def _check_power(world: "World", effect: fx.PowerOrder) -> None:
    znode = world.zk.tree.get(power_path(effect.node))
    known = znode is not None and isinstance(znode.data, PowerRecord) and znode.data.generation >= effect.generation
    require(9, known and effect.generation > 0, f"power order for {effect.node} without a committed generation")
    require(9, effect.deadline_ms > 0, f"power order for {effect.node} without a deadline")
    if effect.action == "on":
        return
    domain = world.zk.tree.get(domain_path(world.domain_of(effect.node)))
    slots = domain.data.slots if domain is not None and isinstance(domain.data, DomainRecord) else ()
    fences = [slot for slot in slots if slot.fence]
    require(8, any(slot.node == effect.node for slot in slots), f"power cycle of {effect.node} without a slot")
    require(8, len(fences) <= 1, f"{len(fences)} power fences in one domain")


# -- states ------------------------------------------------------------------------------------------------------------


def check_state(world: "World") -> None:
    """Judge what clients would see now."""
    storage: Storage = world.storage
    timing = world.options.timing
    for name in world.singletons:
        serving = [node for node in world.nodes if world.serves(node, name)]
        if len(serving) > 1:
            require(5, False, f"{name} is served by {[node.name for node in serving]} at once")
        if name not in world.volumes:
            continue
        for node in serving:
            service = node.services[name]
            for payload in storage.acked:
                if payload not in service.memory:
                    require(5, False, f"{node.name} serves {name} without the acknowledged {payload}")
            asked = [at for (of, _), (epoch, at) in node.evidence.items() if of == name and epoch == service.epoch]
            if world.now >= max(asked, default=0) + timing.fresh_ms + timing.withdraw_ms:
                require(5, False, f"{node.name} serves {name} on evidence asked at {asked}, now {world.now}")


def check_before_tick(world: "World") -> None:
    """Judge what must hold once everything due has happened."""
    timing = world.options.timing
    for node in world.nodes:
        for name, service in node.services.items():
            if name in world.volumes or name not in world.singletons or not service.running:
                continue
            if not node.awake or service.suspended:
                continue
            epoch, asked = node.evidence.get((name, "coordination"), (0, 0))
            age = world.now - asked if epoch == service.epoch else -1
            # The wait before a start is covered by the claim itself, so only a service with beats is judged.
            require(5, age <= timing.coordination_ms, f"{name} runs without its volume on evidence {age} ms old")
