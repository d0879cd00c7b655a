"""Published failures of real systems, each as a scenario ``scenarios/known-*``, with its source in its reason.

The core passes each of them. For each, a change of the core or of a timer that brings the published failure back must
fail, so that a scenario that no longer shows anything is noticed.
"""

import json
from pathlib import Path

import msgspec
import pytest

from tests.mutants.hunt import copy_tree
from tests.sim.changed_tree import Change, broken_in, changed

SERIAL_MS_MAX = 30_000
"""How long after the loss of several nodes the power order of the last one may go out: four timers of a session."""


class KnownBug(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario, what brings the published failure back, and what must then be seen to be broken."""

    scenario: str
    back: tuple[Change, ...]
    broken: str


BUGS = (
    KnownBug(
        scenario="known-switch-outage",
        back=(Change("core/recovery.py", "(fencing or b.state.brake.engaged or not", "(fencing or not"),),
        broken="never.power_ordered",
    ),
    KnownBug(
        scenario="known-serial-fencing",
        back=(
            Change("core/recovery.py", "+ len(chosen) >= b.timing.inrush_slots:", "+ len(chosen) >= 1:"),
            Change(
                "core/recovery.py",
                '    ward.action = "cycle" if on else "on"\n',
                '    record = ward.record = msgspec.structs.replace(record, power_domain=DomainId("all"))\n'
                '    ward.action = "cycle" if on else "on"\n',
            ),
        ),
        broken="side by side",
    ),
    KnownBug(
        scenario="known-frozen-leader",
        back=(
            Change(
                "core/singleton.py",
                "blocked = tuple(dict.fromkeys((*term.blocked, *term.unfenced)))",
                "blocked = term.blocked",
            ),
            Change(
                "scenarios/known-frozen-leader/scenario.toml",
                "duration_ms = 150_000",
                "duration_ms = 150_000\ntiming = { block_ms = 10_000 }",
            ),
        ),
        broken="single_writer",
    ),
    KnownBug(
        scenario="known-restarted-clocks",
        back=(
            Change(
                "scenarios/known-restarted-clocks/scenario.toml",
                "session_timeout_ms = 6_000",
                "session_timeout_ms = 6_000, suspect_ms = 60_000",
            ),
        ),
        broken="failover_ms.mariadb.max",
    ),
    KnownBug(
        scenario="known-transient-quorum-loss",
        back=(
            Change(
                "core/steward.py",
                "    ward.silent = True\n    ward.told_not_off = False\n",
                "    ward.silent = True\n    ward.told_not_off = False\n"
                "    recovery._send(b, ward, 1, b.now + 8_000)\n",
            ),
        ),
        broken="never.power_ordered",
    ),
    KnownBug(
        scenario="known-stale-power-order",
        back=(
            Change(
                "core/recovery.py",
                "_send(b, ward, generation, pending.asked_ms + b.timing.power_ms_max)",
                "_send(b, ward, generation, b.now + b.timing.power_ms_max)",
            ),
        ),
        broken="power_dated",
    ),
    KnownBug(
        scenario="known-chassis-already-off",
        back=(
            Change(
                "core/singleton.py",
                's.op = b.read(ME, s.name, "mark", (power_path(before.holder),))',
                's.op = b.op(ME, s.name, "mark")\n'
                "        limit = b.now + b.timing.power_ms_max\n"
                "        node = before.holder\n"
                '        b.emit(fx.PowerOrder(op=s.op, node=node, action="off", generation=1, deadline_ms=limit))',
            ),
            Change(
                "twin/world/bmc.py",
                "self._after_command(order.node, lambda: self._read_back(order, answer))",
                'answer.fail("failed", "the BMC answered with an error")',
            ),
        ),
        broken="unavailable_ms.scheduler",
    ),
    KnownBug(
        scenario="known-orphaned-claim",
        back=(
            Change(
                "core/singleton.py",
                '            b.note("claim_unanswered", s.name, epoch=s.epoch)\n            settle(b, s)',
                '            b.note("claim_unanswered", s.name, epoch=s.epoch)\n            move(s, "lost", b.now)',
            ),
            Change("core/election.py", "lease.session == b.state.session and", "lease.session == 0 and"),
        ),
        broken="unavailable_ms.mariadb",
    ),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree whose files may be changed."""
    to = tmp_path_factory.mktemp("tree")
    copy_tree(to)
    return to


def broken(tree: Path, scenario: str) -> list[str]:
    """What is broken in a scenario, its expectations and, for one of them, how soon the last order went out."""
    found = broken_in(tree, scenario)
    if scenario == "known-serial-fencing" and last_order_ms(tree / "journal.jsonl") > 60_000 + SERIAL_MS_MAX:
        found.append("side by side")
    return found


def last_order_ms(journal: Path) -> int:
    """When the power order of the last of the four nodes was first given."""
    first: dict[str, int] = {}
    for line in journal.read_text().splitlines():
        at_ms, _, _, kind, body = json.loads(line)
        if kind == "effect" and body["effect"] == "Note" and body["kind"] == "power_ordered":
            first.setdefault(body["node"], at_ms)
    assert len(first) == 4
    return max(first.values())


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.scenario)
def test_the_core_passes_where_another_system_failed(bug: KnownBug, tree: Path) -> None:
    assert broken(tree, bug.scenario) == []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.scenario)
def test_with_the_published_failure_brought_back_the_scenario_fails(bug: KnownBug, tree: Path) -> None:
    with changed(tree, bug.back):
        assert bug.broken in broken(tree, bug.scenario)
