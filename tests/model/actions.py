"""What may happen next in a small world, and what happens when it does.

An action is a tuple whose first item names it. Local actions (``in``, ``arrive``, ``answer``, ``timer``, ``local``,
``expire_right``) concern one node; shared ones (``zk``, ``store``, ``force``, ``land``, ``beat``, ``mount``, ``power``,
``expire``) touch what several nodes see; ``tick`` moves every clock; the rest are faults and their ends.
"""

from collections.abc import Callable
from typing import Any

from core import effects as fx
from core import events as ev
from core.ids import BootId, NodeId, SessionId
from core.records import ENSEMBLE, EnsembleRecord, Instance
from tests.model import faults, rules
from tests.model.brains import BASE_MS
from tests.model.codes import CODES
from tests.model.coordination import Rejected, Znode
from tests.model.node import Answer, Beat, Node, Service, Waiting
from tests.model.storage import Flight, Request
from tests.model.world import World

Action = tuple[Any, ...]
_SHARED_LOCALLY = (fx.StartService, fx.PowerOrder, fx.ReadPower)


# -- what may happen ---------------------------------------------------------------------------------------------------


def enabled(world: World) -> list[Action]:
    """Every action that may be next."""
    local = local_actions(world)
    if local and world.options.reduce:
        first = local[0][1]
        return [action for action in local if action[1] == first]
    due = local + shared_actions(world)
    found = due + late_actions(world, must=False) + faults.enabled(world)
    if not due and not late_actions(world, must=True):
        found.append(("tick",))
    return found


def settled(world: World) -> list[Action]:
    """Every action but faults: what a fair run chooses from."""
    due = local_actions(world) or shared_actions(world) or late_actions(world, must=False)
    return due or [("tick",)]


def local_actions(world: World) -> list[Action]:
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


# -- what happens ------------------------------------------------------------------------------------------------------


def apply(world: World, action: Action) -> None:
    """Make one action happen. Raises: RuleBroken, AssertionError, InvariantViolation if a rule does not hold."""
    DO[action[0]](world, *action[1:])
    rules.check_state(world)


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
        service=answer.service,  # type: ignore[arg-type]
        epoch=answer.epoch,
        kind=answer.kind,  # type: ignore[arg-type]
        asked_ms=answer.asked_at_ms,
        outcome=answer.outcome,  # type: ignore[arg-type]
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
        event = ev.RightExpired(at_ms=0, service=name, epoch=service.epoch)  # type: ignore[arg-type]
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


def _zk(world: World, index: int) -> None:
    node = world.own_node(index)
    waiting, node.outbox = node.outbox[0], node.outbox[1:]
    effect: Any = CODES.values[waiting.effect]
    told = waiting.incarnation == node.incarnation and node.agent and not node.cut
    if not told and hasattr(effect, "ms_max") and waiting.incarnation == node.incarnation and node.agent:
        node.hanging += (waiting,)
    match effect:
        case fx.OpenSession():
            _open_session(world, index, effect, told)
        case fx.Commit():
            _commit(world, index, waiting, effect, told)
        case fx.Read():
            _read(world, index, effect, told)
        case fx.CloseSession():
            owner = world.zk.sessions.get(effect.session, ("", 0))[0]
            world.end_session(effect.session, "closed by itself" if owner == node.name else "closed")
            _reply(world, index, told, ev.OpSucceeded(at_ms=0, op=effect.op, result=ev.Done()))
        case fx.Mirror():
            _mirror(world, index, effect, told)
        case fx.Unmirror():
            node.mirrors = tuple(mirror for mirror in node.mirrors if mirror[0] != effect.path)
        case fx.Reconfigure():
            _reconfigure(world, index, effect, told)
        case _:
            raise AssertionError(f"no request to ZooKeeper: {effect}")


def _reply(world: World, index: int, told: bool, event: ev.AnyEvent) -> None:
    if told:
        world.post(index, event)


def _open_session(world: World, index: int, effect: fx.OpenSession, told: bool) -> None:
    node = world.own_node(index)
    if not told:
        node.wants_session = node.agent
        return
    zk = world.own_zk()
    resumed = effect.resume != 0 and effect.resume in zk.sessions
    expires = world.now + world.options.timing.session_timeout_ms
    if not resumed:
        zk.last_session += 1
    session = effect.resume if resumed else SessionId(zk.last_session)
    zk.sessions[session] = (node.name, expires)
    node.session = session
    node.connected = True
    world.post(index, ev.SessionOpened(at_ms=0, session=session, resumed=resumed))


