"""What may happen next in a small world."""

from core import effects as fx
from core.records import Instance
from twin.check import faults
from twin.check.codes import CODES, Action
from twin.check.node import Node
from twin.check.storage import Request
from twin.check.world import World

_SHARED_LOCALLY = (fx.StartService, fx.PowerOrder, fx.ReadPower)


def enabled(world: World) -> list[Action]:
    """Every action that may be next, as far as ``Options.order`` has it explored."""
    local = local_actions(world)
    if local and world.options.order != "every":
        return _persistent(world, local) if world.options.order == "reduced" else local
    due = local + shared_actions(world)
    found = due + late_actions(world, must=False) + faults.enabled(world)
    if not due and not late_actions(world, must=True):
        found.append(("tick",))
    return found


def _persistent(world: World, local: list[Action]) -> list[Action]:
    """Return the local steps of one node whose steps nobody can see, or all if there is none.

    Local steps of two nodes commute: neither reads what the other writes, and what both add to (requests to the
    storage) has no order. A node without a service cannot change what clients see by a local step. So every state that
    properties speak of is reached all the same. Source: persistent sets, and the visibility condition of ample sets
    (Godefroid 1996; Peled 1993); no cycle of states goes without a tick, where nothing is left out.
    """
    indexes = list(dict.fromkeys(action[1] for action in local))
    unseen = next((index for index in indexes if not world.nodes[index].services), None)
    return local if unseen is None else [action for action in local if action[1] == unseen]


def settled(world: World) -> list[Action]:
    """Every action but faults: what a fair run chooses from."""
    due = local_actions(world) or shared_actions(world) or late_actions(world, must=False)
    return due or [("tick",)]


def local_actions(world: World) -> list[Action]:
    """What concerns one node only: it takes what reached it, its timers fire, its supervisor does what it was told."""
    found: list[Action] = []
    for index, node in enumerate(world.nodes):
        if node.power != "up" or node.frozen:
            continue
        for name, service in sorted(node.services.items()):
            right = node.rights.get(name)
            ends = service.running and not service.expired and right is not None and right[0] == service.epoch
            if ends and right is not None and right[1] <= world.now and not service.suspended:
                found.append(("expire_right", index, name))
        if node.agent:
            if node.inbox:
                found.append(("in", index))
            found += [("arrive", index, code) for code in dict.fromkeys(node.arrivals)]
            if node.answers:
                found.append(("answer", index))
            found += [("timer", index, name) for name, at in sorted(node.timers.items()) if at <= world.now]
        found += [
            ("local", index, waiting)
            for waiting in node.local
            if not isinstance(CODES.values[waiting.effect], _SHARED_LOCALLY)
        ]
    return found


def shared_actions(world: World) -> list[Action]:
    """What touches something that several nodes see: ZooKeeper, the storage, power."""
    found: list[Action] = []
    storage = world.storage
    for index, node in enumerate(world.nodes):
        if node.outbox:
            found.append(("zk", index))
            if node.cut or not node.agent:
                found.append(("lost", index))
        for waiting in node.local:
            effect = CODES.values[waiting.effect]
            if isinstance(effect, fx.StartService) and node.awake and not _hangs(world, node, effect.instance):
                found.append(("mount", index, waiting))
            elif isinstance(effect, (fx.PowerOrder, fx.ReadPower)) and node.awake:
                found.append(("power", index, waiting))
        for key, beat in sorted(node.beats.items()):
            if beat.asked_at_ms >= 0 and _can_beat(world, node, key[1]):
                found.append(("beat", index, key))
    for request in storage.requests:
        if not storage.stalled and not _cut(world, request.node) and _ready(world, request):
            found.append(("store", request))
    found += [("expire", sid) for sid, (_, at) in sorted(world.zk.sessions.items()) if at <= world.now]
    return found


def late_actions(world: World, must: bool = False) -> list[Action]:
    """Fences on their way into force and writes on their way; ``must``: only those that may wait no longer."""
    found: list[Action] = []
    storage, options = world.storage, world.options
    if storage.stalled:
        return found
    for instance, state in sorted(storage.blocked.items()):
        born = storage.set_at.get(instance, 0)
        if state == 1 and (not must or world.now - born >= options.fence_slack_ms):
            found.append(("force", instance))
    for flight in storage.flights:
        if must and world.now - flight.born_at_ms < options.write_slack_ms:
            continue
        found.append(("land", flight))
        node = world.by_name(flight.node)
        if not must and node is not None and (node.power != "up" or node.storage_cut):
            found.append(("vanish", flight))
    return found


def _can_beat(world: World, node: Node, kind: str) -> bool:
    if kind == "coordination":
        return not node.cut and node.connected and node.agent
    return not node.storage_cut and not world.storage.stalled


def _cut(world: World, name: str) -> bool:
    node = world.by_name(name)
    return node is not None and node.storage_cut


def _hangs(world: World, node: Node, instance: Instance | None) -> bool:
    return instance is not None and (node.storage_cut or world.storage.stalled)


def _ready(world: World, request: Request) -> bool:
    """Whether a storage operation can go on: a fence waits until it is in force, a close for its writes."""
    effect = request.effect
    if isinstance(effect, fx.FenceInstance) and request.stage == 1:
        return world.storage.is_fenced(effect.instance)
    if isinstance(effect, fx.CloseVolume):
        return all(flight.instance != effect.instance for flight in world.storage.flights)
    return True
