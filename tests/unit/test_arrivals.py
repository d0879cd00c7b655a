"""Members that come and go within one event, and new nodes, leave a machine as if it had heard of them one by one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from core import events as ev
from core.ids import BootId, DomainId, NodeId, RackId, SessionId
from core.mirror import MANY
from core.records import Change, Lifecycle, MemberRecord, NodeRecord, member_path, node_path
from tests.unit.one_machine import Alone

NAMES = [NodeId(f"n{number}") for number in range(2, 9)]
STRANGERS = [NodeId(f"n{number}") for number in range(9, 13)]
R1, P1 = RackId("r1"), DomainId("p1")


def change(zxid: int, node: NodeId, session: int) -> Change:
    """A node that is a member in this session, or (0) that is none any more."""
    path = member_path(R1, node)
    if not session:
        return Change(path=path, zxid=zxid)
    record = MemberRecord(
        node=node, session=SessionId(session), boot_id=BootId("b"), rack=R1, power_domain=P1, weight=100, cores=8,
        memory_bytes=1,
    )  # fmt: skip
    return Change(path=path, zxid=zxid, data=record, owner=SessionId(session))


def described(zxid: int, node: NodeId, life: Lifecycle) -> Change:
    """A node's record."""
    record = NodeRecord(node=node, rack=R1, power_domain=P1, state=life)
    return Change(path=node_path(node), zxid=zxid, data=record)


def fresh() -> Alone:
    """A machine that knows of all the nodes but the strangers, whose records it has not seen yet."""
    world = Alone(networks=())
    for node in NAMES:
        world.put(node_path(node), NodeRecord(node=node, rack=R1, power_domain=P1, state=Lifecycle.QUARANTINED))
    for node in STRANGERS:
        world.write(node_path(node), NodeRecord(node=node, rack=R1, power_domain=P1, state=Lifecycle.QUARANTINED))
    return world


TOLD = st.one_of(
    st.tuples(st.sampled_from(NAMES[:3]), st.integers(0, 2)),
    st.tuples(st.sampled_from([*NAMES, *STRANGERS]), st.sampled_from([Lifecycle.QUARANTINED, Lifecycle.RETIRED])),
)


@given(st.lists(st.tuples(TOLD, st.integers(-MANY, 0)), min_size=MANY, max_size=3 * MANY))
@settings(max_examples=100, deadline=None)
def test_many_changes_at_once_are_the_same_as_one_by_one(
    drawn: list[tuple[tuple[NodeId, int | Lifecycle], int]],
) -> None:
    """Some are told late, after newer ones of the same path."""
    changes = tuple(
        described(1_000 + turn + late, node, said)
        if isinstance(said, Lifecycle)
        else change(1_000 + turn + late, node, said)
        for turn, ((node, said), late) in enumerate(drawn)
    )
    together, singly = fresh(), fresh()
    together.step(ev.RecordsChanged(at_ms=together.now, changes=changes))
    for one in changes:
        singly.step(ev.RecordsChanged(at_ms=singly.now, changes=(one,)))
    assert together.machine.view().members == singly.machine.view().members
    assert sorted(together.machine.view().wards) == sorted(singly.machine.view().wards)
    again = together.machine.copy()  # everything derived is made anew
    later = ev.RecordsChanged(at_ms=together.now, changes=(change(9_000, NAMES[0], 3),))
    assert again.step(later) == together.machine.step(later)
