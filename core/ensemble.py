"""Growth and repair of the ZooKeeper ensemble: 1 to 3 to 5 voters, one change at a time (design 2.3).

The node that owns the duty on the ring proposes; the configuration number makes every change compare-and-set.
"""

from collections.abc import Mapping

import msgspec

from core import effects as fx
from core import membership
from core.brain import Brain
from core.events import OpFailed, OpSucceeded
from core.hashing import digest
from core.ids import NodeId
from core.records import CLUSTER, ENSEMBLE, ClusterRecord, EnsembleRecord
from core.state import NO_OP, Pending, Subject

ME = Subject.ENSEMBLE
SIZES = (5, 3, 1)


class Step(msgspec.Struct, frozen=True):
    """One change of the ensemble: who joins, who leaves. Empty: nothing to do."""

    joining: tuple[NodeId, ...] = ()
    leaving: tuple[NodeId, ...] = ()


def plan(voters: tuple[NodeId, ...], alive: Mapping[NodeId, str], dead_long: tuple[NodeId, ...], size_max: int) -> Step:
    """Choose the next change.

    ``alive``: members that may vote, with their power domain. ``dead_long``: voters gone for longer than the repair
    time. Grows by two, replaces one at a time, spreads over power domains, and proposes nothing whose configuration
    would not have a live majority.
    """
    live = [v for v in voters if v in alive]
    spare = [n for n in sorted(alive, key=lambda n: (digest(f"voter/{n}"), n)) if n not in voters]
    size = next((s for s in SIZES if s <= min(size_max, len(alive))), 1)
    if len(voters) < size and len(live) == len(voters):
        joining = _spread(voters, spare, alive, min(2, size - len(voters)))
        return Step(joining=joining) if (len(voters) + len(joining)) % 2 else Step()
    if dead_long and spare:
        joining = _spread(tuple(live), spare, alive, 1)
        return Step(joining=joining, leaving=dead_long[:1])
    return Step()


def _spread(
    voters: tuple[NodeId, ...], spare: list[NodeId], domains: Mapping[NodeId, str], count: int
) -> tuple[NodeId, ...]:
    """Choose ``count`` spares, each from the power domain with the fewest voters so far."""
    chosen: list[NodeId] = []
    for _ in range(min(count, len(spare))):
        used = [domains.get(v, "") for v in (*voters, *chosen)]
        left = [n for n in spare if n not in chosen]
        chosen.append(min(left, key=lambda n: (used.count(domains[n]), left.index(n))))
    return tuple(chosen)


def cluster(b: Brain) -> tuple[ClusterRecord | None, int]:
    """The mirrored cluster record and its version (-1 if it is not known yet)."""
    change = b.known(CLUSTER)
    if change is None or not isinstance(change.data, ClusterRecord):
        return None, -1
    return change.data, change.version


def voters(b: Brain) -> EnsembleRecord | None:
    """The ensemble as mirrored; None if not known yet."""
    data = b.record(ENSEMBLE)
    return data if isinstance(data, EnsembleRecord) else None


def review(b: Brain) -> None:
    """Do our own part (run a server, stop one), then, if the duty is ours, the next change."""
    ensemble = voters(b)
    record, version = cluster(b)
    if not b.joined or ensemble is None or record is None:
        return
    _own_server(b, ensemble, record)
    _count_dead(b, ensemble)
    if b.ring.owner_of_key("ensemble") != b.me.id or b.state.ensemble_op != NO_OP or "reconfigure" in b.state.timers:
        return
    if record.joining or record.leaving:
        _carry_on(b, ensemble, record, version)
    else:
        _propose(b, ensemble, record, version)


def _own_server(b: Brain, ensemble: EnsembleRecord, cluster: ClusterRecord) -> None:
    wanted = b.me.id in ensemble.voters or b.me.id in cluster.joining
    if wanted and not b.state.server:
        start_server(b, ensemble.voters)
    elif not wanted and b.state.server == "running" and b.state.server_op == NO_OP:
        b.state.server_op = b.op(ME, "", "stop_server")
        b.emit(fx.StopServer(op=b.state.server_op))


def start_server(b: Brain, members: tuple[NodeId, ...]) -> None:
    """Run this node's ZooKeeper server; before any quorum exists ``members`` may be empty."""
    b.state.server = "starting"
    b.state.server_op = b.op(ME, "", "start_server")
    b.emit(fx.StartServer(op=b.state.server_op, members=members))


