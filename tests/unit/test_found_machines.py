"""Machines that nobody listed: found, named, left alone, admitted, given up, retired and replaced."""

from typing import Any

import pytest

from core import effects as fx
from core import events as ev
from core.identity import forms, same_machine
from core.ids import DomainId, Guid, NodeId, RackId
from core.records import Lifecycle, MachineRecord, NodeRecord, machine_path, node_path
from core.ring import Ring
from tests.unit.one_machine import Alone

A, B = "4c4c4544003910568052b4c04f384432", "11111111222233334444555566667777"
L = Lifecycle


def bmc(last: int, guid: str, **more: Any) -> ev.Seen:
    """A BMC that answers, and may be used unless said otherwise."""
    known: dict[str, Any] = {"access": "default", **more}
    return ev.Seen(bmc=f"10.1.0.{last}:623", guid=Guid(guid), rack=RackId("r1"), power_domain=DomainId("p1"), **known)


def finding(*seen: ev.Seen, **more: Any) -> Alone:
    """A machine whose first look finds these."""
    return Alone(seen=seen, **more)


def machine(world: Alone, guid: str) -> MachineRecord:
    found: MachineRecord = world.get(machine_path(Guid(guid)))
    return found


def node(world: Alone, name: str) -> NodeRecord:
    found: NodeRecord = world.get(node_path(NodeId(name)))
    return found


def test_a_rack_without_networks_looks_nowhere() -> None:
    world = Alone(networks=())
    world.run(200_000)
    assert world.seen(fx.Scan) == []
    assert "/moxie/machines" not in world.mirrors


def test_machines_are_named_by_the_lowest_free_numbers_in_the_order_they_were_seen() -> None:
    world = finding(bmc(12, B), bmc(11, A), taken=(2,))
    assert (machine(world, B).node, machine(world, B).number) == ("n3", 3)
    assert (machine(world, A).node, machine(world, A).number) == ("n4", 4)
    assert node(world, "n3").guid == B
    assert [note.node for note in world.notes("found")] == ["n3", "n4"]


def test_a_found_machine_is_powered_and_let_boot_as_itself_and_nobody_else() -> None:
    world = finding(bmc(11, A))
    world.answers[fx.ReadPower] = lambda _: ev.PowerSeen(on=False)
    world.answers[fx.PowerOrder] = lambda _: ev.PowerSeen(on=True)
    world.run(70_000)
    allowed = world.seen(fx.AllowBoot)
    assert [(a.node, a.guid) for a in allowed] == [("n2", A)]
    order = world.seen(fx.PowerOrder)[0]
    assert (order.node, order.action) == ("n2", "on")
    assert world.effects.index(allowed[0]) < world.effects.index(order), "the window is open before the power is on"


def test_the_same_machine_is_not_named_twice_whatever_order_its_bytes_come_in() -> None:
    world = finding(bmc(11, A))
    for other in forms(A)[1:]:
        assert same_machine(A, other)
        again = bmc(11, other.replace("-", ""))
        world.answers[fx.Scan] = lambda _, again=again: ev.Scanned(seen=(again,))
        world.run(61_000)
    assert world.get(node_path(NodeId("n3"))) is None
    assert len(world.notes("found")) == 1


@pytest.mark.parametrize("guid", ["0" * 32, "f" * 32, "", "what"])
def test_a_bmc_without_identity_is_noted_and_left_alone(guid: str) -> None:
    world = finding(bmc(11, guid))
    assert machine(world, "bmc-10.1.0.11:623").problem == "its BMC shows no identity"
    assert world.get(node_path(NodeId("n2"))) is None
    world.run(300_000)
    assert len(world.notes("found_locked")) == 1


def test_two_bmcs_with_one_identity_are_one_machine_and_one_problem() -> None:
    world = finding(bmc(11, A), bmc(12, A))
    assert machine(world, A).bmc == "10.1.0.11:623"
    assert "identity of the machine at 10.1.0.11:623" in machine(world, "bmc-10.1.0.12:623").problem


def test_a_machine_that_no_credentials_fit_is_seen_and_not_touched_until_they_do() -> None:
    world = finding(bmc(11, A, access="", problem="its BMC refuses every credential of mgmt"))
    assert (machine(world, A).node, machine(world, A).problem) == ("", "its BMC refuses every credential of mgmt")
    world.run(200_000)
    assert world.seen(fx.ReadPower) == []
    world.answers[fx.Scan] = lambda _: ev.Scanned(seen=(bmc(11, A),))
    world.run(61_000)
    assert (machine(world, A).node, machine(world, A).problem) == ("n2", "")
    assert node(world, "n2").state is not None


def test_another_machine_behind_a_dead_nodes_bmc_is_a_new_node_and_the_old_one_keeps_no_bmc() -> None:
    world = finding(bmc(11, A))
    world.answers[fx.Scan] = lambda _: ev.Scanned(seen=(bmc(11, B),))
    world.run(61_000)
    assert machine(world, B).node == "n3"
    assert (machine(world, A).bmc, machine(world, A).problem) == ("", "another machine answers at its BMC")


