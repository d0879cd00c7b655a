"""Scenario files: what goes wrong in which rack, and what must come of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Generic, Literal

import msgspec

from core.errors import InputError
from core.specs import Timing
from formats.catalog import Catalog, check_fit, load_catalog
from formats.hardware import RackFile
from formats.kept import Kept
from formats.load import MS_MAX, Ms, PositiveMs, build, read_toml
from formats.problems import Problems, one_of, text_table
from formats.rack import load_rack
from formats.synthetic import SyntheticRack, synthesize
from trial.fault import F, Planned
from trial.gates import Gate, GateTable, gates_of
from trial.scenario_parts import check_expect, check_times, read_faults, read_timing
from trial.verdict import Verdict

FILE_NAME = "scenario.toml"

Start = Literal["warm", "first", "dark"]
Fidelity = Literal["protocol", "campaign", "capacity"]
"""What a run of the twin makes events of: every message; every message of a change, while the beats of a healthy path
go without; or only changes, with news of joining nodes gathered for a second."""
Number = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Expect(msgspec.Struct, frozen=True, kw_only=True):
    """``[expect]``: what must come of the run.

    ``failover_ms``: upper bounds of how long failovers take (``trial.gates``). ``failovers.S``: an exact number, or
    ``[least, most]``. ``unavailable_ms.S``: at most, from the first moment S served. ``sometimes``, ``never``: notes
    (``core.notes.NOTES``). ``joined``: members when the run ends.
    """

    verdict: Verdict = "pass"
    failover_ms: GateTable = {}
    failovers: dict[str, Number | Annotated[tuple[Number, ...], msgspec.Meta(min_length=2, max_length=2)]] = {}
    unavailable_ms: dict[str, Ms] = {}
    sometimes: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    joined: Number | None = None

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The bounds of ``failover_ms``, one by one."""
        return gates_of(self.failover_ms)

    def failovers_of(self, service: str) -> tuple[int, int] | None:
        """The least and the most failovers of a service that are expected; None if it does not matter."""
        value = self.failovers.get(service)
        return (value, value) if isinstance(value, int) else (value[0], value[1]) if value is not None else None


class Clients(msgspec.Struct, frozen=True, kw_only=True):
    """``[clients]``: one operation on each service with an address every ``every_ms``; 0 for no clients."""

    every_ms: Ms = 250


class Boots(msgspec.Struct, frozen=True, kw_only=True):
    """``[boots]``: how machines are found, and how fast they are served.

    ``discover``: nobody has listed any server but the first one; the others are found by their BMCs and must be
    admitted. Then a boot server sends ``mbit_max`` in all (0: as calibrated), to ``streams_max`` machines at once (0:
    to all), an image of ``image_mb`` (0: as calibrated). For the twin only; a real rack has its own.
    """

    discover: bool = False
    mbit_max: Number = 0
    streams_max: Number = 8
    image_mb: Number = 0


class TraceTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[trace]``: replay recorded outages of ``system`` (of the file given by ``--trace``, else generated from fits).

    ``nodes`` and ``years`` are those of the generated trace.
    """

    system: Annotated[int, msgspec.Meta(ge=2, le=24)]
    nodes: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 49
    years: Annotated[float, msgspec.Meta(gt=0, le=50)] = 8.63


class ScenarioTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole scenario file; faults and timing are checked against their own schemas.

    ``nodes`` and ``services`` name the part of the rack and of the catalog that takes part; empty: all of it.
    ``calibration``: a file with other timings of the twin, as ``--calibration`` takes it.
    """

    rack: str | SyntheticRack
    catalog: str
    nodes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    duration_ms: PositiveMs
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 1
    start: Start = "warm"
    fidelity: Fidelity = "protocol"
    heal_ms: PositiveMs = 600_000
    settle_ms: Ms | None = None
    timing: dict[str, object] = {}
    clients: Clients = Clients()
    boots: Boots = Boots()
    calibration: str = ""
    trace: TraceTable | None = None
    fault: tuple[dict[str, object], ...] = ()
    expect: Expect = Expect()


