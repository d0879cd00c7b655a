"""Whatever BMCs answer, look after look: one node a machine, one machine a BMC, and no name twice."""

from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from core import effects as fx
from core import events as ev
from core.identity import identity
from core.ids import DomainId, Guid, NodeId, RackId
from core.records import NODES, Lifecycle, MachineRecord
from tests.unit.one_machine import Alone

GUIDS = ("4c4c4544003910568052b4c04f384432", "11111111222233334444555566667777", "a" * 31 + "b", "0" * 32, "?")


@st.composite
def answers(draw: st.DrawFn) -> ev.Seen:
    guid = draw(st.sampled_from(GUIDS))
    if draw(st.booleans()) and guid not in GUIDS[3:]:
        guid = draw(st.sampled_from((UUID(bytes_le=UUID(guid).bytes).hex, UUID(bytes=UUID(guid).bytes[::-1]).hex)))
    access = draw(st.sampled_from(("", "default")))
    return ev.Seen(
        bmc=f"10.1.0.{draw(st.integers(1, 4))}:623",
        guid=Guid(guid),
        rack=RackId("r1"),
        power_domain=DomainId("p1"),
        access=access,
        problem="" if access else "no credentials fit",
        node=NodeId(draw(st.sampled_from(("", "", "n1", "slot-7")))),
    )


LOOKS = st.lists(st.lists(answers(), max_size=5), min_size=1, max_size=6)


@given(LOOKS, st.lists(st.sampled_from(("n2", "n3", "slot-7")), max_size=3))
@settings(max_examples=150, deadline=None)
def test_one_node_a_machine_one_machine_a_bmc_and_no_name_twice(looks: list[list[ev.Seen]], alive: list[str]) -> None:
    world = Alone(taken=(3,))
    for turn, look in enumerate(looks):
        world.answers[fx.Scan] = lambda _, look=tuple(look): ev.Scanned(seen=look)
        world.run(61_000)
        if turn < len(alive) and world.get(f"{NODES}/{alive[turn]}") is not None:
            world.set_state(alive[turn], Lifecycle.RETIRED)
        records = [change.data for change in world.records.values()]
        found = [record for record in records if isinstance(record, MachineRecord)]
        named = [machine for machine in found if machine.node]
        assert len({machine.node for machine in named}) == len(named)
        assert len({machine.number for machine in named if machine.node != "slot-7"}) >= len(named) - 1
        assert len({identity(machine.guid) for machine in found}) == len(found)
        bmcs = [machine.bmc for machine in named if machine.bmc]
        assert len(set(bmcs)) == len(bmcs), "two stewards would switch one machine"
        assert all(machine.number not in (1, 3) for machine in named if machine.node not in ("slot-7", "n1"))
