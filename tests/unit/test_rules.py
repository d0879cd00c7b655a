"""Directed tests of rules 1 to 7 of design 2.1 (singletons): real machines, one situation each."""

import msgspec
import pytest

from core import effects as fx
from core import events as ev
from core.records import (
    Instance,
    TermRecord,
    lease_path,
    member_path,
    term_path,
)
from tests.property.dumb_world import DB, TIMING, DumbWorld
from tests.unit.situations import R1, beat, drain, served_elsewhere, strike, term
from twin.check import actions, faults
from twin.check.codes import Action


@pytest.fixture
def world() -> DumbWorld:
    """Three nodes, everything served."""
    return DumbWorld.served()


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

    def is_record(action: Action) -> bool:
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
        if any(
            isinstance(w, fx.Put) and isinstance(w.data, TermRecord) and instance in w.data.identities
            for w in entry[2].writes
        )
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
        Instance(node=instance.node, boot_id=instance.boot_id, epoch=instance.epoch, address=f"ghost:0/{n}")
        for n in (1, 2)
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
    releases = [e[2] for e in world.effects(fx.Commit, since) if any(isinstance(w, fx.Remove) for w in e[2].writes)]
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

    def lost(action: Action) -> bool:
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
    admitted = next(e for e in world.effects(fx.AnnounceAddress, since) if e[2].service == "db")[0]
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
        e
        for e in world.effects(fx.Commit, since)
        if any(isinstance(w, fx.Create) and w.path == lease_path(DB.name) for w in e[2].writes)
    ]
    assert claims == []


def test_faults_of_the_small_world_are_all_named() -> None:
    assert set(faults.FAULTS) == set(faults.WORDS)
