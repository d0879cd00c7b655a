"""The law by which a storage grows, case by case: what is done next, by whom, and what is waited for instead."""

import pytest

from core.ids import NodeId
from drivers.ceph_growth import (
    AddMonitor,
    AddOsd,
    AddStandby,
    Cluster,
    Here,
    Pool,
    RemakeMonitor,
    RemoveMonitor,
    SetMinSize,
    SetSize,
    Shared,
    changes,
    copies_goal,
    decide,
    doer,
    unfinished,
)

N1, N2, N3, N4, N5, N6 = (NodeId(f"n{number}") for number in range(1, 7))


def nodes(names: str) -> tuple[NodeId, ...]:
    return tuple(map(NodeId, names.split()))


def pool(size: int, min_size: int, whole: int = 8) -> Pool:
    return Pool(name="rbd", size=size, min_size=min_size, groups=8, whole=whole)


def cluster(
    monitors: str, hosts: str, *, quorum: str = "", voters: str = "", retired: str = "", pools: tuple[Pool, ...] = ()
) -> Cluster:
    """A cluster whose voters are its hosts and whose monitors all agree, unless said otherwise."""
    heard = nodes(quorum or monitors)
    return Cluster(
        hosts=nodes(hosts),
        monitors=nodes(monitors),
        quorum=heard,
        leader=heard[0],
        voters=nodes(voters or hosts),
        retired=nodes(retired),
        pools=pools,
    )


@pytest.mark.parametrize(
    ("seen", "steps", "waits"),
    [
        (cluster("n1", "n1"), (), ""),
        (cluster("n1", "n1 n2"), (), ""),
        (cluster("n1", "n1", voters="n1 n2 n3"), (), "1 monitor: waits for the disks of n2 n3 to have 3"),
        (cluster("n1", "n1 n2", voters="n1 n2 n3"), (), "1 monitor: waits for the disks of n3 to have 3"),
        (cluster("n1", "n1 n2 n3"), (AddMonitor(N2),), "1 of 3 monitors: n2 is next"),
        (cluster("n1 n2", "n1 n2 n3"), (AddMonitor(N3),), "2 of 3 monitors: n3 is next"),
        (cluster("n1 n2 n3", "n1 n2 n3 n4"), (), ""),
        (cluster("n1 n2 n3", "n1 n2 n3 n4 n5"), (AddMonitor(N4),), "3 of 5 monitors: n4 is next"),
        (cluster("n1 n2 n3 n4 n5", "n1 n2 n3 n4 n5 n6"), (), ""),
        (
            cluster("n1 n2 n3", "n1 n2 n3 n4 n5", quorum="n1 n3"),
            (),
            "3 of 5 monitors: waits for that of n2, which is not heard",
        ),
        (cluster("n1", "n1 n2 n3", retired="n3"), (), ""),
        (cluster("n1 n2 n3", "n1 n2", quorum="n1 n2", retired="n3"), (RemoveMonitor(N3),), "n3 is to be removed"),
        (cluster("n1 n2 n3", "n1 n2", quorum="n1 n3", retired="n3"), (), ""),
        (cluster("n1 n2 n3", "n1 n2 n4", quorum="n1 n2", voters="n1 n2 n4"), (RemoveMonitor(N3),), "n3 is to be"),
        (cluster("n1 n2 n3", "n1 n2", quorum="n1 n2", voters="n1 n2"), (), ""),
        (cluster("n1 n2 n3", "n1 n2 n4", quorum="n1 n2", voters="n1 n2 n3 n4"), (), ""),
    ],
)
def test_monitors_follow_the_voters_by_odd_numbers(seen: Cluster, steps: tuple[Shared, ...], waits: str) -> None:
    found = changes(seen)
    assert found.steps == steps
    assert waits in " ".join(found.waits) if waits else found.waits == ()


@pytest.mark.parametrize(
    ("hosts", "there", "steps", "waits"),
    [
        ("n1", pool(1, 1), (), "pool rbd: 1 copy: waits for 2 more nodes with a disk to have 3"),
        ("n1 n2", pool(1, 1), (SetSize("rbd", 2),), "pool rbd: 1 copy: one more is made"),
        ("n1 n2", pool(1, 1, whole=7), (), "pool rbd: 1 copy: waits until all 8 groups have them (7 have)"),
        ("n1 n2", pool(2, 1), (), "pool rbd: 2 copies: waits for one more node with a disk to have 3"),
        ("n1 n2 n3", pool(1, 1), (SetSize("rbd", 2),), "one more is made"),
        ("n1 n2 n3", pool(2, 1), (SetSize("rbd", 3),), "pool rbd: 2 copies: one more is made"),
        ("n1 n2 n3", pool(2, 1, whole=0), (), "waits until all 8 groups have them (0 have)"),
        ("n1 n2 n3", pool(3, 1), (SetMinSize("rbd", 2),), "pool rbd: 3 copies: from now on a write needs 2"),
        ("n1 n2 n3", pool(3, 1, whole=7), (), "waits until all 8 groups have them (7 have)"),
        ("n1 n2 n3 n4", pool(3, 2), (), ""),
        ("n1", pool(3, 2, whole=0), (), ""),
        ("n1 n2 n3", pool(4, 2), (), ""),
    ],
)
def test_copies_follow_the_nodes_one_at_a_time(hosts: str, there: Pool, steps: tuple[Shared, ...], waits: str) -> None:
    found = changes(cluster("n1", hosts, voters="n1", pools=(there,)))
    assert found.steps == steps
    assert waits in " ".join(found.waits) if waits else found.waits == ()