def test_another_machine_behind_a_live_nodes_bmc_is_left_alone() -> None:
    ring = Ring()
    ring.load((), (NodeId("n1"), NodeId("n2")))
    network = next(f"net{n}" for n in range(64) if ring.owner_of_key(f"scan/net{n}") == "n1")
    world = finding(bmc(11, A), networks=(network,))
    world.member("n2")
    world.answers[fx.Scan] = lambda _: ev.Scanned(seen=(bmc(11, B),))
    world.run(61_000)
    assert machine(world, B).node == ""
    assert "n2 is alive" in machine(world, B).problem
    assert machine(world, A).bmc == "10.1.0.11:623"


def test_a_machine_of_the_inventory_keeps_its_name() -> None:
    world = finding(bmc(11, A, node=NodeId("db-1"), number=17))
    assert (machine(world, A).node, machine(world, A).number) == ("db-1", 17)


def test_a_look_that_loses_a_race_is_made_again() -> None:
    world = Alone()
    world.run(1_000)
    world.answers[fx.Scan] = lambda _: ev.Scanned(seen=(bmc(11, A),))
    world.mirrors.pop("/moxie/machines", None)  # what others write is not shown for a while
    world.put(
        node_path(NodeId("n2")),
        NodeRecord(node=NodeId("n2"), rack=RackId("r1"), power_domain=DomainId("p1"), state=L.DISCOVERED),
    )
    world.run(70_000)
    assert machine(world, A).node == "n3"


def test_who_was_refused_is_kept_for_people_but_not_without_bound() -> None:
    world = Alone()
    for turn in range(50):
        world.step(ev.JoinRefused(at_ms=world.now, reason="unknown_machine", detail=f"machine {turn}"))
    shown = world.machine.view().refusals
    assert len(shown) == 20
    assert shown[-1] == "unknown_machine: machine 49"


def test_an_admission_is_written_down_against_the_record_as_it_is_now() -> None:
    world = finding(bmc(11, A))
    world.set_state("n2", L.BOOTING)
    world.step(
        ev.JoinAdmitted(at_ms=world.now, node=NodeId("n2"), guid=Guid(A), mac="52:54:00:00:00:01", certificate="c0")
    )
    assert (node(world, "n2").macs, node(world, "n2").certificates) == (("52:54:00:00:00:01",), ("c0",))
    assert node(world, "n2").state is L.BOOTING


def test_a_machine_that_never_comes_up_is_given_up_with_its_console() -> None:
    world = finding(bmc(11, A))
    on = [False]

    def order(effect: fx.PowerOrder) -> ev.PowerSeen:
        on[0] = True
        return ev.PowerSeen(on=True)

    world.answers[fx.ReadPower] = lambda _: ev.PowerSeen(on=on[0])
    world.answers[fx.PowerOrder] = order
    world.answers[fx.ReadConsole] = lambda _: ev.ConsoleSeen(tail="kernel panic: no root")
    for _ in range(100):
        world.run(60_000)
        world.step(ev.BootSeen(at_ms=world.now, node=NodeId("n2"), stage="kernel"))
        if node(world, "n2").state is L.QUARANTINED:
            break
    found = node(world, "n2")
    assert found.state is L.QUARANTINED
    assert found.reason.startswith("5 boots were ordered and it did not stay up; the last time it was sent the kernel")
    assert found.console == "kernel panic: no root"


def test_a_found_machine_whose_bmc_never_works_is_given_up_with_its_words() -> None:
    world = finding(bmc(11, A))
    world.answers[fx.ReadPower] = lambda _: "failed"
    world.run(1_200_000)
    found = node(world, "n2")
    assert found.state is L.QUARANTINED
    assert found.reason == "its BMC fails: as the test has it (asked 8 times)"


def test_a_found_machine_that_runs_already_is_not_switched_off() -> None:
    world = finding(bmc(11, A))
    world.answers[fx.ReadPower] = lambda _: ev.PowerSeen(on=True)
    world.run(120_000)
    assert world.notes("found_running")
    world.run(1_200_000)
    assert world.seen(fx.PowerOrder) == []
    assert node(world, "n2").reason == "it runs, and this rack did not start it (asked 8 times)"
    assert node(world, "n2").state is L.QUARANTINED


def test_a_found_machine_that_ran_and_is_off_now_is_taken_up() -> None:
    world = finding(bmc(11, A))
    world.answers[fx.ReadPower] = lambda _: ev.PowerSeen(on=True)
    world.run(60_000)
    world.answers[fx.ReadPower] = lambda _: ev.PowerSeen(on=False)
    world.run(120_000)
    assert [order.action for order in world.seen(fx.PowerOrder)] == ["on"]


def test_everybody_learns_that_a_machine_was_retired_and_that_it_was_taken_back() -> None:
    world = finding(bmc(11, A))
    world.answers[fx.ReadPower] = lambda _: None
    world.step(ev.JoinAdmitted(at_ms=world.now, node=NodeId("n2"), guid=Guid(A), mac="", certificate="c0"))
    world.set_state("n2", L.RETIRED)
    world.run(10_000)
    assert (machine(world, A).retired, machine(world, A).certificates) == (True, ("c0",))
    world.answers[fx.Scan] = lambda _: ev.Scanned(seen=(bmc(11, A),))
    world.run(120_000)
    assert world.seen(fx.PowerOrder) == []
    world.set_state("n2", L.DISCOVERED)
    world.run(10_000)
    assert not machine(world, A).retired
