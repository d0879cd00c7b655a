"""Directed tests of rules 8 to 12 of design 2.1 (nodes, power, agents, progress): one situation each."""

import pytest

from core import effects as fx
from core import events as ev
from core.brake import SHARE
from core.records import (
    ENSEMBLE,
    EnsembleRecord,
    MemberRecord,
    PowerRecord,
    lease_path,
    member_path,
    power_path,
)
from tests.property.dumb_world import DB, TIMING, DumbWorld
from tests.unit.situations import R1, fence_of, found_name, lose, served_elsewhere, strike, term
from twin.check import actions
from twin.check.codes import Action


@pytest.fixture
def world() -> DumbWorld:
    """Three nodes, everything served."""
    return DumbWorld.served()


# -- 8: storm brake ----------------------------------------------------------------------------------------------------


def test_a_mass_disappearance_pauses_power_fencing() -> None:
    world = DumbWorld.served(names=("n1", "n2", "n3", "n4", "n5", "n6"))
    since = world.now
    for index in (3, 4, 5):
        strike(world, "cut", index)
    world.for_ticks(TIMING.session_timeout_ms // 100 + 20)
    assert world.notes("brake_engaged", since)
    world.for_ticks(60)
    assert [e for e in world.effects(fx.PowerOrder, since) if e[2].action != "on"] == []


def test_the_brake_leaves_exactly_a_third_alone() -> None:
    """Over a third engages it: two of six are not over a third, three of six are."""
    world = DumbWorld.served(names=("n1", "n2", "n3", "n4", "n5", "n6"))
    since = world.now
    assert SHARE == 3
    for index in (4, 5):
        strike(world, "cut", index)
    world.for_ticks(TIMING.session_timeout_ms // 100 + 40)
    assert world.notes("brake_engaged", since) == []


def test_early_closes_count_as_disappearances() -> None:
    world = DumbWorld.served(names=tuple(f"n{number}" for number in range(1, 9)))
    since = world.now
    steward = {ward: node.name for node in world.nodes for ward in node.listens}
    victims: list[str] = []
    for node in world.nodes:  # nodes whose stewards live on
        if len(victims) < 3 and steward[node.name] not in victims and node.name not in map(steward.get, victims):
            victims.append(node.name)
    assert len(victims) == 3
    for name in victims:
        strike(world, "crash", world.index_of(name))
    world.for_ticks(12)
    assert len(world.notes("early_close", since)) == 3
    assert world.notes("brake_engaged", since)


def test_one_power_fence_at_a_time_in_a_power_domain() -> None:
    """Nodes n1, n3, n5 and n7 share a domain; two of them freeze."""
    world = DumbWorld.served(names=tuple(f"n{number}" for number in range(1, 9)))
    since = world.now
    victims = [index for index in (0, 2, 4, 6) if not world.nodes[index].services.keys() & {"db", "cron"}][:2]
    for index in victims:
        strike(world, "freeze", index)
    world.for_ticks(70, lambda action: isinstance(world.effect_of(action), fx.PowerOrder))
    assert len({e[2].node for e in fence_of(world, since)}) == 1, "the first fence is still in flight"
    world.until(lambda: len({e[2].node for e in fence_of(world, since)}) == 2)


def test_a_node_whose_server_keeps_the_quorum_is_not_power_fenced() -> None:
    """Two of five voters are away already; the third that disappears may be healthy and cut off."""
    world = DumbWorld.served(names=tuple(f"n{number}" for number in range(1, 9)))
    ensemble = world.zk.tree[ENSEMBLE].data
    assert isinstance(ensemble, EnsembleRecord)
    assert len(ensemble.voters) == 5
    away = [world.index_of(voter) for voter in ensemble.voters if voter != "n1"][:3]
    since = world.now
    for index, kind in zip(away, ("crash", "crash", "freeze"), strict=True):
        strike(world, kind, index)
        world.for_ticks(40, lambda action: action[0] == "boot")
    world.for_ticks(60, lambda action: action[0] == "boot")
    last = world.nodes[away[-1]].name
    assert member_path(R1, world.options.node_spec(away[-1]).id) not in world.zk.tree
    assert [e for e in fence_of(world, since) if e[2].node == last] == []


# -- 9: dated power orders ---------------------------------------------------------------------------------------------


def test_a_power_order_is_committed_before_it_is_sent(world: DumbWorld) -> None:
    since = world.now
    holder = world.holder("cron")
    lose(world, holder)
    world.until(lambda: bool(fence_of(world, since)))
    order = fence_of(world, since)[0][2]
    record = world.zk.tree[power_path(order.node)].data
    assert isinstance(record, PowerRecord)
    assert record.generation == order.generation > 0


def test_a_power_orders_deadline_counts_from_its_commit(world: DumbWorld) -> None:
    """A steward paused between its commit and the answer must not send an order that looks fresh."""
    since = world.now
    holder = world.holder("cron")
    lose(world, holder)
    path = power_path(world.options.node_spec(holder).id)

    def ordered() -> bool:
        record = world.zk.tree.get(path)
        return record is not None and isinstance(record.data, PowerRecord) and record.data.generation > 0

    world.until(ordered)
    committed = world.now
    record = world.zk.tree[path].data
    assert isinstance(record, PowerRecord)
    steward = world.index_of(record.by)
    strike(world, "freeze", steward)
    world.for_ticks(60)
    assert fence_of(world, since) == []
    actions.apply(world, ("thaw", steward))
    world.until(lambda: bool(fence_of(world, since)))
    assert fence_of(world, since)[0][2].deadline_ms <= committed + TIMING.power_ms_max


def test_an_order_the_coordination_did_not_take_is_not_sent(world: DumbWorld) -> None:
    """A steward on a minority side cannot commit, so it cannot fence."""
    since = world.now
    holder = world.holder("cron")
    others = [index for index in range(3) if index != holder]
    strike(world, "freeze", holder)
    for index in others:
        strike(world, "cut", index)
    world.for_ticks(120)
    assert fence_of(world, since) == []


@pytest.mark.parametrize("reason", ["unanswered", "conflict", "unavailable"])
def test_an_order_whose_commit_failed_is_not_sent(world: DumbWorld, reason: ev.Reason) -> None:
    since = world.now
    lose(world, world.holder("cron"))

    def ordering() -> list[int]:
        found = []
        for index, node in enumerate(world.nodes):
            effect = world.effect_of(("zk", index)) if node.outbox else None
            writes = effect.writes if isinstance(effect, fx.Commit) else ()
            if any(isinstance(getattr(w, "data", None), PowerRecord) and w.data.generation for w in writes):
                found.append(index)
        return found

    world.until(lambda: bool(ordering()))
    steward = ordering()[0]
    node = world.own_node(steward)
    commit = world.effect_of(("zk", steward))
    node.outbox = node.outbox[1:]
    world.step(steward, ev.OpFailed(at_ms=world.now, op=commit.op, reason=reason))
    assert fence_of(world, since) == []
    world.until(lambda: bool(fence_of(world, since)))


# -- 10: early close ---------------------------------------------------------------------------------------------------


def test_a_bmc_that_says_off_closes_exactly_the_session_read_before(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    session = world.nodes[holder].session
    strike(world, "crash", holder)
    world.until(lambda: bool(world.effects(fx.CloseSession, since)))
    assert {e[2].session for e in world.effects(fx.CloseSession, since)} == {session}
    world.until(served_elsewhere(world, "db", holder))
    assert world.zk.ended[lease_path(DB.name)] == "closed"


def test_a_session_opened_after_the_question_is_not_closed(world: DumbWorld) -> None:
    """The node is back with a new session when the BMC's answer "off" comes in."""
    holder, since = world.holder("db"), world.now
    old = world.nodes[holder].session
    strike(world, "crash", holder)
    world.until(lambda: bool(world.effects(fx.ReadPower, since)))
    asked = next(iter(world.effects(fx.ReadPower, since)))
    steward = world.index_of(asked[1])
    actions.apply(world, ("boot", holder))
    path = member_path(R1, world.options.node_spec(holder).id)

    def is_back() -> bool:
        return path in world.zk.tree and world.zk.tree[path].owner != old

    world.until(is_back, lambda action: action[0] == "power")
    world.until(lambda: not world.nodes[steward].inbox, lambda action: action[0] == "power")
    node = world.own_node(steward)
    node.local = tuple(w for w in node.local if world.effect_of(("power", steward, w)) != asked[2])
    world.step(steward, ev.OpSucceeded(at_ms=world.now, op=asked[2].op, result=ev.PowerSeen(on=False)))
    world.for_ticks(10)
    by_steward = {e[2].session for e in world.effects(fx.CloseSession, since) if e[1] == asked[1]}
    assert by_steward <= {old}
    assert is_back()


def test_a_bmc_that_says_on_or_nothing_closes_nothing(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "freeze", holder)
    world.until(lambda: bool(world.effects(fx.ReadPower, since)))
    world.for_ticks(5)
    assert world.effects(fx.CloseSession, since) == []


def test_the_early_close_mark_is_committed_before_the_close(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    session = world.nodes[holder].session
    strike(world, "crash", holder)

    def is_mark(action: Action) -> bool:
        effect = world.effect_of(action)
        writes = effect.writes if isinstance(effect, fx.Commit) else ()
        return any(isinstance(getattr(w, "data", None), PowerRecord) for w in writes)

    world.for_ticks(10, is_mark)
    assert world.effects(fx.CloseSession, since) == []
    world.until(lambda: session not in world.zk.sessions)


# -- 11: an agent is not its services ----------------------------------------------------------------------------------


def test_a_restarted_agent_adopts_what_runs_without_a_failover(world: DumbWorld) -> None:
    holder, since, epoch = world.holder("db"), world.now, term(world, "db").epoch
    strike(world, "agent", holder)
    world.go_on(2)
    actions.apply(world, ("restart", holder))
    for _ in range(20):
        world.go_on(1)
        assert world.serves(world.nodes[holder], "db")
    assert term(world, "db").epoch == epoch
    assert world.notes("adopted", since)
    assert world.effects(fx.StopService, since) == []


def test_adoption_needs_a_commit_in_the_old_session(world: DumbWorld) -> None:
    holder = world.holder("db")
    session = world.nodes[holder].session
    strike(world, "agent", holder)
    world.go_on(2)
    since = world.now
    actions.apply(world, ("restart", holder))

    def is_commit(action: Action) -> bool:
        return action[1] == holder and isinstance(world.effect_of(action), fx.Commit)

    world.for_ticks(4, is_commit)
    assert list(world.notes("adopted", since)) == []
    assert [e for e in world.effects(fx.ArmRight, since) if e[1] == world.nodes[holder].name] == []
    world.until(lambda: bool(world.notes("adopted", since)))
    commits = [e[2] for e in world.effects(fx.Commit, since) if e[1] == world.nodes[holder].name]
    assert any(
        c.session == session and any(isinstance(w, fx.Check) and w.path == lease_path(DB.name) for w in c.writes)
        for c in commits
    )


def test_an_agent_whose_session_is_over_stops_what_runs(world: DumbWorld) -> None:
    holder = world.holder("db")
    session = world.nodes[holder].session
    strike(world, "agent", holder)
    world.until(lambda: session not in world.zk.sessions, lambda action: action[0] in ("store", "force"))
    since = world.now
    actions.apply(world, ("restart", holder))
    world.for_ticks(10)
    stops = [e[2].service for e in world.effects(fx.StopService, since) if e[1] == world.nodes[holder].name]
    assert "db" in stops
    world.until(lambda: world.is_served("db"))


def test_a_right_that_ended_outside_the_agent_is_believed(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    epoch = term(world, "db").epoch
    world.step(holder, ev.RightExpired(at_ms=world.now, service=DB.name, epoch=epoch))
    assert world.notes("withdrawn", since)


@pytest.mark.parametrize("service", ["db", "cron"])
def test_a_deadline_outside_the_agent_is_armed_before_the_service_starts(service: str) -> None:
    world = DumbWorld.served()
    mine = [e[2] for e in world.log if isinstance(e[2], (fx.ArmRight, fx.StartService)) and e[2].service == service]
    assert isinstance(mine[0], fx.ArmRight)
    assert isinstance(mine[1], fx.StartService)


# -- 12: hold or serve -------------------------------------------------------------------------------------------------


def stuck_claimer(world: DumbWorld) -> tuple[int, int]:
    """The holder died; who claims cannot start, because its own way to the volume is dead. (old holder, claimer)"""
    holder, first = world.holder("db"), term(world, "db").epoch
    strike(world, "crash", holder)
    world.until(lambda: term(world, "db").epoch > first)
    claimer = world.index_of(term(world, "db").holder)
    world.until(lambda: bool(term(world, "db").identities), lambda action: action[0] == "mount")
    return holder, claimer


def test_a_holder_that_makes_no_progress_gives_up_marks_itself_and_another_serves(world: DumbWorld) -> None:
    _, claimer = stuck_claimer(world)
    since, epoch = world.now, term(world, "db").epoch
    name = world.nodes[claimer].name
    world.until(served_elsewhere(world, "db", claimer), lambda action: action[0] == "mount" and action[1] == claimer)
    assert term(world, "db").epoch == epoch + 1
    assert [e for e in world.notes("gave_up", since) if e[1] == name]
    member = world.zk.tree[member_path(R1, world.options.node_spec(claimer).id)].data
    assert isinstance(member, MemberRecord)
    assert "db" in member.unfit
    world.for_ticks(TIMING.unfit_ms // 100 + 20)
    member = world.zk.tree[member_path(R1, world.options.node_spec(claimer).id)].data
    assert isinstance(member, MemberRecord)
    assert "db" not in member.unfit, "marks lapse"


def test_giving_up_releases_nothing(world: DumbWorld) -> None:
    _, claimer = stuck_claimer(world)
    instance = term(world, "db").identities[0]
    since = world.now
    world.until(served_elsewhere(world, "db", claimer), lambda action: action[0] == "mount" and action[1] == claimer)
    assert instance in [e[2].instance for e in world.effects(fx.FenceInstance, since)]


def test_nobody_gives_up_while_nobody_can_do_better(world: DumbWorld) -> None:
    _, claimer = stuck_claimer(world)
    since = world.now
    for index in range(3):
        if world.nodes[index].power == "up":
            strike(world, "storage_cut", index)
    world.for_ticks(TIMING.stall_ms * 2 // 100, lambda action: action[0] == "mount" and action[1] == claimer)
    assert world.notes("gave_up", since) == []


def fencing_claimer(world: DumbWorld) -> int:
    """The holder died; who claims has asked for the fence."""
    since = world.now
    strike(world, "crash", world.holder("db"))
    world.until(lambda: bool(world.effects(fx.FenceInstance, since)), lambda action: action[0] == "store")
    return world.index_of(world.effects(fx.FenceInstance, since)[0][1])


def test_a_claimer_that_cannot_fence_gives_up_if_another_reaches_the_storage(world: DumbWorld) -> None:
    claimer = fencing_claimer(world)
    since = world.now
    strike(world, "storage_cut", claimer)
    world.until(served_elsewhere(world, "db", claimer), ticks_max=2 * TIMING.stall_ms // 100)
    assert world.notes("gave_up", since)


def test_a_claimer_that_cannot_fence_stays_if_nobody_reaches_the_storage(world: DumbWorld) -> None:
    fencing_claimer(world)
    since, epoch = world.now, term(world, "db").epoch
    for index in range(3):
        if world.nodes[index].power == "up":
            strike(world, "storage_cut", index)
    world.for_ticks(3 * TIMING.stall_ms // 100)
    assert world.notes("gave_up", since) == []
    assert world.notes("stayed", since)
    assert term(world, "db").epoch == epoch


def claim_in_doubt(world: DumbWorld) -> tuple[int, int]:
    """A claim was committed and its answer lost; (claimer, when the connection came back)."""
    holder = world.holder("db")
    strike(world, "crash", holder)

    def claims() -> list[int]:
        found = []
        for index, node in enumerate(world.nodes):
            head = node.outbox[:1]
            effect = world.effect_of(("zk", index)) if head else None
            if isinstance(effect, fx.Commit) and any(
                isinstance(w, fx.Create) and w.path == lease_path(DB.name) for w in effect.writes
            ):
                found.append(index)
        return found

    world.until(lambda: bool(claims()))
    claimer = claims()[0]
    strike(world, "cut", claimer)
    actions.apply(world, ("zk", claimer))
    since = world.now
    world.for_ticks(3)
    actions.apply(world, ("uncut", claimer))
    return claimer, since


def test_an_unanswered_claim_is_settled_by_a_read_back(world: DumbWorld) -> None:
    claimer, since = claim_in_doubt(world)
    name, epoch = world.nodes[claimer].name, term(world, "db").epoch
    world.until(lambda: world.is_served("db"))
    assert term(world, "db").epoch == epoch, "the claim counts"
    mine = [e[2] for e in world.log if e[0] >= since and e[1] == name]
    reads = [n for n, e in enumerate(mine) if isinstance(e, fx.Read) and lease_path(DB.name) in e.paths]
    fences = [n for n, e in enumerate(mine) if isinstance(e, fx.FenceInstance)]
    assert reads
    assert fences, "the claim had been committed, so it goes on from the fence"
    assert reads[0] < fences[0]


def test_a_stopped_service_keeps_no_lease(world: DumbWorld) -> None:
    holder = world.holder("cron")
    node = world.nodes[holder]
    epoch = term(world, "cron").epoch
    since = world.now
    for _ in range(8):
        found = world.nodes[holder].services.get("cron")
        if found is not None and found.epoch == epoch:
            del world.own_node(holder).services["cron"]
            world.step(
                holder, ev.ServiceExited(at_ms=world.now, service=found_name("cron"), epoch=epoch, detail="gone")
            )
        world.for_ticks(10)
    assert term(world, "cron").epoch > epoch or world.is_served("cron")
    assert world.notes("service_failed", since)
    assert node.name