def test_copies_do_not_wait_for_monitors_nor_for_each_other() -> None:
    seen = cluster("n1", "n1 n2 n3", pools=(pool(1, 1, whole=0), pool(3, 1)))
    assert changes(seen).steps == (AddMonitor(N2), SetMinSize("rbd", 2))


def test_the_leader_changes_what_is_shared_unless_it_is_retired() -> None:
    seen = cluster("n1 n2 n3", "n1 n2 n3", pools=(pool(1, 1),))
    assert decide(Here(node=N1, osd=True, manager=True), seen).steps == (SetSize("rbd", 2),)
    assert decide(Here(node=N2, osd=True, manager=True, monitor=True), seen).steps == ()
    gone = cluster("n1 n2 n3", "n1 n2 n3", retired="n1")
    assert doer(RemoveMonitor(N1), gone) == N2


def test_a_node_brings_its_disk_first_and_says_why_it_cannot() -> None:
    seen = cluster("n1 n2 n3", "n1 n3", pools=(pool(3, 2),))
    assert decide(Here(node=N4), seen).steps == (AddOsd(),)
    assert decide(Here(node=N4, cannot="it has none"), seen).steps == ()
    assert decide(Here(node=N4, cannot="it has none"), seen).waits[0] == "it has none"
    retired = cluster("n1 n2 n3", "n1 n3", retired="n4")
    assert decide(Here(node=N4), retired).steps == ()
    assert decide(Here(node=N4), retired).waits == ("n4 is retired",)


def test_a_monitor_that_was_lost_with_its_disk_is_made_anew_and_one_that_is_only_away_is_not() -> None:
    seen = cluster("n1 n2 n3", "n1 n2 n3", quorum="n1 n3", pools=(pool(3, 2),))
    assert decide(Here(node=N2, osd=True), seen).steps == (RemakeMonitor(),)
    assert decide(Here(node=N2, osd=True, monitor=True), seen).steps == ()
    assert decide(Here(node=N2, osd=True, trusted=False), seen).steps == ()


def test_three_managers_at_most_and_where_a_monitor_agrees() -> None:
    def steps(node: NodeId, managers: str, manager: bool = False, trusted: bool = True) -> tuple[object, ...]:
        seen = cluster("n1 n2 n3", "n1 n2 n3 n4", quorum="n1 n2", pools=(pool(3, 2),))
        seen = Cluster(**{name: getattr(seen, name) for name in seen.__struct_fields__ if name != "managers"},
                       managers=tuple(managers.split()))  # fmt: skip
        return decide(Here(node=node, osd=True, monitor=True, manager=manager, trusted=trusted), seen).steps

    assert steps(N2, "x") == (AddStandby(),)
    assert steps(N2, "x", manager=True) == ()
    assert steps(N2, "x n1 n3") == ()
    assert steps(N2, "x", trusted=False) == ()
    assert steps(N3, "x") == steps(N4, "x") == ()
    five = cluster("n1 n2 n3 n4 n5", "n1 n2 n3 n4 n5")
    wanting = [node for node in five.hosts if decide(Here(node=node, osd=True, monitor=True), five).steps]
    assert wanting == [N1, N2, N3], "five that look at once do not make five"


def test_groups_are_of_interest_only_until_a_pool_has_all_it_can_have() -> None:
    assert not unfinished(cluster("n1", "n1", pools=(pool(1, 1),)))
    assert unfinished(cluster("n1", "n1 n2", pools=(pool(1, 1),)))
    assert unfinished(cluster("n1", "n1 n2 n3", pools=(pool(3, 1),)))
    assert not unfinished(cluster("n1", "n1 n2 n3", pools=(pool(3, 2),)))
    assert copies_goal(cluster("n1", "n1 n2 n3 n4 n5")) == 3
    assert copies_goal(cluster("n1", "n1 n2 n3", retired="n2")) == 2
    assert copies_goal(cluster("n1", "n5", retired="n5")) == 1