class Scenario(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """A scenario with everything it names read in; ``F`` is what a fault is in the world that runs it.

    The fault phase lasts ``duration_ms``; then all faults are healed and the rack must converge within ``heal_ms``.
    By ``settle_ms`` the rack has to have settled for the first time (0: whenever it likes).
    ``why`` is the reason in the file's first lines.
    """

    name: str
    path: Path
    why: str
    seed: int
    rack: RackFile
    catalog: Catalog
    start: Start
    fidelity: Fidelity
    duration_ms: int
    heal_ms: int
    settle_ms: int
    timing: Timing
    clients: Clients
    boots: Boots
    calibration: Path | None
    faults: tuple[Planned[F], ...]
    expect: Expect
    trace: TraceTable | None


def load_scenario(path: Path, faults: Mapping[str, type[F]]) -> Scenario[F]:
    """Read a scenario, given its folder or its file, with its rack and catalog; ``faults`` are the kinds there are.

    Raises: InputError with every problem of all three files.
    """
    file = path / FILE_NAME if path.is_dir() else path
    raw = read_toml(file, f"a scenario file, or a folder with {FILE_NAME}")
    return scenario_of(raw, file, faults, why(file))


def scenario_of(raw: Mapping[str, object], file: Path, faults: Mapping[str, type[F]], reason: str) -> Scenario[F]:
    """Make a scenario of the tables of a file, whether it has been written or not; ``reason`` is its why.

    Raises: InputError with every problem of the tables, the rack and the catalog.
    """
    problems = Problems(str(file))
    tables = build(raw, ScenarioTables, problems)
    rack = _part_of_rack(_rack(raw.get("rack"), file, problems), raw.get("nodes"), problems)
    catalog = _part_of_catalog(_catalog(raw.get("catalog"), file, problems), raw.get("services"), problems)
    if rack is not None and catalog is not None:
        fit = Problems(str(find_file(str(raw["catalog"]), file) or raw["catalog"]))
        check_fit(catalog, rack.specs, fit)
        problems.found += fit.found
    _check_calibration(raw.get("calibration"), file, problems)
    planned = read_faults(raw.get("fault"), faults, rack, catalog, problems)
    timing = read_timing(text_table(raw.get("timing")), problems)
    check_expect(text_table(raw.get("expect")), faults, rack, catalog, problems)
    check_times(tables.duration_ms if tables is not None else MS_MAX, planned, problems)
    problems.check()
    assert tables is not None
    assert rack is not None
    assert catalog is not None
    return Scenario(
        name=file.parent.name if file.name == FILE_NAME else file.stem,
        path=file,
        why=reason,
        seed=tables.seed,
        rack=rack,
        catalog=catalog,
        start=tables.start,
        fidelity=tables.fidelity,
        duration_ms=tables.duration_ms,
        heal_ms=tables.heal_ms,
        settle_ms=_settle_ms(tables),
        timing=timing,
        clients=tables.clients,
        boots=tables.boots,
        calibration=find_file(tables.calibration, file),
        faults=planned,
        expect=tables.expect,
        trace=tables.trace,
    )


def find_scenarios(folder: Path) -> tuple[Path, ...]:
    """All scenario files one level below ``folder``, in order of their names."""
    return tuple(sorted(folder.glob(f"*/{FILE_NAME}")))


def why(file: Path) -> str:
    """The reason of a scenario: the comment in its first lines, without "Why:".

    Raises: InputError if the file cannot be read or has none.
    """
    read_toml(file, "a scenario file")
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    text = " ".join(lines).strip()
    if not text.startswith("Why:"):
        raise InputError(
            [f'{file}: line 1: the reason is missing; needed: a comment such as "# Why: the holder dies."']
        )
    return text.removeprefix("Why:").strip()


def _settle_ms(tables: ScenarioTables) -> int:
    """A warm rack has to settle in half a minute, one that must boot first has no bound, unless the file says more."""
    if tables.settle_ms is not None:
        return tables.settle_ms
    return 30_000 if tables.start == "warm" else 0


def find_file(name: str, file: Path) -> Path | None:
    """Find a file named in a scenario: from the current directory, else from the scenario's folder or one above it."""
    if not name or "\0" in name or len(name) > 1_000:
        return None
    for base in (Path(), *list(file.absolute().parents)[:6]):
        if (base / name).exists():
            return base / name
    return None


def _part_of_rack(rack: RackFile | None, names: object, problems: Problems) -> RackFile | None:
    """The servers that take part, with all switches and PDUs."""
    if rack is None or not isinstance(names, list) or not names:
        return rack
    _known("nodes", names, [str(node) for node in rack.node_ids], problems)
    kept = tuple(server for server in rack.nodes if server.id in names)
    return msgspec.structs.replace(rack, nodes=kept) if kept else rack


def _part_of_catalog(catalog: Catalog | None, names: object, problems: Problems) -> Catalog | None:
    """The services that take part; none may need one that does not."""
    if catalog is None or not isinstance(names, list) or not names:
        return catalog
    _known("services", names, [str(name) for name in catalog.names], problems)
    kept = tuple(service for service in catalog.services if service.spec.name in names)
    for service in kept:
        for need in service.spec.needs:
            if need not in names:
                problems.add("services", service.spec.name, f"needs {need}; allowed: with it, or without both")
    return msgspec.structs.replace(catalog, services=kept) if kept else catalog


def _known(key: str, names: Sequence[object], allowed: Sequence[str], problems: Problems) -> None:
    for index, name in enumerate(names):
        if isinstance(name, str) and name not in allowed:
            problems.add(f"{key}[{index}]", name, f"no such name; allowed: {one_of(allowed)}", allowed)
        elif name in names[:index]:
            problems.add(f"{key}[{index}]", name, "named twice; allowed: each once")


_kept_rack, _kept_catalog = Kept(load_rack), Kept(load_catalog)


def _rack(value: object, file: Path, problems: Problems) -> RackFile | None:
    if isinstance(value, dict):
        table = build(value, SyntheticRack, Problems(problems.file), "rack")
        return synthesize(table) if table is not None else None
    if not isinstance(value, str):
        return None
    path = find_file(value, file)
    if path is None:
        problems.add("rack", value, "no such file; allowed: a rack file, for example " + _example("racks", file))
        return None
    try:
        return _kept_rack(path)
    except InputError as error:
        problems.take(error)
        return None


def _catalog(value: object, file: Path, problems: Problems) -> Catalog | None:
    if not isinstance(value, str):
        return None
    path = find_file(value, file)
    if path is None:
        problems.add(
            "catalog", value, "no such file; allowed: a catalog file, for example " + _example("catalog", file)
        )
        return None
    try:
        return _kept_catalog(path)
    except InputError as error:
        problems.take(error)
        return None


def _check_calibration(value: object, file: Path, problems: Problems) -> None:
    if isinstance(value, str) and value and find_file(value, file) is None:
        problems.add("calibration", value, 'no such file; allowed: for example "racks/virtual/calibration.toml"')


def _example(folder: str, file: Path) -> str:
    """The files that a scenario could name."""
    found = find_file(folder, file)
    names = [f'"{folder}/{path.name}"' for path in sorted(found.glob("*.toml"))] if found is not None else []
    return one_of(names) if names else f'"{folder}/five.toml"'
