"""What may happen next in a small world, and what happens when it does.

An action is a tuple whose first item names it. Local actions (``in``, ``arrive``, ``answer``, ``timer``, ``local``,
``expire_right``) concern one node; shared ones (``zk``, ``store``, ``force``, ``land``, ``beat``, ``mount``, ``power``,
``expire``) touch what several nodes see; ``tick`` moves every clock; the rest are faults and their ends.
"""

from collections.abc import Callable
from typing import Any

from core import effects as fx
from core import events as ev
from core.ids import BootId, NodeId
from core.records import Instance
from twin.check import clock, faults, quorum, rules
from twin.check.brains import BASE_MS
from twin.check.canonical import settle
from twin.check.codes import CODES, Action
from twin.check.node import Answer, Beat, Service, Waiting
from twin.check.storage import Flight, Request
from twin.check.world import World


def apply(world: World, action: Action) -> None:
    """Make one action happen, and bring what it changed into canonical form.

    Raises: RuleBroken, InvariantViolation if a rule does not hold.
    """
    DO[action[0]](world, *action[1:])
    rules.check_state(world)
    if not world.keep:
        for index in world.owned_nodes():
            settle(world, index)


def _in(world: World, index: int) -> None:
    node = world.own_node(index)
    code, node.inbox = node.inbox[0], node.inbox[1:]
    _take(world, index, code)


def _arrive(world: World, index: int, code: int) -> None:
    node = world.own_node(index)
    at = node.arrivals.index(code)
    node.arrivals = node.arrivals[:at] + node.arrivals[at + 1 :]
    _take(world, index, code)


def _take(world: World, index: int, code: int) -> None:
    """Give a posted event to the machine; note first what the rules must know."""
    event: Any = CODES.values[code]
    node = world.own_node(index)
    if isinstance(event, ev.OpFailed) and event.reason == "unanswered" and event.detail == "claim":
        node.unsettled += ("claim",)
    if isinstance(event, ev.OpSucceeded) and isinstance(event.result, ev.ReadBack):
        node.unsettled = ()
    if isinstance(event, (ev.SessionEnded, ev.SessionOpened)):
        node.unsettled = ()
    if isinstance(event, ev.SessionOpened):
        node.session = event.session
    world.step(index, event)


def _answer(world: World, index: int) -> None:
    node = world.own_node(index)
    answer, node.answers = node.answers[0], node.answers[1:]
    event = ev.BeatAnswered(
        at_ms=world.now,
        service=answer.service,  # type: ignore[arg-type]  # the small world keeps plain strings
        epoch=answer.epoch,
        kind=answer.kind,  # type: ignore[arg-type]  # the small world keeps plain strings
        asked_ms=answer.asked_at_ms,
        outcome=answer.outcome,  # type: ignore[arg-type]  # the small world keeps plain strings
    )
    world.step(index, event)


def _timer(world: World, index: int, name: str) -> None:
    del world.own_node(index).timers[name]
    world.step(index, ev.TimerFired(at_ms=world.now, timer=name))


def _expire_right(world: World, index: int, name: str) -> None:
    node = world.own_node(index)
    service = node.services[name]
    node.services[name] = service.with_(suspended=True, announced=False, expired=True)
    if node.agent:
        event = ev.RightExpired(at_ms=0, service=name, epoch=service.epoch)  # type: ignore[arg-type]  # the small world keeps plain strings
        world.arrive(index, node.incarnation, event)


def _finish_local(world: World, index: int, waiting: Waiting) -> Any:
    node = world.own_node(index)
    node.local = tuple(other for other in node.local if other != waiting)
    return CODES.values[waiting.effect]


def _do_local(world: World, index: int, waiting: Waiting) -> None:
    effect = _finish_local(world, index, waiting)
    assert isinstance(effect, fx.StopService)
    node = world.own_node(index)
    service = node.services.get(effect.service)
    if service is not None and service.epoch == effect.epoch:
        del node.services[effect.service]
        node.rights.pop(effect.service, None)
    frozen = service is not None and service.suspended
    world.succeed(index, waiting, ev.Stopped(clean=not effect.kill and not frozen))


def _mount(world: World, index: int, waiting: Waiting) -> None:
    effect = _finish_local(world, index, waiting)
    node = world.own_node(index)
    if effect.service in node.services:
        world.fail(index, waiting, "failed")
        return
    content: tuple[int, ...] = ()
    if effect.instance is not None:
        storage = world.own_storage()
        content = storage.content
        alive = storage.instances.get(effect.instance) == "open"
        if not alive or not storage.write(effect.instance, content):
            world.fail(index, waiting, "refused")
            return
    node.services[effect.service] = Service(epoch=effect.epoch, instance=effect.instance, memory=content)
    world.succeed(index, waiting, ev.Done())


def _power(world: World, index: int, waiting: Waiting) -> None:
    effect = _finish_local(world, index, waiting)
    target_index = world.index_of(effect.node)
    target = world.nodes[target_index]
    if isinstance(effect, fx.PowerOrder):
        if world.now > effect.deadline_ms:
            world.fail(index, waiting, "refused")
            return
        if effect.action != "on":
            faults.power_off(world, target_index)
        if effect.action != "off" and world.nodes[target_index].power == "off":
            world.own_node(target_index).power = "booting"
        on = effect.action != "off"
    else:
        on = target.power != "off" and not target.lying
    world.succeed(index, waiting, ev.PowerSeen(on=on))


