"""A change of image: one domain after the other, halted by what goes wrong, and carried on by whoever is there."""

import pytest

from core import effects as fx
from core import events as ev
from core.ids import BootId, ImageId, NodeId
from core.records import CLUSTER, ENSEMBLE, UPGRADE, ClusterRecord, EnsembleRecord, Lifecycle, Turn, UpgradeRecord
from core.ring import Ring
from tests.unit.one_machine import Alone

OLD, NEW = ImageId("0" * 16), ImageId("1" * 16)
L = Lifecycle


def owner_of_upgrades(*others: str) -> NodeId:
    """A name whose node owns the duty, whoever of the others is there."""
    for turn in range(1_000):
        ring, me = Ring(), NodeId(f"m{turn}")
        ring.load((), (me, *map(NodeId, others)))
        if ring.owner_of_key("upgrade") == me:
            return me
    raise AssertionError("no name will do")


def rack(**nodes: str) -> Alone:
    """A machine that was installed by hand and owns the duty, and members ``name=domain`` that run the old image."""
    world = Alone(networks=(), me=owner_of_upgrades("n2", "n3", "n4", "n5"))
    for name, domain in nodes.items():
        world.member(name, OLD, "b1", domain)
    return world


def begin(world: Alone, parallel: int = 1) -> None:
    world.put(UPGRADE, UpgradeRecord(image=NEW, previous=OLD, parallel=parallel))
    world.run(1)


def record(world: Alone) -> UpgradeRecord:
    found: UpgradeRecord = world.get(UPGRADE)
    return found


def turns(world: Alone) -> list[str]:
    return [turn.node for turn in record(world).current]


def upgraded(world: Alone, name: str, domain: str = "p1") -> None:
    """A node goes into maintenance, leaves, comes back with the new image, and runs everything for the gate's time."""
    back(world, name, domain)
    world.member(name, NEW, "b2", domain, settled=True)
    world.run(world.opening.timing.gate_ms + 1)


def back(world: Alone, name: str, domain: str = "p1") -> None:
    """A node goes into maintenance, leaves, and comes back with the new image."""
    world.set_state(name, L.MAINTENANCE)
    world.leave(name)
    world.run(20_000)
    world.member(name, NEW, "b2", domain)
    world.run(1_000)
    assert world.state(name) is L.JOINED, "it is taken into service before it is judged"
    world.member(name, NEW, "b2", domain)


def test_nodes_go_one_after_the_other_and_domain_by_domain() -> None:
    world = rack(n2="p1", n3="p2", n4="p1")
    begin(world)
    assert (turns(world), world.state("n2"), world.state("n4")) == (["n2"], L.DRAINING, L.JOINED)
    upgraded(world, "n2")
    assert (turns(world), record(world).done, world.state("n2")) == (["n4"], ("n2",), L.JOINED)
    upgraded(world, "n4")
    assert turns(world) == ["n3"]
    upgraded(world, "n3", "p2")
    assert (record(world).state, record(world).current) == ("done", ())
    assert len(world.notes("upgrade_done")) == 1


def test_several_at_once_are_of_one_domain() -> None:
    world = rack(n2="p1", n3="p2", n4="p1", n5="p1")
    begin(world, parallel=2)
    assert turns(world) == ["n2", "n4"]
    world = rack(n2="p1", n3="p2", n4="p1")
    begin(world, parallel=3)
    assert turns(world) == ["n2", "n4"]


def test_a_node_that_was_not_well_for_the_gates_time_is_not_done() -> None:
    world = rack(n2="p1")
    begin(world)
    back(world, "n2")
    gate_ms = world.opening.timing.gate_ms
    for _ in range(3):
        world.member("n2", NEW, "b2", settled=True)
        world.run(gate_ms - 2_000)
        world.member("n2", NEW, "b2", settled=False)
        world.run(2_000)
        assert turns(world) == ["n2"], "the gate begins anew when something failed"
    world.member("n2", NEW, "b2", settled=True)
    world.run(gate_ms + 1)
    assert turns(world) == []


