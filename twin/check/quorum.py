"""What ZooKeeper does when a request of a node reaches it."""

from typing import Any

from core import effects as fx
from core import events as ev
from core.ids import NO_SESSION, NodeId
from core.records import ENSEMBLE, EnsembleRecord
from twin.check import rules
from twin.check.codes import CODES
from twin.check.coordination import Rejected, Znode
from twin.check.node import Waiting
from twin.check.world import World


def request(world: World, index: int) -> None:
    """Let the first request that a node sent take effect; it hears of it if it still can."""
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
    session = effect.resume if resumed else zk.open_session(node.name, index, expires)
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
    done = ev.Committed(zxid=max((change.zxid for change in outcome.changes), default=0), versions=outcome.versions)
    world.tell_changes(outcome.changes)
    _reply(world, index, told, ev.OpSucceeded(at_ms=0, op=effect.op, result=done))


def _count_evidence(world: World, index: int, effect: fx.Commit, asked: int) -> None:
    """A commit that proves the own lease is evidence as of when it was asked for."""
    node = world.own_node(index)
    for name in world.singletons:
        path = f"/moxie/leases/{name}"
        lease = world.zk.tree.get(path)
        proves = any(write.path == path for write in effect.writes)
        if proves and lease is not None and lease.owner == effect.session:
            world.note_evidence(node, (name, "coordination"), lease.data.epoch, asked)  # type: ignore[union-attr]  # a lease has an epoch


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
    voters = [voter for voter in known.data.voters if voter not in effect.leaving]
    voters += [voter for voter in effect.joining if voter not in voters]
    record = EnsembleRecord(config=zk.changed(ENSEMBLE), voters=tuple(sorted(NodeId(voter) for voter in voters)))
    zk.tree[ENSEMBLE] = Znode(record, known.version + 1, NO_SESSION)
    world.tell_changes((zk.state(ENSEMBLE),))
    _reply(world, index, told, ev.OpSucceeded(at_ms=0, op=effect.op, result=ev.Done()))


def lose(world: World, index: int) -> None:
    """Lose the first request that a node sent."""
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


def expire(world: World, session: int) -> None:
    world.end_session(session, "expired")