def _beat(world: World, index: int, key: tuple[str, str]) -> None:
    node = world.own_node(index)
    beat = node.beats[key]
    effect: Any = CODES.values[beat.effect]
    node.beats[key] = Beat(beat.effect, beat.next_at_ms)
    if effect.kind == "storage":
        ok = world.own_storage().write(effect.instance, None)
        right = node.rights.get(key[0])
        if ok and right is not None and right[0] == effect.epoch:
            node.rights[key[0]] = (effect.epoch, max(right[1], beat.asked_at_ms + effect.fresh_ms))
    else:
        zk = world.zk
        known = all(c.path in zk.tree and zk.tree[c.path].version == c.version for c in effect.checks)
        ok = effect.session in zk.sessions and known
    if ok:
        world.note_evidence(node, key, effect.epoch, beat.asked_at_ms)
    if node.agent:
        outcome = "ok" if ok else "refused"
        node.answers += (Answer(key[0], effect.epoch, key[1], beat.asked_at_ms, outcome),)


def _store(world: World, request: Request) -> None:
    storage = world.own_storage()
    rest = [other for other in storage.requests if other != request]
    index = world.index_of(request.node)
    waiting = Waiting(request.incarnation, CODES.number(request.effect), request.fail_at_ms)
    effect = request.effect
    result: ev.Result = ev.Done()
    node = world.nodes[index]
    match effect:
        case fx.FenceInstance() if request.stage == 0:
            storage.blocked.setdefault(effect.instance, 1)
            storage.set_at.setdefault(effect.instance, world.now)
            storage.requests = (*rest, _staged(request))
            return
        case fx.FenceInstance():
            _note_fence(world, index, effect.instance)
        case fx.LiftBlock():
            storage.blocked.pop(effect.instance, None)
        case fx.CloseVolume():
            storage.instances[effect.instance] = "closed"
        case fx.OpenVolume():
            if node.power == "up":
                before = sum(other.node == request.node for other in storage.instances)
                address = f"{request.node}:0/{before + 1}"
                boot = BootId(node.boot_id())
                opened = Instance(node=NodeId(request.node), boot_id=boot, epoch=effect.epoch, address=address)
                storage.instances[opened] = "open"
                result = ev.VolumeOpened(instance=opened)
    storage.requests = tuple(rest)
    world.succeed(index, waiting, result)


def _staged(request: Request) -> Request:
    return Request(request.node, request.incarnation, request.effect, request.fail_at_ms, request.born_at_ms, 1)


def _note_fence(world: World, index: int, instance: Instance) -> None:
    """Remember when the last fence of a claim was in force (rule 5: nobody is admitted soon after it)."""
    node = world.own_node(index)
    for name in world.volumes:
        claim = node.claims.get(name)
        if claim is not None and instance.epoch <= claim[0]:
            node.claims[name] = (claim[0], claim[1], world.now)


def _force(world: World, instance: Instance) -> None:
    storage = world.own_storage()
    storage.blocked[instance] = 2
    storage.set_at.pop(instance, None)  # it no longer matters when it was set


def _land(world: World, flight: Flight) -> None:
    storage = world.own_storage()
    storage.flights = tuple(other for other in storage.flights if other != flight)
    if not storage.write(flight.instance, flight.content):
        return
    index = world.index_of(flight.node)
    node = world.own_node(index)
    service = node.services.get(flight.service)
    if service is not None and service.instance == flight.instance and node.power == "up":
        node.services[flight.service] = service.with_(memory=flight.content)
        if world.serves(node, flight.service):
            storage.acked += (flight.payload,)


def _vanish(world: World, flight: Flight) -> None:
    storage = world.own_storage()
    storage.flights = tuple(other for other in storage.flights if other != flight)


def _write(world: World, index: int, name: str) -> None:
    node = world.nodes[index]
    service = node.services[name]
    assert service.instance is not None
    storage = world.own_storage()
    storage.payload += 1
    content = (*service.memory, storage.payload)
    storage.flights += (Flight(node.name, name, service.instance, content, storage.payload, world.now),)


def _tick(world: World) -> None:
    rules.check_before_tick(world)
    world.now += world.options.tick_ms
    clock.pass_time(world)
    if not world.keep:
        clock.rebase(world, world.now - BASE_MS)


DO: dict[str, Callable[..., None]] = {
    "in": _in,
    "arrive": _arrive,
    "answer": _answer,
    "timer": _timer,
    "expire_right": _expire_right,
    "local": _do_local,
    "mount": _mount,
    "power": _power,
    "zk": quorum.request,
    "lost": quorum.lose,
    "beat": _beat,
    "store": _store,
    "force": _force,
    "land": _land,
    "vanish": _vanish,
    "expire": quorum.expire,
    "write": _write,
    "tick": _tick,
    **faults.DO,
}
