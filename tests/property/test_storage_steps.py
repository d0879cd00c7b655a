"""How a storage grows, for any order of nodes, losses and stale looks: never smaller, never without a quorum."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Step,
    changes,
    decide,
    doer,
)

NODES = tuple(NodeId(f"n{number}") for number in range(1, 7))
TURNS = 20

some_nodes = st.lists(st.sampled_from(NODES), unique=True).map(lambda nodes: tuple(sorted(nodes)))


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    size, groups = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    whole = draw(st.sampled_from((groups, max(0, groups - 1))))
    return Pool(name="rbd", size=size, min_size=draw(st.integers(1, size)), groups=groups, whole=whole)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Any state that has a quorum; without one nobody can even look."""
    monitors = draw(some_nodes.filter(len))
    quorum = draw(st.permutations(monitors).map(lambda all_: tuple(sorted(all_[: len(monitors) // 2 + 1]))))
    quorum = draw(st.sampled_from((quorum, monitors)))
    return Cluster(
        hosts=draw(some_nodes),
        monitors=monitors,
        quorum=quorum,
        leader=draw(st.sampled_from(quorum)),
        managers=draw(some_nodes),
        pools=(draw(pools()),),
        voters=draw(some_nodes),
        retired=draw(some_nodes),
    )


def heres(node: NodeId) -> st.SearchStrategy[Here]:
    flag = st.booleans()
    cannot = st.sampled_from(("", "no disk"))
    return st.builds(Here, node=st.just(node), osd=flag, monitor=flag, manager=flag, cannot=cannot, trusted=flag)


@given(cluster=clusters(), data=st.data())
@settings(max_examples=150)
def test_a_step_is_always_a_safe_one(cluster: Cluster, data: st.DataObject) -> None:
    some = data.draw(heres(data.draw(st.sampled_from(NODES))))
    for here in (some, *(Here(node=node, osd=True) for node in NODES)):
        decision = decide(here, cluster)
        assert decision == decide(here, cluster)
        for step in decision.steps:
            assert not here.cannot
            assert here.node not in cluster.retired
            check(step, here, cluster)


def check(step: Step, here: Here, cluster: Cluster) -> None:
    """Look whether a step harms nothing, whatever else is the case."""
    living = [node for node in cluster.hosts if node not in cluster.retired]
    match step:
        case AddOsd():
            assert not here.osd
        case AddMonitor(node):
            assert node == here.node
            assert here.trusted
            assert node in cluster.voters
            assert node in living
            assert node not in cluster.monitors
            assert set(cluster.quorum) == set(cluster.monitors), "never while the quorum is not whole"
            ready = {one for one in cluster.voters if one in living} | set(cluster.monitors)
            odd = len(cluster.monitors) + 1 if len(cluster.monitors) % 2 == 0 else len(cluster.monitors) + 2
            assert len(ready) >= odd <= 5, "an even number is only passed through"
        case RemakeMonitor():
            assert not here.monitor
            assert here.node in set(cluster.monitors) - set(cluster.quorum) - set(cluster.retired)
        case RemoveMonitor(node):
            left = [one for one in cluster.monitors if one != node]
            assert node in cluster.retired or (node not in cluster.quorum and node not in cluster.voters)
            assert 2 * len([one for one in cluster.quorum if one != node]) > len(left) > 0
        case AddStandby():
            assert here.node in cluster.quorum
            assert not here.manager
            assert len(cluster.managers) < 3
        case SetSize(_, size):
            (pool,) = cluster.pools
            assert size == pool.size + 1 <= min(3, len(living))
            assert pool.whole == pool.groups > 0
        case SetMinSize(_, min_size):
            (pool,) = cluster.pools
            assert pool.min_size < min_size == 2
            assert pool.size >= 3
            assert pool.whole == pool.groups > 0


@given(cluster=clusters())
@settings(max_examples=100)
def test_what_is_shared_is_done_by_one_node_and_what_is_done_is_not_wanted_again(cluster: Cluster) -> None:
    ready = [Here(node=node, osd=True, monitor=True, manager=True) for node in NODES]
    steps = [(here.node, step) for here in ready for step in decide(here, cluster).steps]
    shared = changes(cluster).steps
    for step in shared:
        assert [node for node, other in steps if other == step] in ([], [doer(step, cluster)])
        assert step not in changes(done(cluster, step, doer(step, cluster))).steps
    assert [step for _, step in steps if step not in shared] == []


@given(
    order=st.permutations(NODES), votes=st.integers(1, 6), turns=st.lists(st.integers(0, 5), min_size=0, max_size=40)
)
@settings(max_examples=40)
def test_any_order_of_turns_ends_with_three_copies_and_as_many_monitors_as_there_may_be(
    order: list[NodeId], votes: int, turns: list[int]
) -> None:
    first, joined = order[0], order[: max(votes, 1)]
    cluster = Cluster(
        hosts=(first,),
        monitors=(first,),
        quorum=(first,),
        leader=first,
        managers=("x",),
        pools=(Pool(name="rbd", size=1, min_size=1, groups=4, whole=4),),
        voters=tuple(sorted(joined)),
    )
    managers = {first}
    for turn in (*turns, *(number % 6 for number in range(TURNS * 6))):
        node = order[turn]
        here = Here(node=node, osd=node in cluster.hosts, monitor=True, manager=node in managers)
        for step in decide(here, cluster).steps[:1]:
            if isinstance(step, AddStandby):
                managers.add(node)
            before = cluster
            cluster = done(cluster, step, node)
            assert cluster.pools[0].size >= before.pools[0].size
            assert cluster.pools[0].min_size >= before.pools[0].min_size
    assert (cluster.pools[0].size, cluster.pools[0].min_size) == (3, 2)
    assert len(cluster.monitors) == max(size for size in (1, 3, 5) if size <= max(1, votes))
    assert len(managers) == min(3, len(cluster.monitors))
    assert changes(cluster).steps == ()


def done(cluster: Cluster, step: Step, node: NodeId) -> Cluster:
    """The cluster after a step, with all copies made and all monitors heard."""
    replace, (pool,) = msgspec.structs.replace, cluster.pools
    match step:
        case AddOsd():
            return replace(cluster, hosts=tuple(sorted({*cluster.hosts, node})))
        case AddMonitor(new):
            monitors = tuple(sorted({*cluster.monitors, new}))
            return replace(cluster, monitors=monitors, quorum=monitors)
        case RemoveMonitor(old):
            left = tuple(one for one in cluster.monitors if one != old)
            quorum = tuple(one for one in cluster.quorum if one != old)
            return replace(
                cluster, monitors=left, quorum=quorum, leader=quorum[0] if cluster.leader == old else cluster.leader
            )
        case RemakeMonitor():
            return replace(cluster, quorum=tuple(sorted({*cluster.quorum, node})))
        case AddStandby():
            return replace(cluster, managers=tuple(sorted({*cluster.managers, node})))
        case SetSize(_, size):
            return replace(cluster, pools=(replace(pool, size=size, whole=pool.groups),))
        case SetMinSize(_, min_size):
            return replace(cluster, pools=(replace(pool, min_size=min_size),))