def test_a_node_that_runs_its_old_image_again_has_another_turn() -> None:
    world = rack(n2="p1", n3="p2")
    begin(world)
    upgraded(world, "n2")
    world.member("n2", OLD, "b3")
    upgraded(world, "n3", "p2")
    assert turns(world) == ["n2"]


def test_a_node_that_never_gets_well_is_drained_and_goes_back() -> None:
    world = rack(n2="p1", n3="p2")
    begin(world)
    back(world, "n2")
    world.run(world.opening.timing.boot_ms_max)
    assert (record(world).state, turns(world)) == ("halted", ["n2"])
    assert "n2 is back, and not well" in record(world).reason
    assert world.state("n2") is L.DRAINING
    world.set_state("n2", L.MAINTENANCE)
    world.leave("n2")
    world.run(5_000)
    world.member("n2", OLD, "b3")
    world.run(20_000)
    assert (world.state("n2"), turns(world), world.state("n3")) == (L.JOINED, [], L.JOINED)


def test_coming_back_with_the_old_image_halts_and_the_node_serves_again() -> None:
    world = rack(n2="p1", n3="p2")
    begin(world)
    world.set_state("n2", L.MAINTENANCE)
    world.leave("n2")
    world.run(1_000)
    world.member("n2", OLD, "b2")
    world.run(30_000)
    assert (record(world).state, record(world).current) == ("halted", ())
    assert record(world).reason == f"n2 came back with its old image {OLD}"
    assert (world.state("n2"), world.state("n3")) == (L.JOINED, L.JOINED)
    world.run(600_000)
    assert world.state("n3") is L.JOINED, "nothing begins once it is halted"


def test_staying_away_halts_and_the_node_is_powered_like_a_lost_one() -> None:
    world = rack(n2="p1")
    begin(world)
    world.set_state("n2", L.MAINTENANCE)
    world.leave("n2")
    world.run(3_000_000)
    assert record(world).state == "halted"
    assert "n2 was not back within" in record(world).reason
    assert world.state("n2") is not L.MAINTENANCE


def test_an_operators_halt_gives_a_draining_node_back() -> None:
    world = rack(n2="p1")
    begin(world)
    world.put(UPGRADE, UpgradeRecord(image=NEW, previous=OLD, state="halted", current=record(world).current))
    world.run(10_000)
    assert (world.state("n2"), record(world).current) == (L.JOINED, ())


def test_nothing_begins_while_another_node_is_in_maintenance() -> None:
    world = rack(n2="p1")
    world.put(CLUSTER, ClusterRecord(maintenance=(NodeId("n9"),)))
    begin(world)
    world.run(60_000)
    assert turns(world) == []


def test_machines_that_run_no_image_of_ours_are_left_alone() -> None:
    world = rack()
    world.member("n2", "", "b1")
    begin(world)
    world.run(10_000)
    assert record(world).state == "done"
    assert world.state("n2") is L.JOINED


# -- the node's own part -----------------------------------------------------------------------------------------------


def own_turn(boot: str = "b1", image: ImageId = OLD) -> Alone:
    """A machine in maintenance whose turn it has been since boot ``boot``; somebody else owns the duty."""
    world = Alone(networks=(), image=image)
    owner = owner_of_upgrades("n1")
    world.member(owner)
    world.put(ENSEMBLE, EnsembleRecord(config=2, voters=(owner,)))
    world.set_state("n1", L.MAINTENANCE)
    turn = Turn(node=world.opening.node.id, boot_id=BootId(boot))
    world.put(UPGRADE, UpgradeRecord(image=NEW, previous=OLD, current=(turn,)))
    return world


