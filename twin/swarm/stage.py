"""What a campaign plays on: a rack, services, timers and a way to start, drawn from the seed unless they are given."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import msgspec

from core.errors import InputError
from core.specs import ServiceSpec
from formats.catalog import Catalog, load_catalog
from formats.hardware import RackFile
from formats.rack import load_rack
from formats.synthetic import SyntheticRack, synthesize
from twin.swarm.dice import Dice
from twin.swarm.profile import Profile, RackTable, TimerTable

_RACKS_KEPT = 256


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """``rack`` and ``catalog`` as a scenario names them; the rest is what there is to strike.

    ``disks``: how many storage disks every node has at least. ``services`` are all that take part, ``all_services``
    whether that is the whole catalog.
    """

    rack: str | SyntheticRack
    catalog: str
    start: str
    timing: dict[str, int]
    clients: dict[str, int]
    nodes: tuple[str, ...]
    spares: tuple[str, ...]
    pdus: tuple[str, ...]
    switches: tuple[str, ...]
    disks: int
    services: tuple[str, ...]
    singletons: tuple[str, ...]
    volumes: tuple[str, ...]
    all_services: bool
    volumeless: bool


def set_stage(seed: int, profile: Profile, rack: Path | None, catalog: Path | None) -> Stage:
    """Draw everything about a campaign but its faults.

    Raises: InputError if the rack or the catalog cannot be read.
    """
    tables = profile.tables
    dice = Dice(seed, "campaign/stage")
    hardware, named = _rack(Dice(seed, "campaign/rack"), tables.rack, rack)
    chosen = str(catalog) if catalog is not None else dice.weighted(tables.catalogs)
    whole = read_catalog(chosen)
    names = [str(name) for name in whole.names]
    if catalog is None:
        names = _services(Dice(seed, "campaign/services"), whole, hardware, tables.services_share)
    plugged = [server for server in hardware.nodes if server.plugged]
    specs = [spec for spec in whole.specs if spec.name in names]
    every_ms = dice.weighted(tables.clients_every_ms) if tables.clients_every_ms else ""
    return Stage(
        rack=named,
        catalog=chosen,
        start=dice.weighted({str(name): share for name, share in tables.start.items()}),
        timing=_timers(Dice(seed, "campaign/timers"), tables.timers),
        clients={"every_ms": int(every_ms)} if every_ms else {},
        nodes=tuple(str(server.id) for server in plugged),
        spares=tuple(str(server.id) for server in hardware.nodes if not server.plugged),
        pdus=tuple(str(pdu.id) for pdu in hardware.pdus),
        switches=tuple(switch.id for switch in hardware.switches),
        disks=min((len(server.osd_disks) for server in plugged), default=0),
        services=tuple(names),
        singletons=tuple(str(spec.name) for spec in specs if spec.run == "singleton"),
        volumes=tuple(str(spec.volume) for spec in specs if spec.volume),
        all_services=len(names) == len(whole.names),
        volumeless=any(spec.run == "singleton" and not spec.volume for spec in specs),
    )


# -- racks -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def read_rack(path: str) -> RackFile:
    """Read a rack file, once in each process. Raises: InputError with every problem of it."""
    return load_rack(Path(path))


@lru_cache(maxsize=16)
def read_catalog(path: str) -> Catalog:
    """Read a catalog file, once in each process. Raises: InputError with every problem of it."""
    return load_catalog(Path(path))


_synthesize = lru_cache(maxsize=_RACKS_KEPT)(synthesize)


def _rack(dice: Dice, table: RackTable, given: Path | None) -> tuple[RackFile, str | SyntheticRack]:
    """The rack, and how a scenario names it."""
    if given is not None:
        return read_rack(str(given)), str(given)
    nodes = int(dice.weighted({str(name): share for name, share in table.nodes.items()}))
    racks, pdus, switches, disks = (
        int(dice.weighted({str(name): share for name, share in shares.items()}))
        for shares in (table.racks, table.pdus, table.switches, table.disks)
    )
    uneven, single_homed, spare = (dice.chance(share) for share in (table.pdus_uneven, table.single_homed, table.spare))
    drawn = SyntheticRack(
        nodes=nodes,
        spares=int(spare),
        per_rack=-(-(nodes + spare) // racks) if racks > 1 else SyntheticRack(nodes=1).per_rack,
        pdus_per_rack=pdus,
        pdus_uneven=uneven and pdus > 1,
        switches_per_rack=switches,
        single_homed=single_homed and switches > 1,
        disks=disks,
    )
    return _synthesize(drawn), drawn


# -- services ----------------------------------------------------------------------------------------------------------


def _services(dice: Dice, catalog: Catalog, rack: RackFile, share: float) -> list[str]:
    """The services that take part: all, or some with all they need; at least one singleton with a volume if there is.

    Never more large ones than find room when two nodes are gone for good: a rack that cannot hold its services cannot
    converge either.
    """
    some = dice.chance(share)
    drawn = dice.shuffled(catalog.specs)
    kept = dice.integers(1, len(drawn) + 1) if some else len(drawn)
    first = next((spec for spec in drawn if spec.volume), drawn[0])
    room = max(1, sum(server.plugged for server in rack.nodes) - 2)
    chosen: dict[str, None] = {}
    for spec in [first, *[spec for spec in drawn if spec is not first][: kept - 1]]:
        needed = _with_needs(spec, catalog)
        if sum(_is_large(catalog, name) for name in {**chosen, **dict.fromkeys(needed)}) <= room:
            chosen.update(dict.fromkeys(needed))
    return [str(name) for name in catalog.names if name in chosen]


def _with_needs(spec: ServiceSpec, catalog: Catalog) -> list[str]:
    """A service and everything it needs, directly or not."""
    found, left = dict.fromkeys([str(spec.name)]), [spec]
    while left:
        for need in left.pop().needs:
            if need not in found:
                found[str(need)] = None
                left.append(catalog.get(need).spec)
    return list(found)


def _is_large(catalog: Catalog, name: str) -> bool:
    """Whether no node of a synthetic rack can run two services of this size."""
    spec = catalog.get(name).spec
    node = SyntheticRack(nodes=1)
    return spec.run == "singleton" and (2 * spec.cores > node.cores or 2 * spec.memory_bytes >> 30 > node.memory_gib)


# -- timers ------------------------------------------------------------------------------------------------------------


_ALONE = (
    "recover_ms",
    "brake_hold_ms",
    "ensemble_repair_ms",
    "backoff_ms",
    "backoff_ms_max",
    "boot_attempts_max",
    "unfit_ms",
    "block_ms",
)
"""Timers that nothing else depends on. A block must outlast what can keep its steward from renewing it."""


def _timers(dice: Dice, table: TimerTable) -> dict[str, int]:
    """Changes of timers that go together; none in most campaigns."""
    if not dice.chance(table.share):
        return {}
    drawn = {}
    for name in ("session_timeout_ms", "fresh_ms", "withdraw_ms", "claim_step_ms"):
        low, high = getattr(table, name)
        drawn[name] = _rounded(dice.log_uniform(low, high))
    session_ms, fresh_ms = drawn["session_timeout_ms"], drawn["fresh_ms"]
    for name in _ALONE:
        low, high = getattr(table, name)
        drawn[name] = _rounded(dice.log_uniform(low, high))
    # Rule 5: probes are asked often enough that one may be missed. Rule 10: peers suspect a node before its session
    # ends. A commit is given up when its session would be over. Rule 12: a holder that waits for one slow fence and one
    # slow commit is not stalled yet.
    drawn["probe_ms"] = max(50, fresh_ms * dice.integers(20, 41) // 100)
    drawn["beat_ms"] = max(100, session_ms // 8)
    drawn["suspect_ms"] = max(400, session_ms * dice.integers(25, 41) // 100)
    drawn["commit_ms_max"] = max(1_000, session_ms)
    drawn["stall_ms"] = max(8_000, 5_000 + 2 * session_ms)
    return dict(sorted(drawn.items()))


def _rounded(value_ms: int) -> int:
    """To two digits: a person reads these."""
    step = int(10 ** max(0, len(str(value_ms)) - 2))
    return value_ms // step * step


def check_files(profile: Profile, rack: Path | None, catalog: Path | None) -> None:
    """Read every file that campaigns may use. Raises: InputError with every problem of all of them."""
    problems: list[str] = []
    names: Sequence[str] = [str(catalog)] if catalog is not None else list(profile.tables.catalogs)
    for read, files in ((read_catalog, names), (read_rack, [str(rack)] if rack is not None else [])):
        for file in files:
            try:
                read(file)
            except InputError as error:
                problems += error.problems
    if problems:
        raise InputError(problems)
