"""The certificate: a rack grows linearly up to a thousand nodes, and a rack that does not is found out."""

import time
from pathlib import Path

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, RecordsChanged
from core.ids import NO_SESSION, OpId, SessionId
from core.journal import Opening
from core.machine import Machine
from core.records import MEMBERS, MemberRecord
from core.view import NodeView, ServiceView
from twin.scaling.certificate import KAPPA_MAX, SIGMA_MAX, broken
from twin.scaling.scale import scale

CATALOG = Path(__file__).resolve().parents[2] / "catalog/minimal.toml"
SIZES = (5, 10, 30, 100, 300, 1_000)
OWN_OPS = 1 << 40
"""Operations from here on are the planted machine's own."""


class Rescanning:
    """A planted bend: whenever a member comes or goes, every machine reads the records of all members anew."""

    def __init__(self, opening: Opening) -> None:
        self._machine = Machine(opening, {})
        self._members: dict[str, None] = {}
        self._session: SessionId = NO_SESSION
        self._op = OWN_OPS

    def step(self, event: AnyEvent) -> tuple[fx.AnyEffect, ...]:
        if isinstance(event, OpSucceeded | OpFailed) and event.op >= OWN_OPS:
            return ()
        effects = self._machine.step(event)
        if not isinstance(event, RecordsChanged):
            return effects
        before = len(self._members)
        for change in event.changes:
            if isinstance(change.data, MemberRecord):
                self._members[change.path] = None
            elif change.path.startswith(MEMBERS):
                self._members.pop(change.path, None)
        self._session = self._session or self._machine._b.state.session
        if event.resync or len(self._members) == before:
            return effects
        self._op += 1
        read = fx.Read(op=OpId(self._op), session=self._session, paths=tuple(self._members), ms_max=2_000)
        return (*effects, read)

    def view(self) -> NodeView:
        return self._machine.view()

    def singletons(self) -> tuple[ServiceView, ...]:
        return self._machine.singletons()


@pytest.mark.slow
def test_a_rack_scales_linearly_up_to_a_thousand_nodes() -> None:
    found = scale(SIZES, 2, catalog=CATALOG, storms=300, placed=False, clock=time.thread_time_ns)
    assert broken(found) == ()
    assert max(found.usl.sigma, found.usl.sigma_ci[1]) <= SIGMA_MAX
    assert max(found.usl.kappa, found.usl.kappa_ci[1]) <= KAPPA_MAX
    assert found.rows[-1].nodes == 1_000
    assert found.rows[-1].delivered > 999


def test_a_rack_whose_members_read_all_others_at_every_change_is_found_out() -> None:
    sizes = (20, 60, 180)
    assert broken(scale(sizes, 2, catalog=CATALOG, storms=0, placed=False)) == ()
    found = broken(scale(sizes, 2, catalog=CATALOG, storms=0, placed=False, make=Rescanning))
    assert any(problem.startswith("messages per join and node grows as") for problem in found)
    assert any(problem.startswith("messages per loss and node grows as") for problem in found)
