"""A counterexample as an ordinary scenario: its faults at rounded times, for the twin's larger world.

The schedule decides the order of every message; a scenario only says when what breaks. So a tape shows the same
misfortune, not necessarily the same outcome.
"""

from core.specs import Timing
from twin.check.schedule import Line, Schedule
from twin.check.small import SMALL
from twin.swarm.tape import Table, Tape

FIRST_MS = 60_000
"""When the world of a tape has settled."""
LAST_MS = 120_000
"""From the last thing that happens in the schedule to the end of the fault phase."""
ROUND_MS = 100
LASTS_MS_MIN = 500
KINDS: dict[str, Table] = {
    "freeze": {"kind": "process_pause", "what": "node"},
    "cut": {"kind": "zookeeper_cut"},
    "storage_cut": {"kind": "storage_cut"},
    "crash": {"kind": "power_loss"},
    "agent": {"kind": "agent_crash", "restarts": False},
    "lie": {"kind": "bmc_lying", "says": "off"},
    "stall": {"kind": "storage_stall"},
}
ENDS = {
    "freeze": "thaw",
    "cut": "uncut",
    "storage_cut": "storage_uncut",
    "crash": "boot",
    "agent": "restart",
    "lie": "unlie",
    "stall": "unstall",
}
"""How each fault of the small world ends."""


def tape_of(schedule: Schedule) -> Tape:
    """Return the scenario of a schedule: three nodes of a real rack, and its faults as far as the twin knows them.

    Times are stretched as the session timeout is, and rounded. A fault on the holder strikes whoever holds then, one on
    another node whoever would be next.
    """
    service = "mariadb" if schedule.root.volume else "scheduler"
    end = _at_ms(schedule.lines[-1].at_ms) if schedule.lines else FIRST_MS
    return Tape(
        why=f"{schedule.verdict} in a small world, found by `twin check`: {schedule.why}",
        seed=1,
        rack="racks/five.toml",
        catalog="catalog/minimal.toml",
        nodes=("n1", "n2", "n3"),
        duration_ms=end + LAST_MS,
        fidelity="protocol",
        fault=tuple(
            _fault(line, schedule.lines[number + 1 :], service)
            for number, line in enumerate(schedule.lines)
            if line.fault
        ),
    )


def _at_ms(passed_ms: int) -> int:
    stretched = passed_ms * Timing().session_timeout_ms // SMALL.session_timeout_ms
    return FIRST_MS + -(-stretched // ROUND_MS) * ROUND_MS


def _fault(line: Line, later: tuple[Line, ...], service: str) -> Table:
    kind, *struck = line.action
    at_ms = _at_ms(line.at_ms)
    ends = [_at_ms(other.at_ms) for other in later if other.action == [ENDS[kind], *struck]]
    target = {} if not struck else {"target": f"holder-of:{service}" if line.holder else f"standby-of:{service}"}
    table = {**KINDS[kind], **target, "at_ms": at_ms}
    return {**table, "for_ms": max(ends[0] - at_ms, LASTS_MS_MIN)} if ends else table
