"""Placement: spread, room, pins, exclusions, movement; the dumb model is in tests/property."""

from collections import Counter

from core.ids import NO_NODE, DomainId, NodeId, RackId, ServiceName
from core.placement import Placement
from core.specs import NodeSpec, Run, ServiceSpec


def _node(i: int, rack: int = 0, power: int = 0, weight: int = 100, cores: int = 8) -> NodeSpec:
    return NodeSpec(
        id=NodeId(f"n{i}"), rack=RackId(f"r{rack}"), power_domain=DomainId(f"p{power}"), weight=weight, cores=cores
    )


def _service(name: str, run: Run = "singleton", count: int = 1, cores: int = 0, apart: str = "") -> ServiceSpec:
    away = (ServiceName(apart),) if apart else ()
    return ServiceSpec(name=ServiceName(name), run=run, count=count, cores=cores, anti_affinity=away)


def _five() -> Placement:
    placement = Placement()
    for i in range(5):
        placement.set_node(_node(i, power=i % 2))
    return placement


DB, NTP = ServiceName("db"), ServiceName("ntp")


def test_nobody_is_assigned_without_nodes_or_for_an_unknown_service() -> None:
    placement = Placement()
    placement.set_service(_service("db"))
    assert placement.assigned(DB) == placement.candidates(DB) == ()
    assert placement.assigned(NTP) == placement.candidates(NTP) == ()
    assert placement.rank(DB, NodeId("n0")) is None


def test_candidates_begin_with_the_assigned_node_and_rank_is_their_index() -> None:
    placement = _five()
    placement.set_service(_service("db"))
    first = placement.candidates(DB, 3)
    assert first[:1] == placement.assigned(DB)
    assert [placement.rank(DB, node, 3) for node in first] == [0, 1, 2]
    others = [NodeId(f"n{i}") for i in range(5) if NodeId(f"n{i}") not in first]
    assert all((placement.rank(DB, node, 3) or 0) >= 3 for node in others)


def test_the_next_candidate_takes_over_when_the_first_is_unfit_excluded_or_gone() -> None:
    for change in ("unfit", "excluded", "gone"):
        placement = _five()
        placement.set_service(_service("db"))
        first, second, *_ = placement.candidates(DB, 5)
        number = int(first[1:])
        if change == "unfit":
            placement.set_node(_node(number, power=number % 2), fit=False)
        elif change == "excluded":
            placement.exclude(DB, first, True)
        else:
            placement.remove_node(first)
        assert first not in placement.candidates(DB, 5)
        assert placement.rank(DB, first) is None
        if change != "gone":
            assert placement.assigned(DB) == (second,)


def test_copies_go_to_different_nodes_spread_over_power_domains_first() -> None:
    placement = _five()
    for i in range(20):
        placement.set_service(_service(f"web{i}", "count", count=4))
        nodes = placement.assigned(ServiceName(f"web{i}"))
        assert len(set(nodes)) == 4
        assert Counter(int(node[1:]) % 2 for node in nodes) == {0: 2, 1: 2}


def test_racks_are_the_domains_where_there_is_one_power_domain() -> None:
    placement = Placement()
    for i in range(30):
        placement.set_node(_node(i, rack=i % 3))
    placement.set_service(_service("web", "count", count=3))
    assert {int(node[1:]) % 3 for node in placement.assigned(ServiceName("web"))} == {0, 1, 2}


def test_more_copies_than_nodes_leaves_the_rest_unplaced() -> None:
    placement = _five()
    placement.set_service(_service("web", "count", count=9))
    assert sorted(placement.assigned(ServiceName("web"))) == [f"n{i}" for i in range(5)]


def test_a_full_rack_has_no_room_until_a_sixth_node_joins() -> None:
    placement = _five()
    placement.set_service(_service("ntp", "everywhere", cores=1))
    for i in range(5):
        placement.set_service(_service(f"s{i}", cores=5))
    placement.set_service(_service("db", cores=5))
    names = [ServiceName(f"s{i}") for i in range(5)] + [DB]
    assert sum(len(placement.assigned(name)) for name in names) == 5
    left = next(name for name in names if not placement.assigned(name))
    assert placement.candidates(left) == ()
    placement.set_node(_node(5, power=1))
    assert all(len(placement.assigned(name)) == 1 for name in names)


def test_what_runs_everywhere_is_charged_to_every_node() -> None:
    placement = _five()
    placement.set_service(_service("db", cores=6))
    placement.set_service(_service("ntp", "everywhere", cores=3))
    assert placement.assigned(DB) == ()
    placement.remove_service(NTP)
    assert len(placement.assigned(DB)) == 1


def test_services_that_avoid_each_other_never_share_a_node_whoever_names_whom() -> None:
    placement = Placement()
    for i in range(2):
        placement.set_node(_node(i))
    for i in range(30):
        placement.set_service(_service("db", apart=f"b{i}"))
        placement.set_service(_service(f"b{i}"))
        assert placement.assigned(DB) != placement.assigned(ServiceName(f"b{i}"))


def test_a_pin_settles_a_singleton_and_takes_its_room() -> None:
    placement = _five()
    placement.set_service(_service("db", cores=8))
    favourite, second, *_ = placement.candidates(DB, 5)
    placement.pin(DB, second)
    assert placement.candidates(DB, 5)[:2] == (second, favourite)
    for i in range(4):
        placement.set_service(_service(f"s{i}", cores=8))
    assert all(placement.assigned(ServiceName(f"s{i}")) not in ((), (second,)) for i in range(4))
    placement.pin(DB, NO_NODE)
    placement.remove_service(ServiceName("s0"))
    assert len({placement.assigned(ServiceName(name)) for name in ("db", "s1", "s2", "s3")}) == 4


def test_a_pin_to_a_draining_node_keeps_its_room_while_the_service_is_placed_elsewhere() -> None:
    placement = _five()
    placement.set_service(_service("db", cores=8))
    placement.pin(DB, NodeId("n2"))
    placement.set_node(_node(2), fit=False)
    assert placement.assigned(DB) not in ((), (NodeId("n2"),))
    placement.set_node(_node(2, power=0), fit=True)
    assert placement.assigned(DB) == (NodeId("n2"),)


def test_a_node_takes_a_share_as_large_as_its_weight() -> None:
    placement = Placement(levels=1)
    for i in range(5):
        placement.set_node(_node(i, weight=600 if i == 0 else 100))
    names = [ServiceName(f"s{i}") for i in range(1_000)]
    for name in names:
        placement.set_service(_service(name))
    load = Counter(placement.assigned(name)[0] for name in names)
    assert abs(load[NodeId("n0")] - 600) < 60


def test_only_the_services_of_a_lost_node_move_while_it_stays_known() -> None:
    placement = Placement()
    for i in range(60):
        placement.set_node(_node(i, rack=i % 6))
    names = [ServiceName(f"s{i}") for i in range(300)]
    for name in names:
        placement.set_service(_service(name))
    before = {name: placement.assigned(name) for name in names}
    placement.set_node(_node(7, rack=7 % 6), fit=False)
    moved = [name for name in names if placement.assigned(name) != before[name]]
    assert moved == [name for name in names if before[name] == (NodeId("n7"),)]
    assert moved