def test_a_node_stages_the_image_and_restarts_into_it() -> None:
    world = own_turn()
    staged = world.seen(fx.StageImage)
    assert [effect.image for effect in staged] == [NEW]
    assert world.seen(fx.RestartInto) == []
    world.answer(staged[0].op, ev.Staged(slot="b"))
    assert [effect.image for effect in world.seen(fx.RestartInto)] == [NEW]
    world.run(60_000)
    assert len(world.seen(fx.StageImage)) == 1


def test_a_node_whose_server_is_needed_by_now_waits_until_it_is_not() -> None:
    world = own_turn()
    world.member("n2")
    world.put(ENSEMBLE, EnsembleRecord(config=2, voters=(NodeId("n1"), NodeId("n2"), NodeId("n3"))))
    world.answer(world.seen(fx.StageImage)[0].op, ev.Staged(slot="b"))
    world.run(20_000)
    assert world.seen(fx.RestartInto) == [], "n3 is away: without n1 there is no majority"
    world.member("n3")
    world.run(20_000)
    assert [effect.image for effect in world.seen(fx.RestartInto)] == [NEW]


def test_the_owner_of_the_duty_waits_for_its_own_restart_like_anybody() -> None:
    world = rack(n2="p1", n3="p2")
    me = world.opening.node.id
    world.put(ENSEMBLE, EnsembleRecord(config=2, voters=(me, NodeId("n2"), NodeId("n9"))))
    world.set_state(me, L.MAINTENANCE)
    turn = Turn(node=me, boot_id=BootId("b1"))
    world.put(UPGRADE, UpgradeRecord(image=NEW, previous=OLD, current=(turn,)))
    world.answer(world.seen(fx.StageImage)[0].op, ev.Staged(slot="b"))
    world.run(20_000)
    assert world.seen(fx.RestartInto) == []
    world.put(ENSEMBLE, EnsembleRecord(config=3, voters=(NodeId("n2"), NodeId("n3"), me)))
    world.run(2 * world.opening.timing.retry_ms_max)
    assert [effect.image for effect in world.seen(fx.RestartInto)] == [NEW]


def test_a_node_that_cannot_stage_halts_the_upgrade_and_says_why() -> None:
    world = own_turn()
    world.answer(world.seen(fx.StageImage)[0].op, "failed")
    assert (record(world).state, record(world).reason) == (
        "halted",
        f"n1 could not stage {NEW}: as the test has it",
    )
    assert world.seen(fx.RestartInto) == []


def test_a_node_that_comes_back_with_its_old_image_does_not_try_again() -> None:
    world = own_turn(boot="b0")
    assert world.seen(fx.StageImage) == []
    assert record(world).reason == f"n1 came back with its old image {OLD}"


@pytest.mark.parametrize("how", ["done", "turn over"])
def test_the_new_image_is_kept_only_when_the_gate_was_passed(how: str) -> None:
    world = own_turn(boot="b0", image=NEW)
    world.run(100_000)
    assert world.seen(fx.KeepImage) == []
    old = record(world)
    done = (world.opening.node.id,) if how == "turn over" else ()
    world.put(UPGRADE, UpgradeRecord(image=NEW, previous=OLD, done=done, state="done" if how == "done" else "running"))
    assert [effect.image for effect in world.seen(fx.KeepImage)] == [NEW]
    assert old.current


def test_a_node_that_runs_the_new_image_goes_back_when_the_upgrade_halts() -> None:
    world = own_turn(boot="b0", image=NEW)
    halted = UpgradeRecord(image=NEW, previous=OLD, state="halted", current=record(world).current)
    world.put(UPGRADE, halted)
    world.put(UPGRADE, halted)
    assert [effect.image for effect in world.seen(fx.RestartInto)] == [OLD]


def test_an_answer_that_comes_after_the_halt_restarts_nothing() -> None:
    world = own_turn()
    turn = record(world).current
    world.put(UPGRADE, UpgradeRecord(image=NEW, previous=OLD, state="halted", current=turn))
    world.answer(world.seen(fx.StageImage)[0].op, ev.Staged(slot="b"))
    assert world.seen(fx.RestartInto) == []
