"""Draws campaigns: everything about one comes from its seed, each component from a stream of its own."""

from collections import Counter
from pathlib import Path

import msgspec

from formats.synthetic import SyntheticRack
from twin.swarm.gates import check_services
from twin.swarm.profile import Profile, load_profile
from twin.swarm.stage import check_files, read_catalog, set_stage
from twin.swarm.strikes import cast, faults_of
from twin.swarm.tape import Tape

SETTLE_MS = 120_000
"""A warm rack has settled by then: twice the longest start that the catalogs know, as its services start in turn."""


class Menu(msgspec.Struct, frozen=True, kw_only=True):
    """What campaigns are drawn from; with a rack or a catalog every campaign has that one."""

    profile: Profile
    rack: Path | None = None
    catalog: Path | None = None


def make_menu(profile: str, rack: Path | None = None, catalog: Path | None = None) -> Menu:
    """Read everything that campaigns are drawn from. Raises: InputError with every problem of the files."""
    menu = Menu(profile=load_profile(profile), rack=rack, catalog=catalog)
    check_files(menu.profile, rack, catalog)
    catalogs = [str(catalog)] if catalog is not None else list(menu.profile.tables.catalogs)
    check_services(menu.profile.expect, [read_catalog(name) for name in catalogs], profile)
    return menu


def draw(seed: int, menu: Menu) -> Tape:
    """Draw the campaign of a seed: always the same one, whatever was drawn before.

    Raises: InputError if a file of the menu cannot be read any more.
    """
    profile = menu.profile
    stage = set_stage(seed, profile, menu.rack, menu.catalog)
    playing = cast(seed, profile, stage)
    faults = faults_of(seed, profile, stage, playing)
    tables = profile.tables
    return Tape(
        why=f"campaign {seed} of profile {profile.name}.",
        seed=seed,
        rack=stage.rack,
        catalog=stage.catalog,
        services=() if stage.all_services else stage.services,
        start=stage.start,
        fidelity=tables.fidelity,
        duration_ms=tables.duration_ms,
        heal_ms=tables.heal_ms,
        settle_ms=SETTLE_MS if stage.start == "warm" else None,
        timing=stage.timing,
        clients=stage.clients,
        fault=tuple(faults),
    )


def in_words(tape: Tape) -> str:
    """Say what was drawn: rack, services, timers, kinds and number of faults."""
    said = [_rack(tape.rack), _services(tape), f"start {tape.start}"]
    if tape.timing:
        session_ms = tape.timing.get("session_timeout_ms")
        said.append(f"session timeout {session_ms:,d} ms" if session_ms else "timers of its own")
    kinds = Counter(str(fault["kind"]) for fault in tape.fault)
    words = ", ".join(f"{kind} {count}" if count > 1 else kind for kind, count in sorted(kinds.items()))
    said.append(f"{len(tape.fault)} faults of {len(kinds)} kinds: {words}" if kinds else "no faults")
    return "; ".join(said)


def _rack(rack: str | SyntheticRack) -> str:
    if isinstance(rack, str):
        return rack
    words = [f"{rack.nodes} nodes"]
    words += [f"{rack.spares} to come"] if rack.spares else []
    racks = -(-(rack.nodes + rack.spares) // rack.per_rack)
    words += [f"{racks} racks"] if racks > 1 else []
    each = " a rack" if racks > 1 else ""
    words.append(f"{_many(rack.pdus_per_rack, 'PDU')}{each}{' (uneven)' if rack.pdus_uneven else ''}")
    words.append(f"{_many(rack.switches_per_rack, 'switch')}{each}{' (single-homed)' if rack.single_homed else ''}")
    return ", ".join(words)


def _many(count: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("h") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def _services(tape: Tape) -> str:
    name = Path(tape.catalog).name
    if not tape.services:
        return f"all services of {name}"
    return f"{len(tape.services)} of {len(read_catalog(tape.catalog).names)} services of {name}"
