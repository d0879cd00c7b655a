"""Machines that share a solver get the answers that each would get alone, whatever the others have seen."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core.assignments import Assignments, Solvers
from core.ids import NO_NODE, BootId, DomainId, NodeId, RackId, ServiceName, SessionId, VolumeName
from core.records import MemberRecord
from core.specs import ServiceSpec

SERVICES = (
    ServiceSpec(name=ServiceName("db"), run="singleton", volume=VolumeName("db"), cores=2),
    ServiceSpec(name=ServiceName("scheduler"), run="singleton", cores=1, anti_affinity=(ServiceName("db"),)),
    ServiceSpec(name=ServiceName("web"), run="count", count=3, cores=1),
    ServiceSpec(name=ServiceName("ntp"), run="everywhere", cores=1),
)
NODES = tuple(NodeId(f"n{i}") for i in range(8))
PLACED = tuple(spec.name for spec in SERVICES if spec.run != "everywhere")

Call = tuple[int, str, int, int, bool]
calls = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(("join", "join", "leave", "pin", "unpin", "ask")),
        st.integers(0, len(NODES) - 1),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=40,
)


def member(node: NodeId, kind: int, storage_ok: bool) -> MemberRecord:
    number = NODES.index(node)
    return MemberRecord(
        node=node,
        session=SessionId(number + 1),
        boot_id=BootId("b"),
        rack=RackId(f"r{number % 3}"),
        power_domain=DomainId(f"p{number % 2}"),
        weight=100,
        cores=3 + kind,
        memory_bytes=1 << 30,
        fit=kind != 1,
        unfit=(PLACED[0],) if kind == 2 else (),
        storage_ok=storage_ok,
    )


def take(seen: Assignments, call: Call) -> None:
    _, kind, node, size, flag = call
    match kind:
        case "join":
            seen.set_member(member(NODES[node], size, flag))
        case "leave":
            seen.remove_member(NODES[node])
        case "pin":
            seen.pin(PLACED[size % 2], NODES[node])
        case "unpin":
            seen.pin(PLACED[size % 2], NO_NODE)
        case _:
            pass


def answers(seen: Assignments) -> list[object]:
    found: list[object] = [seen.assigned(name) for name in PLACED]
    found += [seen.candidates(name, k) for name in PLACED[:2] for k in (1, 4, 2)]
    return found + [seen.rank(name, node) for name in PLACED[:2] for node in NODES]


@settings(deadline=None)
@given(calls)
def test_shared_answers_are_those_of_a_machine_alone(script: list[Call]) -> None:
    shared: Solvers = {}
    together = [Assignments(SERVICES, shared) for _ in range(3)]
    for index, call in enumerate(script):
        who = call[0]
        take(together[who], call)
        if call[1] == "ask":
            alone = Assignments(SERVICES, {})
            for earlier in script[:index]:
                if earlier[0] == who:
                    take(alone, earlier)
            assert answers(together[who]) == answers(alone)


def test_a_member_that_returns_is_not_barred_for_what_it_gave_up_before() -> None:
    seen = Assignments(SERVICES, {})
    seen.set_member(member(NODES[0], 2, True))
    assert seen.candidates(PLACED[0]) == ()
    seen.remove_member(NODES[0])
    seen.set_member(member(NODES[0], 0, True))
    assert seen.candidates(PLACED[0]) == (NODES[0],)
