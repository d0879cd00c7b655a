"""A bug that needs three different faults, planted in real machines, and a tape of many faults that brings it about."""

from core.effects import AnyEffect, Note
from core.errors import InvariantViolation
from core.events import AnyEvent, ServiceExited, StorageSeen
from core.journal import Opening
from core.machine import Machine
from twin.swarm.attempt import attempt
from twin.swarm.found import Found
from twin.swarm.tape import Table, Tape

NEEDED = ("exited", "drained", "cut")
"""What the machines of one run must have seen, in whatever order, before they misbehave."""


class ThirdTimeUnlucky(Machine):
    """A machine that breaks an invariant once the machines of its run have seen all of ``NEEDED``."""

    def __init__(self, opening: Opening, seen: set[str]) -> None:
        super().__init__(opening)
        self._seen = seen

    def step(self, event: AnyEvent) -> tuple[AnyEffect, ...]:
        effects = super().step(event)
        if isinstance(event, ServiceExited):
            self._seen.add("exited")
        if isinstance(event, StorageSeen) and not event.ok:
            self._seen.add("cut")
        if any(isinstance(effect, Note) and effect.kind == "draining" for effect in effects):
            self._seen.add("drained")
        if len(self._seen) == len(NEEDED):
            raise InvariantViolation("planted: the third kind of trouble was one too many")
        return effects


def planted_attempt(tape: Tape) -> Found:
    """Run a tape on machines with the planted bug."""
    seen: set[str] = set()
    return attempt(tape, lambda opening: ThirdTimeUnlucky(opening, seen))


def planted_tape(seed: int = 1) -> Tape:
    """Fifty faults: three that the planted bug needs, the others of kinds that it does not mind."""
    harmless = ("bmc_slow", "clock_drift", "link_delay", "slow_disk", "agent_crash", "disk_slow", "bmc_hung")
    faults: list[Table] = []
    for number in range(47):
        kind = harmless[number % len(harmless)]
        fault: Table = {
            "kind": kind,
            "target": f"n{number * seed % 5 + 1}",
            "at_ms": 40_137 + 10_611 * number,
            "for_ms": 7_003,
        }
        faults.append(fault | ({"ppm": 200} if kind == "clock_drift" else {}))
    faults += [
        {"kind": "service_crash", "target": "holder-of:mariadb", "service": "mariadb", "at_ms": 123_456},
        {"kind": "storage_cut", "target": "n4", "at_ms": 234_567, "for_ms": 12_345},
        {"kind": "operator_drain", "target": "n2", "at_ms": 456_789, "for_ms": 54_321, "times": 2, "every_ms": 60_001},
    ]
    return Tape(
        why="three of these fifty are one too many",
        seed=seed,
        rack="racks/six.toml",
        catalog="catalog/minimal.toml",
        duration_ms=600_000,
        timing={"probe_ms": 190},
        clients={"every_ms": 300},
        fault=tuple(sorted(faults, key=lambda fault: fault["at_ms"])),  # type: ignore[arg-type,return-value]
    )