def _commit(world: World, index: int, waiting: Waiting, effect: fx.Commit, told: bool) -> None:
    before = world.zk.copy()
    outcome = world.own_zk().commit(effect.session, effect.writes)
    if isinstance(outcome, Rejected):
        reason: ev.Reason = "session" if outcome.index < 0 else "conflict"
        _reply(world, index, told, ev.OpFailed(at_ms=0, op=effect.op, reason=reason, index=outcome.index))
        return
    rules.check_commit(world, world.nodes[index], effect.session, before, world.zk)
    _count_evidence(world, index, effect, waiting.fail_at_ms - effect.ms_max)
    done = ev.Committed(zxid=world.zk.zxid, versions=outcome.versions)
    world.tell_changes(outcome.changes)
    _reply(world, index, told, ev.OpSucceeded(at_ms=0, op=effect.op, result=done))


def _count_evidence(world: World, index: int, effect: fx.Commit, asked: int) -> None:
    """A commit that proves the own lease is evidence as of when it was asked for."""
    node = world.own_node(index)
    for name in world.options.singletons:
        path = f"/moxie/leases/{name}"
        lease = world.zk.tree.get(path)
        proves = any(write.path == path for write in effect.writes)
        if proves and lease is not None and lease.owner == effect.session:
            world.note_evidence(node, (name, "coordination"), lease.data.epoch, asked)  # type: ignore[union-attr]


def _read(world: World, index: int, effect: fx.Read, told: bool) -> None:
    if effect.session not in world.zk.sessions:
        _reply(world, index, told, ev.OpFailed(at_ms=0, op=effect.op, reason="session"))
        return
    changes = tuple(world.zk.state(path) for path in effect.paths)
    _reply(world, index, told, ev.OpSucceeded(at_ms=0, op=effect.op, result=ev.ReadBack(changes=changes)))


def _mirror(world: World, index: int, effect: fx.Mirror, told: bool) -> None:
    node = world.own_node(index)
    node.mirrors += ((effect.path, effect.depth),)
    if told and node.connected:
        found = world.zk.below(effect.path, effect.depth)
        world.post(index, ev.RecordsChanged(at_ms=0, changes=found, resync=True, roots=(effect.path,)))


def _reconfigure(world: World, index: int, effect: fx.Reconfigure, told: bool) -> None:
    zk = world.own_zk()
    known = zk.tree[ENSEMBLE]
    assert isinstance(known.data, EnsembleRecord)
    if known.data.config != effect.config:
        _reply(world, index, told, ev.OpFailed(at_ms=0, op=effect.op, reason="conflict"))
        return
    zk.zxid += 1
    voters = [voter for voter in known.data.voters if voter not in effect.leaving]
    voters += [voter for voter in effect.joining if voter not in voters]
    record = EnsembleRecord(config=zk.zxid, voters=tuple(sorted(NodeId(voter) for voter in voters)))
    zk.tree[ENSEMBLE] = Znode(record, known.version + 1, 0, zk.zxid)
    world.tell_changes((zk.state(ENSEMBLE),))
    _reply(world, index, told, ev.OpSucceeded(at_ms=0, op=effect.op, result=ev.Done()))


def _lost(world: World, index: int) -> None:
    node = world.own_node(index)
    waiting, node.outbox = node.outbox[0], node.outbox[1:]
    effect = CODES.values[waiting.effect]
    if waiting.incarnation != node.incarnation or not node.agent:
        return
    if isinstance(effect, fx.OpenSession):
        node.wants_session = True
    elif isinstance(effect, fx.Mirror):
        node.mirrors += ((effect.path, effect.depth),)
    elif hasattr(effect, "ms_max"):
        node.hanging += (waiting,)


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
                storage.opened += 1
                address = f"{request.node}:0/{storage.opened}"
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
    for name in world.options.volumes:
        claim = node.claims.get(name)
        if claim is not None and instance.epoch <= claim[0]:
            node.claims[name] = (claim[0], claim[1], world.now)


def _force(world: World, instance: Instance) -> None:
    world.own_storage().blocked[instance] = 2


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


def _expire(world: World, session: int) -> None:
    world.end_session(session, "expired")


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
    faults.pass_time(world)
    if not world.keep:
        faults.rebase(world, world.now - BASE_MS)


DO: dict[str, Callable[..., None]] = {
    "in": _in,
    "arrive": _arrive,
    "answer": _answer,
    "timer": _timer,
    "expire_right": _expire_right,
    "local": _do_local,
    "mount": _mount,
    "power": _power,
    "zk": _zk,
    "lost": _lost,
    "beat": _beat,
    "store": _store,
    "force": _force,
    "land": _land,
    "vanish": _vanish,
    "expire": _expire,
    "write": _write,
    "tick": _tick,
    **faults.DO,
}
