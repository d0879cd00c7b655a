"""Stewards and wards on the ring, against the definition written out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.hashing import digest
from core.ids import NO_NODE, NodeId
from core.ring import Ring

NODES = tuple(NodeId(f"n{i}") for i in range(14))
Changes = list[tuple[str, NodeId, bool]]
CHANGES = st.lists(
    st.tuples(st.sampled_from(("add", "remove", "member")), st.sampled_from(NODES), st.booleans()), max_size=40
)


def _apply(ring: Ring, known: dict[NodeId, bool], change: tuple[str, NodeId, bool]) -> None:
    kind, node, member = change
    if kind == "add":
        ring.add(node, member)
        known[node] = member
    elif kind == "remove":
        ring.remove(node)
        known.pop(node, None)
    else:
        ring.set_member(node, member)
        if member or node in known:
            known[node] = member


def _steward(known: dict[NodeId, bool], node: NodeId) -> NodeId:
    order = sorted((digest(each), each) for each, member in known.items() if member and each != node)
    behind = [each for place, each in order if (place, each) > (digest(node), node)]
    return (behind + [each for _, each in order] + [NO_NODE])[0]


def _wards(known: dict[NodeId, bool], me: NodeId) -> list[NodeId]:
    return sorted(node for node in known if known.get(me) and node != me and _steward(known, node) == me)


@settings(max_examples=150, deadline=None)
@given(CHANGES)
def test_stewards_and_wards_are_as_defined_after_any_history(changes: Changes) -> None:
    ring, known = Ring(), dict[NodeId, bool]()
    for change in changes:
        before = {me: _wards(known, me) for me in NODES}
        touched_before = {me: ring.touches(me, change[1]) for me in NODES}
        _apply(ring, known, change)
        for me in NODES:
            assert ring.steward_of(me) == _steward(known, me)
            assert sorted(ring.wards_of(me)) == _wards(known, me)
            if _wards(known, me) != before[me]:
                assert ring.touches(me, change[1])
                assert touched_before[me]
    loaded = Ring()
    loaded.load(known, [node for node in known if known[node]])
    assert all(loaded.wards_of(me) == ring.wards_of(me) for me in NODES)


def test_every_known_node_has_one_steward_who_has_it_as_a_ward() -> None:
    ring = Ring()
    nodes = [NodeId(f"n{i}") for i in range(300)]
    ring.load(nodes, nodes[::3])
    wards = [ward for node in nodes for ward in ring.wards_of(node)]
    assert sorted(wards) == sorted(nodes)
    assert all(node in ring.wards_of(ring.steward_of(node)) for node in nodes)


def test_few_arcs_are_touched_by_a_change() -> None:
    ring = Ring()
    nodes = [NodeId(f"n{i}") for i in range(300)]
    ring.load(nodes, nodes)
    for node in nodes[::50]:
        assert sum(ring.touches(me, node) for me in nodes) == 2


def test_a_lone_member_has_no_steward_and_all_the_others_as_wards() -> None:
    ring = Ring()
    ring.load(NODES, NODES[:1])
    assert ring.steward_of(NODES[0]) == NO_NODE
    assert sorted(ring.wards_of(NODES[0])) == sorted(NODES[1:])
    assert ring.wards_of(NODES[1]) == ()


def test_a_named_duty_moves_only_when_its_owner_leaves() -> None:
    ring = Ring()
    assert ring.owner_of_key("ensemble") == NO_NODE
    ring.load(NODES, NODES)
    keys = [f"duty {i}" for i in range(200)]
    before = {key: ring.owner_of_key(key) for key in keys}
    ring.set_member(NODES[3], False)
    moved = [key for key in keys if ring.owner_of_key(key) != before[key]]
    assert moved == [key for key in keys if before[key] == NODES[3]]
