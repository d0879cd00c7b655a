"""Directed tests of the rules of design 2.1: real machines in the small world, one situation each."""

from typing import Any

import msgspec
import pytest

from core import effects as fx
from core import events as ev
from core.brake import SHARE
from core.records import (
    ENSEMBLE,
    EnsembleRecord,
    Instance,
    Lifecycle,
    MemberRecord,
    NodeRecord,
    PowerRecord,
    TermRecord,
    lease_path,
    member_path,
    node_path,
    power_path,
    term_path,
)
from tests.model import actions, faults
from tests.property.dumb_world import DB, TIMING, DumbWorld, node_spec

R1 = node_spec(1).rack


@pytest.fixture
def world() -> DumbWorld:
    """Three nodes, everything served."""
    return DumbWorld.served()


def term(world: DumbWorld, service: str) -> TermRecord:
    found = world.zk.tree[term_path(service)].data  # type: ignore[arg-type]
    assert isinstance(found, TermRecord)
    return found


def node_record(world: DumbWorld, index: int) -> NodeRecord:
    found = world.zk.tree[node_path(world.options.node_spec(index).id)].data
    assert isinstance(found, NodeRecord)
    return found


def drain(world: DumbWorld, index: int) -> None:
    """Ask as an operator for a node to be drained."""
    record = node_record(world, index)
    changed = NodeRecord(
        node=record.node,
        rack=record.rack,
        power_domain=record.power_domain,
        state=Lifecycle.DRAINING,
        boot_id=record.boot_id,
    )
    world.write_record(node_path(record.node), changed)


def strike(world: DumbWorld, kind: str, index: int) -> None:
    assert world.strike(kind, index), f"{kind} could not strike"


def served_elsewhere(world: DumbWorld, service: str, index: int) -> Any:
    return lambda: any(world.serves(node, service) for i, node in enumerate(world.nodes) if i != index)


def machine_state(world: DumbWorld, index: int) -> Any:
    return world.brains.machine(world.nodes[index].brain).view()


# -- 1: epochs ---------------------------------------------------------------------------------------------------------


def test_every_claim_raises_the_epoch_by_one(world: DumbWorld) -> None:
    holder, before = world.holder("db"), term(world, "db").epoch
    strike(world, "crash", holder)
    world.until(served_elsewhere(world, "db", holder))
    assert term(world, "db").epoch == before + 1


def test_effects_on_a_singleton_carry_the_epoch_of_its_claim(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)
    world.until(served_elsewhere(world, "db", holder))
    kinds = (fx.OpenVolume, fx.StartService, fx.AnnounceAddress, fx.ArmRight, fx.StartBeat)
    epochs = {entry[2].epoch for kind in kinds for entry in world.effects(kind, since) if entry[2].service == "db"}
    assert epochs == {term(world, "db").epoch}


def test_evidence_of_an_earlier_epoch_counts_for_nothing(world: DumbWorld) -> None:
    """A beat's answer names its epoch; one of another epoch neither stops nor extends anything."""
    holder = world.holder("db")
    epoch = term(world, "db").epoch
    since = world.now
    for outcome in ("refused", "ok"):
        world.step(
            holder,
            ev.BeatAnswered(
                at_ms=world.now, service=DB.name, epoch=epoch + 1, kind="storage", asked_ms=world.now, outcome=outcome
            ),  # type: ignore[arg-type]
        )
    assert world.effects(fx.StopService, since) == []
    assert world.serves(world.nodes[holder], "db")


# -- 2: identity before writing ----------------------------------------------------------------------------------------


def test_nothing_is_written_before_the_identity_is_recorded(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)

    def is_record(action: actions.Action) -> bool:
        effect = world.effect_of(action)
        writes = effect.writes if isinstance(effect, fx.Commit) else ()
        return any(isinstance(w, fx.Put) and isinstance(w.data, TermRecord) and w.data.identities for w in writes)

    world.until(lambda: any(e[2].service == "db" for e in world.effects(fx.OpenVolume, since)))
    world.for_ticks(5, is_record)
    assert [e for e in world.effects(fx.StartService, since) if e[2].service == "db"] == []
    assert [e for e in world.effects(fx.StartBeat, since) if e[2].kind == "storage"] == []
    world.until(served_elsewhere(world, "db", holder))


