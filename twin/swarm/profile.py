"""Profiles: what kinds of campaigns a swarm draws, read from ``twin/swarm/profiles/*.toml`` or a file of the user's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from core.errors import InputError
from formats.load import Ms, PositiveMs, build, keys_of, read_toml
from formats.problems import Problems, join, nearest, one_of
from trial.scenario import Expect, Fidelity, Start, why
from twin.faults import FAULTS
from twin.swarm.gates import read_gates
from twin.swarm.kinds import (
    Kind,
    KindTable,
    MenuTables,
    Plot,
    Range,
    Rate,
    Share,
    kinds_of,
    load_menu,
    make_kind,
)
from twin.swarm.sometimes import SOMETIMES

FOLDER = Path(__file__).parent / "profiles"
PROFILES: tuple[str, ...] = (
    "default",
    "partitions",
    "power",
    "bmc",
    "storage",
    "boot",
    "upgrade",
    "everything",
    "nightly",
)
"""The profiles that come along."""

Nodes: TypeAlias = Literal["3", "4", "5", "6", "7", "8", "9"]
Few: TypeAlias = Literal["1", "2", "3", "4"]
_SITUATIONS = dict.fromkeys(one.name for one in SOMETIMES)
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000)]


class RackTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[rack]``: shares of what racks are made of, where no rack is given.

    ``nodes``, ``pdus``, ``switches`` and ``disks`` (a server's) by their numbers; ``racks`` by how many the servers are
    spread over. The others are the share of campaigns with single-homed servers, uneven PDUs, a server to come.
    """

    nodes: dict[Nodes, Rate] = msgspec.field(default_factory=lambda: {"3": 4, "4": 1, "5": 4, "6": 2, "7": 1, "9": 1})
    racks: dict[Few, Rate] = msgspec.field(default_factory=lambda: {"1": 6, "2": 1, "3": 1})
    pdus: dict[Few, Rate] = msgspec.field(default_factory=lambda: {"1": 1, "2": 3, "3": 3})
    switches: dict[Few, Rate] = msgspec.field(default_factory=lambda: {"1": 1, "2": 4})
    disks: dict[Few, Rate] = msgspec.field(default_factory=lambda: {"1": 1, "2": 2, "4": 1})
    single_homed: Share = 0.2
    pdus_uneven: Share = 0.3
    spare: Share = 0.2


class TimerTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[timers]``: in a ``share`` of the campaigns timers are drawn; the others of a protocol follow from these.

    Each a range in milliseconds (``boot_attempts_max``: a number), see ``core.specs.Timing``.
    """

    share: Share = 0.5
    session_timeout_ms: Range = (1_500, 10_000)
    fresh_ms: Range = (300, 1_500)
    withdraw_ms: Range = (100, 500)
    claim_step_ms: Range = (200, 1_000)
    recover_ms: Range = (5_000, 20_000)
    brake_hold_ms: Range = (30_000, 120_000)
    ensemble_repair_ms: Range = (10_000, 60_000)
    unfit_ms: Range = (10_000, 120_000)
    block_ms: Range = (600_000, 3_600_000)
    backoff_ms: Range = (1_000, 15_000)
    backoff_ms_max: Range = (15_000, 600_000)
    boot_attempts_max: Range = (3, 6)


class ProfileTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole profile file.

    ``faults``: the mean number of faults in a campaign of five nodes, from least to greatest. ``kinds_share``: of the
    kinds, how many exist in a campaign at all (swarm testing: Groce et al., ISSTA 2012). ``plots_share``: of the
    faults, how many come in plots. ``quiet_ms``: before the first fault. ``kinds`` and ``plots``: rates beside each
    other, for those that take part; or "all", as the menu has them. ``[kind.K]`` changes what the menu says.
    """

    duration_ms: PositiveMs = 600_000
    heal_ms: PositiveMs = 1_800_000
    quiet_ms: Ms = 15_000
    fidelity: Fidelity = "campaign"
    faults: Annotated[tuple[Count, ...], msgspec.Meta(min_length=2, max_length=2)]
    kinds_share: Share = 0.5
    plots_share: Share = 0.4
    start: dict[Start, Rate] = msgspec.field(default_factory=lambda: {"warm": 1})
    services_share: Share = 0.5
    kinds: Literal["all"] | dict[str, Rate]
    plots: Literal["all"] | dict[str, Rate] = "all"
    kind: dict[str, dict[str, object]] = {}
    excluded: dict[str, str] = {}
    rack: RackTable = RackTable()
    timers: TimerTable = TimerTable()
    catalogs: dict[str, Rate] = msgspec.field(default_factory=lambda: {"catalog/minimal.toml": 1})
    clients_every_ms: dict[str, Rate] = {}
    expect: dict[str, object] = {}
    sometimes: Literal["all"] | tuple[str, ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What campaigns are drawn from.

    ``kinds`` and ``plots`` are those that take part, complete. ``expect``: gates of the swarm as a whole, as in a
    scenario's ``[expect]``. ``sometimes``: rare situations that a large swarm of this profile must reach
    (``twin.swarm.sometimes``).
    """

    name: str
    why: str
    tables: ProfileTables
    kinds: dict[str, Kind]
    plots: tuple[Plot, ...]
    expect: Expect = Expect()
    sometimes: tuple[str, ...] = ()


def load_profile(name_or_path: str) -> Profile:
    """Return the profile of that name, or the one in that file. Raises: InputError with every problem of it."""
    file = FOLDER / f"{name_or_path}.toml" if name_or_path in PROFILES else Path(name_or_path)
    if name_or_path not in PROFILES and not file.is_file():
        allowed = f"allowed: {one_of(PROFILES)}, or a file{nearest(name_or_path, PROFILES)}"
        raise InputError([f'profile "{name_or_path}": no such profile; {allowed}'])
    raw = read_toml(file, "a profile of campaigns")
    problems = Problems(str(file))
    tables = build(raw, ProfileTables, problems)
    problems.check()
    assert tables is not None
    menu = load_menu()
    kinds = _kinds(tables, menu, problems)
    plots = _plots(tables, menu, kinds, problems)
    _check(tables, problems)
    expect = read_gates(tables.expect, problems, FAULTS)
    sometimes = _sometimes(tables, problems)
    problems.check()
    return Profile(
        name=name_or_path if name_or_path in PROFILES else file.stem,
        why=why(file),
        tables=tables,
        kinds=kinds,
        plots=plots,
        expect=expect,
        sometimes=sometimes,
    )


def _kinds(tables: ProfileTables, menu: MenuTables, problems: Problems) -> dict[str, Kind]:
    """The kinds that take part, those of the menu as the profile has changed them."""
    _known("kinds", tables.kinds if isinstance(tables.kinds, dict) else {}, FAULTS, problems)
    _known("kind", tables.kind, FAULTS, problems)
    _known("excluded", tables.excluded, FAULTS, problems)
    found = {}
    for name in FAULTS:
        table = _changed(menu.kind.get(name, KindTable()), tables.kind.get(name), f"kind.{name}", problems)
        rate = table.rate if tables.kinds == "all" else tables.kinds.get(name, 0)
        if rate > 0 and name not in tables.excluded:
            table = msgspec.structs.replace(table, rate=rate)
            found[name] = make_kind(name, table, menu, f"kind.{name}", problems)
    if not found and not problems.found:
        problems.say("kinds: no kind of fault takes part; needed: at least one with a rate above 0")
    return found


def _changed(table: KindTable, changes: Mapping[str, object] | None, key: str, problems: Problems) -> KindTable:
    """A kind of the menu with what the profile says about it."""
    if changes is None:
        return table
    change = build(changes, KindTable, problems, key)
    if change is None:
        return table
    return msgspec.structs.replace(table, **{name: getattr(change, name) for name in changes})


def _plots(tables: ProfileTables, menu: MenuTables, kinds: Mapping[str, Kind], problems: Problems) -> tuple[Plot, ...]:
    """The plots that take part: those that begin, and go on, with kinds that do."""
    names = {plot.name: plot for plot in menu.plot}
    _known("plots", tables.plots if isinstance(tables.plots, dict) else {}, names, problems)
    found = []
    for name, plot in names.items():
        rate = plot.rate if tables.plots == "all" else tables.plots.get(name, 0)
        first, *others = (kinds_of(step, kinds) for step in plot.steps)
        if rate > 0 and first and any(others):
            found.append(msgspec.structs.replace(plot, rate=rate))
    return tuple(found)


def _check(tables: ProfileTables, problems: Problems) -> None:
    """Note what single values cannot show."""
    if tables.faults[0] > tables.faults[1]:
        problems.say(f"faults = {list(tables.faults)}: allowed: [least, greatest]")
    for name in keys_of(TimerTable):
        value = getattr(tables.timers, name)
        if isinstance(value, tuple) and not 1 <= value[0] <= value[1]:
            problems.say(f"timers.{name} = {list(value)}: allowed: [least, greatest], at least 1")
    for name in ("nodes", "racks", "pdus", "switches", "disks"):
        _weights(f"rack.{name}", getattr(tables.rack, name), problems)
    _weights("start", {str(name): share for name, share in tables.start.items()}, problems)
    _weights("catalogs", tables.catalogs, problems)
    if tables.quiet_ms >= tables.duration_ms:
        problems.add("quiet_ms", tables.quiet_ms, f"allowed: less than duration_ms = {tables.duration_ms}")
    for kind, reason in tables.excluded.items():
        if not reason.strip():
            problems.add(f"excluded.{kind}", reason, "needed: the reason")
    for every_ms in tables.clients_every_ms:
        if not (every_ms.isascii() and every_ms.isdigit() and len(every_ms) <= 7):
            problems.add("clients_every_ms", every_ms, "allowed: milliseconds, for example 250")


def _sometimes(tables: ProfileTables, problems: Problems) -> tuple[str, ...]:
    """The rare situations that a large swarm must reach."""
    known = [one.name for one in SOMETIMES]
    if tables.sometimes == "all":
        return tuple(known)
    for index, name in enumerate(tables.sometimes):
        if name not in known:
            problems.add(f"sometimes[{index}]", name, f"no such situation; allowed: {one_of(known)}", known)
    return tables.sometimes


def _weights(key: str, weights: Mapping[str, float], problems: Problems) -> None:
    if not any(weight > 0 for weight in weights.values()):
        problems.add(key, dict(weights), "needed: at least one with a weight above 0")


def _known(key: str, table: Mapping[str, object], allowed: Mapping[str, object], problems: Problems) -> None:
    for name, value in table.items():
        if name not in allowed:
            hint = nearest(name, allowed)
            problems.add(join(key, name), value, f"no such name; allowed: {one_of(allowed)}{hint}")