def _count_dead(b: Brain, ensemble: EnsembleRecord) -> None:
    dead = b.state.dead_voters
    if not dead and all(node in b.members for node in ensemble.voters):
        return
    for node in [node for node in dead if node in b.members or node not in ensemble.voters]:
        del dead[node]
    for node in ensemble.voters:
        if node not in b.members and node not in dead:
            dead[node] = b.now
    due = [at_ms + b.timing.ensemble_repair_ms for at_ms in dead.values()]
    ahead = [at_ms for at_ms in due if at_ms > b.now]
    if ahead:
        b.timer("ensemble", min(ahead))


def _propose(b: Brain, ensemble: EnsembleRecord, cluster: ClusterRecord, version: int) -> None:
    alive = (
        {n: m.power_domain for n, m in b.members.items() if m.fit and m.voter}
        if len(b.members) <= 64
        else _few(b, ensemble)
    )
    due = b.now - b.timing.ensemble_repair_ms
    dead_long = tuple(node for node in ensemble.voters if b.state.dead_voters.get(node, b.now) <= due)
    step = plan(ensemble.voters, alive, dead_long, cluster.ensemble_size)
    if step != Step():
        new = msgspec.structs.replace(cluster, joining=step.joining, leaving=step.leaving)
        b.state.ensemble_op = b.commit(ME, "", "intent", (fx.Put(path=CLUSTER, data=new, version=version),))
        b.note("ensemble_intent", detail=f"joining {' '.join(step.joining)} leaving {' '.join(step.leaving)}".strip())


def _few(b: Brain, ensemble: EnsembleRecord) -> Mapping[NodeId, str]:
    """In a large rack, look at the voters and a few members that the ring gives for fixed keys."""
    chosen = {n: b.members[n].power_domain for n in ensemble.voters if n in b.members}
    for turn in range(16):
        node = b.ring.owner_of_key(f"voter/{turn}")
        if node in b.members and b.members[node].fit and b.members[node].voter:
            chosen[node] = b.members[node].power_domain
    return chosen


def _carry_on(b: Brain, ensemble: EnsembleRecord, cluster: ClusterRecord, version: int) -> None:
    """A change is under way: finish it, reconfigure when the joiners are ready, or give it up."""
    joining, leaving = cluster.joining, cluster.leaving
    if all(n in ensemble.voters for n in joining) and not any(n in ensemble.voters for n in leaving):
        _clear(b, cluster, version)
        return
    back = any(n in b.members for n in leaving)
    if back or any(n not in b.members for n in joining):
        _clear(b, cluster, version)
        return
    ready = all(b.members[n].server for n in joining)
    if ready and _keeps_majority(b, ensemble, joining, leaving):
        b.state.ensemble_op = b.op(ME, "", "reconfigure")
        limit = b.timing.commit_ms_max
        b.emit(
            fx.Reconfigure(
                op=b.state.ensemble_op, joining=joining, leaving=leaving, config=ensemble.config, ms_max=limit
            )
        )


def _keeps_majority(
    b: Brain, ensemble: EnsembleRecord, joining: tuple[NodeId, ...], leaving: tuple[NodeId, ...]
) -> bool:
    """Never leave a configuration without a live quorum, neither the old one nor the new one."""
    new = [v for v in ensemble.voters if v not in leaving] + list(joining)
    return all(2 * sum(v in b.members for v in config) > len(config) for config in (ensemble.voters, new))


def _clear(b: Brain, cluster: ClusterRecord, version: int) -> None:
    new = msgspec.structs.replace(cluster, joining=(), leaving=())
    b.state.ensemble_op = b.commit(ME, "", "clear", (fx.Put(path=CLUSTER, data=new, version=version),))


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    ok = isinstance(event, OpSucceeded)
    if b.state.server_op == event.op:
        b.state.server_op = NO_OP
        if pending.step == "stop_server":
            b.state.server = "" if ok else b.state.server
        else:
            b.state.server = "running" if ok else ""
        if not ok:
            b.timer_in("ensemble", b.timing.retry_ms_max)
        membership.refresh(b)
    elif b.state.ensemble_op == event.op:
        b.state.ensemble_op = NO_OP
        if pending.step == "reconfigure" and ok:
            b.note("ensemble_changed")
        if isinstance(event, OpFailed):
            wait_ms = b.calm_backoff(3, "ensemble") if event.retryable else b.timing.retry_ms_max
            b.timer_in("reconfigure", wait_ms)


def may_lose(b: Brain, node: NodeId, away: tuple[NodeId, ...]) -> bool:
    """Whether the ensemble keeps a majority with ``node`` and all of ``away`` switched off."""
    ensemble = voters(b)
    if ensemble is None:
        return False
    left = [v for v in ensemble.voters if v in b.members and v != node and v not in away]
    return node not in ensemble.voters or 2 * len(left) > len(ensemble.voters)