def test_the_identity_is_in_the_term_and_its_commit_checks_the_own_lease(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)
    world.until(served_elsewhere(world, "db", holder))
    new = world.nodes[world.holder("db")]
    instance = new.services["db"].instance
    assert term(world, "db").identities == (instance,)
    recording = [
        entry[2]
        for entry in world.effects(fx.Commit, since)
        if any(isinstance(w, fx.Put) and isinstance(w.data, TermRecord) and instance in w.data.identities for w in entry[2].writes)
    ]
    assert recording
    for commit in recording[:1]:
        assert any(isinstance(w, fx.Check) and w.path == lease_path(DB.name) for w in commit.writes)


# -- 3: fence before opening -------------------------------------------------------------------------------------------


def test_the_volume_is_not_opened_before_the_fence_is_confirmed(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)
    world.for_ticks(40, lambda action: action[0] == "force")
    assert world.effects(fx.FenceInstance, since)
    assert world.effects(fx.OpenVolume, since) == []
    world.until(served_elsewhere(world, "db", holder))


def test_a_claimer_that_died_hands_on_what_it_had_to_fence(world: DumbWorld) -> None:
    holder = world.holder("db")
    instance = world.nodes[holder].services["db"].instance
    first = term(world, "db").epoch
    strike(world, "crash", holder)
    world.until(lambda: term(world, "db").epoch > first, lambda action: action[0] == "force")
    second = next(i for i, node in enumerate(world.nodes) if node.name == term(world, "db").holder)
    assert instance in term(world, "db").unfenced
    strike(world, "crash", second)
    world.until(lambda: term(world, "db").epoch > first + 1, lambda action: action[0] == "force")
    assert instance in term(world, "db").unfenced
    world.until(lambda: world.is_served("db"))
    assert instance not in term(world, "db").unfenced
    assert instance in term(world, "db").blocked


def test_a_fence_that_fails_is_tried_again_and_never_skipped(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)
    world.until(lambda: bool(world.effects(fx.FenceInstance, since)), lambda action: action[0] == "store")
    world.own_storage().stalled = True
    world.for_ticks(70)
    assert world.effects(fx.OpenVolume, since) == []
    assert len(world.effects(fx.FenceInstance, since)) > 1
    world.own_storage().stalled = False
    world.until(served_elsewhere(world, "db", holder))


def test_every_instance_in_the_way_is_fenced_not_only_the_first(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    instance = world.nodes[holder].services["db"].instance
    assert instance is not None
    ghosts = tuple(
        Instance(node=instance.node, boot_id=instance.boot_id, epoch=instance.epoch, address=f"ghost:0/{n}") for n in (1, 2)
    )
    strike(world, "crash", holder)
    world.write_record(term_path(DB.name), msgspec.structs.replace(term(world, "db"), unfenced=ghosts))
    world.until(served_elsewhere(world, "db", holder))
    assert {e[2].instance for e in world.effects(fx.FenceInstance, since)} >= {*ghosts, instance}


@pytest.mark.parametrize("reason", ["unanswered", "failed", "unavailable", "refused"])
def test_a_fence_without_confirmation_opens_nothing(world: DumbWorld, reason: ev.Reason) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)
    world.until(lambda: bool(world.effects(fx.FenceInstance, since)), lambda action: action[0] == "store")
    _, claimer, fence = world.effects(fx.FenceInstance, since)[0]
    storage = world.own_storage()
    storage.requests = tuple(r for r in storage.requests if r.effect != fence)
    world.step(world.index_of(claimer), ev.OpFailed(at_ms=world.now, op=fence.op, reason=reason))
    world.for_ticks(6, lambda action: action[0] in ("store", "force"))
    assert world.effects(fx.OpenVolume, since) == []
    assert len(world.effects(fx.FenceInstance, since)) == 2
    world.until(served_elsewhere(world, "db", holder))


# -- 4: clean hand-over ------------------------------------------------------------------------------------------------


def test_a_drained_holder_stops_closes_and_releases_its_own_identity(world: DumbWorld) -> None:
    holder = world.holder("db")
    instance = world.nodes[holder].services["db"].instance
    since = world.now
    drain(world, holder)
    world.until(served_elsewhere(world, "db", holder))
    order = [type(e[2]).__name__ for e in world.log if e[0] >= since and e[1] == world.nodes[holder].name]
    assert order.index("StopService") < order.index("CloseVolume")
    assert world.storage.instances[instance] == "closed"  # type: ignore[index]
    fenced = [e[2].instance for e in world.effects(fx.FenceInstance, since)]
    assert instance not in fenced, "a released identity needs no fence"


