"""The passing of time in a small world, and how every time is kept relative to now."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core import events as ev
from core.ids import NodeId
from twin.check.brains import BASE_MS, FAR_MS, RememberedBrains
from twin.check.codes import CODES
from twin.check.faults import unanswered
from twin.check.node import Beat, Node, Waiting

if TYPE_CHECKING:
    from twin.check.world import World


def pass_time(world: "World") -> None:
    """What the passing of time alone does: sessions are touched, limits pass, beats fall due, silence is noticed."""
    timeout = world.options.timing.session_timeout_ms
    for index in range(len(world.nodes)):
        node = world.own_node(index)
        if node.alive and node.connected and not node.cut and node.session in world.zk.sessions:
            world.own_zk().sessions[node.session] = (node.name, world.now + timeout)
        _pass_limits(world, index)
        if node.awake:
            _ask_beats(world, node)
        if node.alive:
            _listen(world, index)
    _pass_storage_limits(world)


def _pass_limits(world: "World", index: int) -> None:
    node = world.own_node(index)
    late = [waiting for waiting in node.hanging if waiting.fail_at_ms <= world.now]
    if late:
        node.hanging = tuple(waiting for waiting in node.hanging if waiting not in late)
        for waiting in late:
            world.arrive(index, waiting.incarnation, unanswered(waiting))
    late = [waiting for waiting in node.local if waiting.fail_at_ms <= world.now] if node.awake else []
    if late:
        node.local = tuple(waiting for waiting in node.local if waiting not in late)
        for waiting in late:
            world.fail(index, waiting, "failed")


def _pass_storage_limits(world: "World") -> None:
    late = [request for request in world.storage.requests if request.fail_at_ms <= world.now]
    if not late:
        return
    storage = world.own_storage()
    storage.requests = tuple(request for request in storage.requests if request not in late)
    for request in late:
        waiting = Waiting(request.incarnation, CODES.number(request.effect), request.fail_at_ms)
        world.fail(world.index_of(request.node), waiting, "unanswered")


def _ask_beats(world: "World", node: Node) -> None:
    for key, beat in list(node.beats.items()):
        if beat.next_at_ms > world.now or beat.asked_at_ms >= 0:
            continue
        if key[1] == "coordination" and (node.cut or not node.connected):
            continue
        effect: Any = CODES.values[beat.effect]
        node.beats[key] = Beat(beat.effect, world.now + effect.every_ms, world.now)


def _listen(world: "World", index: int) -> None:
    node = world.own_node(index)
    for name, (told, since) in list(node.heard.items()):
        peer = world.by_name(name)
        if peer is not None and peer.awake and not peer.lying:
            if not told:
                world.arrive(index, node.incarnation, ev.PeerHeard(at_ms=0, node=NodeId(name)))
            node.heard[name] = (True, -1)
            continue
        since = world.now if since < 0 else since
        if told and world.now - since >= world.options.timing.suspect_ms:
            world.arrive(index, node.incarnation, ev.PeerSilent(at_ms=0, node=NodeId(name)))
            told = False
        node.heard[name] = (told, since)


def rebase(world: "World", by_ms: int) -> None:
    """Move every time back by ``by_ms``, so that the clock stands at ``BASE_MS`` again."""
    assert isinstance(world.brains, RememberedBrains)
    oldest = BASE_MS - world.brains.horizon_ms

    def back(at: int) -> int:
        return at if at <= 0 or at > BASE_MS + FAR_MS else max(at - by_ms, oldest)

    for index in range(len(world.nodes)):
        _rebase_node(world, index, by_ms, back)
    zk = world.own_zk()
    zk.sessions = {sid: (name, back(at)) for sid, (name, at) in zk.sessions.items()}
    storage = world.own_storage()
    storage.set_at = {instance: back(at) for instance, at in storage.set_at.items()}
    storage.requests = tuple(
        r.__class__(r.node, r.incarnation, r.effect, back(r.fail_at_ms), back(r.born_at_ms), r.stage)
        for r in storage.requests
    )
    storage.flights = tuple(msgspec.structs.replace(f, born_at_ms=back(f.born_at_ms)) for f in storage.flights)
    world.now = BASE_MS


def _rebase_node(world: "World", index: int, by_ms: int, back: Callable[[int], int]) -> None:
    node = world.own_node(index)
    if node.brain >= 0:
        node.brain = world.brains.shift(node.brain, by_ms)
    node.timers = {name: back(at) for name, at in node.timers.items()}
    node.rights = {name: (epoch, back(until)) for name, (epoch, until) in node.rights.items()}
    node.heard = {name: (told, back(since)) for name, (told, since) in node.heard.items()}
    node.evidence = {key: (epoch, back(at)) for key, (epoch, at) in node.evidence.items()}
    node.claims = {name: (epoch, back(at), back(fenced)) for name, (epoch, at, fenced) in node.claims.items()}
    node.beats = {
        key: Beat(beat.effect, back(beat.next_at_ms), back(beat.asked_at_ms)) for key, beat in node.beats.items()
    }
    node.answers = tuple(msgspec.structs.replace(a, asked_at_ms=back(a.asked_at_ms)) for a in node.answers)
    for field in ("outbox", "hanging", "local"):
        moved = tuple(Waiting(w.incarnation, w.effect, back(w.fail_at_ms)) for w in getattr(node, field))
        setattr(node, field, moved)
