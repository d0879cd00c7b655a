"""Schedulers and losses against plain models, on made hosts and machines."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.plain_packing import plain_replay
from twin.packing.fit import fits
from twin.packing.place import POLICIES, arrivals, replay
from twin.packing.records import Flavour, Hosts, Mix, make_hosts

flavours = st.builds(
    Flavour,
    name=st.just("x"),
    cores=st.integers(1, 20),
    memory_bytes=st.integers(1, 1 << 36),
    disk_bytes=st.sampled_from([0, 10**9, 7 * 10**10]),
    share=st.integers(1, 9).map(float),
)


def named(found: list[Flavour]) -> Mix:
    """A mix of flavours with names of their own."""
    table = [
        Flavour(
            name=f"f{index}", cores=one.cores, memory_bytes=one.memory_bytes, disk_bytes=one.disk_bytes, share=one.share
        )
        for index, one in enumerate(found)
    ]
    return Mix(name="made", flavours=tuple(table))


mixes = st.lists(flavours, min_size=1, max_size=5).map(named)


@st.composite
def many_hosts(draw: st.DrawFn) -> Hosts:
    """Up to a dozen hosts, some alike, on up to three racks."""
    kinds = draw(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 1 << 38)), min_size=1, max_size=3))
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=12))
    racks = draw(st.lists(st.sampled_from("abc"), min_size=len(chosen), max_size=len(chosen)))
    disk = draw(st.none() | st.just(10**11))
    return make_hosts(
        [f"h{index}" for index in range(len(chosen))],
        [cores for cores, _ in chosen],
        [memory for _, memory in chosen],
        None if disk is None else [disk] * len(chosen),
        racks,
    )


@given(hosts=many_hosts(), mix=mixes, policy=st.sampled_from(POLICIES), data=st.data())
def test_a_scheduler_and_a_plain_loop_choose_the_same_hosts(
    hosts: Hosts, mix: Mix, policy: str, data: st.DataObject
) -> None:
    flavour_of = np.array(data.draw(st.lists(st.integers(0, len(mix.flavours) - 1), max_size=60)), dtype=np.int64)
    stays = data.draw(st.lists(st.integers(1, 20), min_size=len(flavour_of), max_size=len(flavour_of)))
    times = sorted(
        [(index + stay, 0, ~index) for index, stay in enumerate(stays)] + [(i, 1, i) for i in range(len(stays))]
    )
    events = [event for *_, event in times]
    fast = replay(hosts, mix, policy, flavour_of, events)
    plain = plain_replay(hosts, mix, policy, flavour_of.tolist(), events)
    assert fast.tolist() == plain


@given(mix=mixes, count=st.integers(0, 200))
def test_a_shorter_row_of_arrivals_begins_every_longer_one(mix: Mix, count: int) -> None:
    longer, _ = arrivals(mix, 200)
    shorter, _ = arrivals(mix, count)
    assert shorter.tolist() == longer[:count].tolist()
    assert len(shorter) == count


@given(hosts=many_hosts(), mix=mixes, survive=st.sampled_from(("node", "rack")))
def test_surviving_costs_and_never_exceeds_what_counting_admits(hosts: Hosts, mix: Mix, survive: str) -> None:
    calm = fits(hosts, mix)
    found = fits(hosts, mix, survive)
    assert 0 <= found.vms <= found.volume_survivors_vms <= found.volume_vms
    assert calm.vms == calm.whole_vms <= calm.volume_vms
    assert sum(found.by_flavour.values()) == found.vms