def test_an_unclean_stop_releases_nothing(world: DumbWorld) -> None:
    """The volume could not be closed, so the next holder has to fence."""
    holder = world.holder("db")
    instance = world.nodes[holder].services["db"].instance
    since = world.now
    drain(world, holder)
    world.until(lambda: bool(world.effects(fx.CloseVolume, since)), lambda action: action[0] == "store")
    close = world.effects(fx.CloseVolume, since)[0][2]
    storage = world.own_storage()
    storage.requests = tuple(r for r in storage.requests if r.effect != close)
    world.step(holder, ev.OpFailed(at_ms=world.now, op=close.op, reason="unanswered"))
    world.until(served_elsewhere(world, "db", holder))
    fenced = [e[2].instance for e in world.effects(fx.FenceInstance, since)]
    assert instance in fenced


def test_a_release_keeps_what_others_still_have_to_fence_and_block(world: DumbWorld) -> None:
    holder = world.holder("db")
    strike(world, "crash", holder)
    world.until(served_elsewhere(world, "db", holder))
    blocked = term(world, "db").blocked
    assert blocked
    drain(world, world.holder("db"))
    second = world.holder("db")
    world.until(lambda: lease_path(DB.name) not in world.zk.tree, lambda action: action[0] == "boot")
    assert set(blocked) <= set(term(world, "db").blocked)
    world.until(lambda: world.nodes[second].services.get("db") is None)


