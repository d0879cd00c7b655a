"""Max-min fair shares of disks and networks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twin.capacity.fair_share import fair_rates


def rates(caps: list[float], limits: list[float], uses: list[tuple[int, int, float]]) -> list[float]:
    jobs, resources, loads = zip(*uses, strict=True)
    found = fair_rates(np.array(caps), np.array(limits), np.array(jobs), np.array(resources), np.array(loads))
    return [round(rate, 6) for rate in found.tolist()]


def test_jobs_on_one_disk_share_it_evenly() -> None:
    assert rates([100, 100, 100], [90], [(0, 0, 1), (1, 0, 1), (2, 0, 1)]) == [30, 30, 30]


def test_what_a_slow_job_leaves_goes_to_the_others() -> None:
    assert rates([10, 100, 100], [90], [(0, 0, 1), (1, 0, 1), (2, 0, 1)]) == [10, 40, 40]


def test_the_textbook_s_line_of_links() -> None:
    """One job crosses both links, one uses each: the tighter link decides for two, the rest goes to the third."""
    assert rates([99, 99, 99], [10, 30], [(0, 0, 1), (0, 1, 1), (1, 0, 1), (2, 1, 1)]) == [5, 5, 25]


def test_a_job_that_loads_twice_takes_twice() -> None:
    assert rates([99, 99], [30], [(0, 0, 2), (1, 0, 1)]) == [10, 10]


@given(st.data())
def test_shares_are_feasible_and_nobody_can_have_more_without_taking_from_one_who_has_no_more(
    data: st.DataObject,
) -> None:
    jobs, resources = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    amount = st.integers(1, 50).map(float)
    caps = data.draw(st.lists(amount, min_size=jobs, max_size=jobs))
    limits = data.draw(st.lists(amount, min_size=resources, max_size=resources))
    pairs = [(job, at) for job in range(jobs) for at in range(resources)]
    used = data.draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    uses = [(job, at, data.draw(amount) / 10) for job, at in used]
    found = rates(caps, limits, uses)
    for at, limit in enumerate(limits):
        assert sum(load * found[job] for job, where, load in uses if where == at) <= limit * 1.0001 + 1e-4
    for job, cap in enumerate(caps):
        assert found[job] <= cap + 1e-6
        mine = [at for other, at, _ in uses if other == job]
        held = [
            at
            for at in mine
            if sum(load * found[other] for other, where, load in uses if where == at) >= limits[at] * 0.999 - 1e-4
            and all(found[other] <= found[job] + 1e-4 for other, where, _ in uses if where == at)
        ]
        assert held or found[job] >= cap - 1e-4