def test_a_release_checks_the_term_version(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    drain(world, holder)
    world.until(served_elsewhere(world, "db", holder))
    releases = [
        e[2] for e in world.effects(fx.Commit, since) if any(isinstance(w, fx.Remove) for w in e[2].writes)
    ]
    assert releases
    for release in releases[:1]:
        assert any(isinstance(w, fx.Put) and isinstance(w.data, TermRecord) for w in release.writes)


# -- 5: two leases -----------------------------------------------------------------------------------------------------


def test_a_holder_cut_off_from_zookeeper_goes_on_while_its_volume_answers(world: DumbWorld) -> None:
    """Until somebody fences it; here nobody can, because nobody reaches the storage's fence."""
    holder = world.holder("db")
    for index in range(3):
        strike(world, "cut", index)
    world.for_ticks(50)
    assert world.serves(world.nodes[holder], "db")
    assert not world.is_served("cron"), "a service without a volume stops without coordination evidence"


def test_a_holder_cut_off_from_its_volume_goes_on_while_zookeeper_answers(world: DumbWorld) -> None:
    holder = world.holder("db")
    strike(world, "storage_cut", holder)
    world.for_ticks(10)
    assert world.serves(world.nodes[holder], "db")


def test_a_holder_with_neither_withdraws_in_time_and_resumes_after_a_new_probe(world: DumbWorld) -> None:
    holder = world.holder("db")
    for index in range(3):
        strike(world, "cut", index)
    world.own_storage().stalled = True
    since = world.now
    limit = (TIMING.fresh_ms + TIMING.withdraw_ms) // world.options.tick_ms + 1
    world.for_ticks(limit)
    assert not world.serves(world.nodes[holder], "db")
    world.for_ticks(10)
    assert world.effects(fx.ResumeService, since) == []
    world.own_storage().stalled = False
    world.until(lambda: world.serves(world.nodes[holder], "db"))
    assert world.effects(fx.ResumeService, since)


def beat(world: DumbWorld, kind: str, asked_ms: int, outcome: str = "ok", service: str = "db") -> ev.BeatAnswered:
    epoch = term(world, service).epoch
    return ev.BeatAnswered(
        at_ms=world.now, service=service, epoch=epoch, kind=kind, asked_ms=asked_ms, outcome=outcome  # type: ignore[arg-type]
    )


def test_a_right_counts_from_when_the_evidence_was_asked_for(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    world.for_ticks(1, lambda action: action[0] in ("beat", "answer") and action[1] == holder)
    asked = world.now - 100
    world.own_node(holder).evidence["db", "coordination"] = (term(world, "db").epoch, asked)
    world.step(holder, beat(world, "coordination", asked))
    rights = [e[2].until_ms for e in world.effects(fx.ArmRight, since) if e[2].service == "db"]
    assert rights
    assert max(rights) <= asked + TIMING.fresh_ms


def test_a_withdrawn_holder_does_not_resume_on_a_probe_asked_before(world: DumbWorld) -> None:
    holder = world.holder("db")
    since = world.now
    for index in range(3):
        strike(world, "cut", index)
    world.own_storage().stalled = True
    world.for_ticks(8)
    assert world.notes("withdrawn", since)
    withdrawn_at = world.notes("withdrawn", since)[0][0]
    world.step(holder, beat(world, "storage", withdrawn_at - 100))
    assert world.effects(fx.ResumeService, since) == []


def test_only_storage_evidence_ends_a_withdrawal(world: DumbWorld) -> None:
    holder = world.holder("db")
    since = world.now
    for index in range(3):
        strike(world, "cut", index)
    world.own_storage().stalled = True
    world.for_ticks(8)
    world.step(holder, beat(world, "coordination", world.now))
    assert world.effects(fx.ResumeService, since) == []


def test_a_refused_probe_stops_the_service_at_once(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    world.step(holder, beat(world, "storage", world.now, "refused"))
    stops = [e[2] for e in world.effects(fx.StopService, since) if e[2].service == "db"]
    assert stops
    assert stops[0].kill
    assert not world.serves(world.nodes[holder], "db")


def test_an_unanswered_beat_proves_nothing(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now

    def lost(action: actions.Action) -> bool:
        return action[0] in ("beat", "answer", "expire_right") and action[1] == holder

    for _ in range(TIMING.fresh_ms // 100 + 2):
        world.for_ticks(1, lost)
        world.step(holder, beat(world, "coordination", world.now, "unanswered"))
        world.step(holder, beat(world, "storage", world.now, "unanswered"))
    assert world.notes("withdrawn", since)


def test_a_commit_that_does_not_check_the_lease_renews_nothing(world: DumbWorld) -> None:
    """While the beats are lost, other commits of the holder go through; the service without a volume still stops."""
    holder = world.holder("cron")
    name = world.nodes[holder].name
    start, stopped = world.now, False
    for round_ in range(24):
        world.own_node(holder).storage_cut = not world.own_node(holder).storage_cut
        world.step(holder, ev.StorageSeen(at_ms=world.now, ok=bool(round_ % 2)))
        world.for_ticks(1, lambda action: action[0] in ("beat", "answer") and action[1] == holder)
        stopped = stopped or any(e[1] == name and e[2].service == "cron" for e in world.effects(fx.StopService, start))
    commits = [e for e in world.effects(fx.Commit, start) if e[1] == name]
    assert commits, "the holder did commit other things"
    assert stopped


def test_a_new_session_ends_every_right_before_the_first_write_on_it(world: DumbWorld) -> None:
    holder = world.holder("db")
    name = world.nodes[holder].name
    strike(world, "cut", holder)
    session = world.nodes[holder].session
    world.until(lambda: session not in world.zk.sessions, lambda action: action[0] in ("store", "force"))
    since = world.now
    actions.apply(world, ("uncut", holder))
    world.for_ticks(20)
    mine = [e[2] for e in world.log if e[0] >= since and e[1] == name]
    writes = [n for n, e in enumerate(mine) if isinstance(e, fx.Commit) and e.session != session]
    stops = [n for n, e in enumerate(mine) if isinstance(e, fx.StopService) and e.service == "db"]
    assert stops, "the old right's service was stopped"
    assert not writes or stops[0] < writes[0]


def test_nothing_is_written_on_a_new_session_while_the_old_services_are_being_stopped(world: DumbWorld) -> None:
    holder = world.holder("db")
    name, session = world.nodes[holder].name, world.nodes[holder].session
    strike(world, "cut", holder)
    world.until(lambda: session not in world.zk.sessions)
    since = world.now
    actions.apply(world, ("uncut", holder))
    world.for_ticks(10, lambda action: action[0] == "local" and action[1] == holder)
    assert [e for e in world.effects(fx.Commit, since) if e[1] == name] == []
    world.until(lambda: any(e[1] == name for e in world.effects(fx.Commit, since)))


def test_no_client_is_admitted_before_the_old_evidence_ran_out(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)
    world.until(served_elsewhere(world, "db", holder))
    fenced = [e for e in world.notes("fenced", since) if e[2].service == "db"][-1][0]
    admitted = [e for e in world.effects(fx.AnnounceAddress, since) if e[2].service == "db"][0][0]
    assert admitted - fenced >= TIMING.admission_ms


# -- 6: blocked instances ----------------------------------------------------------------------------------------------


def test_a_fenced_instance_stays_blocked_until_its_hardware_reports_a_new_boot(world: DumbWorld) -> None:
    holder = world.holder("db")
    instance = world.nodes[holder].services["db"].instance
    strike(world, "cut", holder)
    world.until(served_elsewhere(world, "db", holder))
    since = world.now
    world.for_ticks(15)
    actions.apply(world, ("uncut", holder))
    world.until(lambda: member_path(R1, world.options.node_spec(holder).id) in world.zk.tree)
    world.for_ticks(30)
    assert instance in term(world, "db").blocked
    assert world.effects(fx.LiftBlock, since) == []
    strike(world, "crash", holder)
    world.for_ticks(30)
    assert instance in term(world, "db").blocked, "off is no new boot"
    actions.apply(world, ("boot", holder))
    world.until(lambda: instance not in term(world, "db").blocked)
    lifted = [e[2].instance for e in world.effects(fx.LiftBlock, since)]
    assert instance in lifted


def test_fences_are_asked_for_as_long_as_the_timing_says(world: DumbWorld) -> None:
    holder, since = world.holder("db"), world.now
    strike(world, "crash", holder)
    world.until(served_elsewhere(world, "db", holder))
    assert {e[2].block_ms for e in world.effects(fx.FenceInstance, since)} == {TIMING.block_ms}


# -- 7: no volume ------------------------------------------------------------------------------------------------------


def claimed_at(world: DumbWorld, service: str, since: int) -> int:
    found = [
        entry[0]
        for entry in world.effects(fx.Commit, since)
        if any(isinstance(w, fx.Create) and w.path == lease_path(service) for w in entry[2].writes)  # type: ignore[arg-type]
    ]
    return found[-1]


def test_without_a_volume_an_early_close_is_waited_out(world: DumbWorld) -> None:
    holder, since = world.holder("cron"), world.now
    strike(world, "lie", holder)
    world.until(served_elsewhere(world, "cron", holder))
    started = [e for e in world.effects(fx.StartService, since) if e[2].service == "cron"][-1][0]
    assert started - claimed_at(world, "cron", since) >= TIMING.no_volume_wait_ms


def test_without_a_volume_a_plain_expiry_needs_no_wait(world: DumbWorld) -> None:
    holder, since = world.holder("cron"), world.now
    strike(world, "cut", holder)
    world.until(served_elsewhere(world, "cron", holder))
    started = [e for e in world.effects(fx.StartService, since) if e[2].service == "cron"][-1][0]
    assert started - claimed_at(world, "cron", since) < TIMING.no_volume_wait_ms


def test_without_a_volume_a_power_fence_never_delays_the_start(world: DumbWorld) -> None:
    holder, since = world.holder("cron"), world.now
    strike(world, "cut", holder)
    took = world.until(served_elsewhere(world, "cron", holder), lambda action: action[0] == "power")
    assert took * world.options.tick_ms <= 2 * TIMING.session_timeout_ms
    assert world.effects(fx.StartService, since)


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


def fence_of(world: DumbWorld, since: int) -> Any:
    return [e for e in world.effects(fx.PowerOrder, since) if e[2].action != "on"]


def lose(world: DumbWorld, index: int) -> None:
    """A node freezes for good: lost, not off."""
    strike(world, "freeze", index)
    world.until(lambda: member_path(R1, world.options.node_spec(index).id) not in world.zk.tree)


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
    asked = [e for e in world.effects(fx.ReadPower, since)][0]
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

    def is_mark(action: actions.Action) -> bool:
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

    def is_commit(action: actions.Action) -> bool:
        return action[1] == holder and isinstance(world.effect_of(action), fx.Commit)

    world.for_ticks(4, is_commit)
    assert [e for e in world.notes("adopted", since)] == []
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
    world.until(
        served_elsewhere(world, "db", claimer), lambda action: action[0] == "mount" and action[1] == claimer
    )
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
    world.until(
        served_elsewhere(world, "db", claimer), lambda action: action[0] == "mount" and action[1] == claimer
    )
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
            world.step(holder, ev.ServiceExited(at_ms=world.now, service=found_name("cron"), epoch=epoch, detail="gone"))
        world.for_ticks(10)
    assert term(world, "cron").epoch > epoch or world.is_served("cron")
    assert world.notes("service_failed", since)
    assert node.name


def found_name(name: str) -> Any:
    return name


# -- mirrors: a watch event is a hint ----------------------------------------------------------------------------------


def test_a_stale_change_is_ignored(world: DumbWorld) -> None:
    """An older transaction's report of the lease, delivered late, must not make anybody think it vacant."""
    holder = world.holder("db")
    other = next(index for index in range(3) if index != holder)
    since = world.now
    gone = world.zk.state(lease_path(DB.name))
    stale = type(gone)(path=gone.path, zxid=gone.zxid - 1)
    world.step(other, ev.RecordsChanged(at_ms=world.now, changes=(stale,)))
    world.for_ticks(20)
    claims = [
        e for e in world.effects(fx.Commit, since)
        if any(isinstance(w, fx.Create) and w.path == lease_path(DB.name) for w in e[2].writes)
    ]
    assert claims == []


def test_faults_of_the_small_world_are_all_named() -> None:
    assert set(faults.FAULTS) == set(faults.WORDS)
