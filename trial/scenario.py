"""Scenario files: what goes wrong in which rack, and what must come of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Generic, Literal

import msgspec

from core.errors import InputError
from core.specs import Timing
from formats.catalog import Catalog, check_fit, load_catalog
from formats.hardware import RackFile
from formats.load import MS_MAX, Ms, PositiveMs, build, read_toml
from formats.problems import Problems, one_of, text_table
from formats.rack import load_rack
from formats.synthetic import SyntheticRack, synthesize
from trial.fault import F, Planned
from trial.scenario_parts import check_expect, check_times, read_faults, read_timing
from trial.verdict import Verdict

FILE_NAME = "scenario.toml"

Start = Literal["warm", "first", "dark"]
Fidelity = Literal["protocol", "capacity"]
Number = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds of a service's failover times, in milliseconds; what is not given is not bounded."""

    p50: Ms | None = None
    p90: Ms | None = None
    p99: Ms | None = None
    max: Ms | None = None


class Expect(msgspec.Struct, frozen=True, kw_only=True):
    """``[expect]``: what must come of the run.

    ``failovers.S``: an exact number, or ``[least, most]``. ``unavailable_ms.S``: at most, from the first moment S
    served. ``sometimes``, ``never``: notes (``core.notes.NOTES``). ``joined``: members when the run ends.
    """

    verdict: Verdict = "pass"
    failover_ms: dict[str, Bounds] = {}
    failovers: dict[str, Number | Annotated[tuple[Number, ...], msgspec.Meta(min_length=2, max_length=2)]] = {}
    unavailable_ms: dict[str, Ms] = {}
    sometimes: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    joined: Number | None = None

    def failovers_of(self, service: str) -> tuple[int, int] | None:
        """The least and the most failovers of a service that are expected; None if it does not matter."""
        value = self.failovers.get(service)
        return (value, value) if isinstance(value, int) else (value[0], value[1]) if value is not None else None


class Clients(msgspec.Struct, frozen=True, kw_only=True):
    """``[clients]``: one operation on each service with an address every ``every_ms``; 0 for no clients."""

    every_ms: Ms = 250


class TraceTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[trace]``: replay recorded outages of ``system`` (of the file given by ``--trace``, else generated from fits).

    ``nodes`` and ``years`` are those of the generated trace.
    """

    system: Annotated[int, msgspec.Meta(ge=2, le=24)]
    nodes: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 49
    years: Annotated[float, msgspec.Meta(gt=0, le=50)] = 8.63


class ScenarioTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole scenario file; faults and timing are checked against their own schemas."""

    rack: str | SyntheticRack
    catalog: str
    duration_ms: PositiveMs
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 1
    start: Start = "warm"
    fidelity: Fidelity = "protocol"
    heal_ms: PositiveMs = 600_000
    settle_ms: Ms | None = None
    timing: dict[str, object] = {}
    clients: Clients = Clients()
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
    faults: tuple[Planned[F], ...]
    expect: Expect
    trace: TraceTable | None


def load_scenario(path: Path, faults: Mapping[str, type[F]]) -> Scenario[F]:
    """Read a scenario, given its folder or its file, with its rack and catalog; ``faults`` are the kinds there are.

    Raises: InputError with every problem of all three files.
    """
    file = path / FILE_NAME if path.is_dir() else path
    raw = read_toml(file, f"a scenario file, or a folder with {FILE_NAME}")
    problems = Problems(str(file))
    tables = build(raw, ScenarioTables, problems)
    rack = _rack(raw.get("rack"), file, problems)
    catalog = _catalog(raw.get("catalog"), file, problems)
    if rack is not None and catalog is not None:
        fit = Problems(str(_find(str(raw["catalog"]), file) or raw["catalog"]))
        check_fit(catalog, rack.specs, fit)
        problems.found += fit.found
    planned = read_faults(raw.get("fault"), faults, rack, catalog, problems)
    timing = read_timing(text_table(raw.get("timing")), problems)
    check_expect(text_table(raw.get("expect")), rack, catalog, problems)
    check_times(tables.duration_ms if tables is not None else MS_MAX, planned, problems)
    problems.check()
    assert tables is not None
    assert rack is not None
    assert catalog is not None
    return Scenario(
        name=file.parent.name if file.name == FILE_NAME else file.stem,
        path=file,
        why=why(file),
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


def _find(name: str, file: Path) -> Path | None:
    """A file named in a scenario: relative to the current directory, else to the scenario's folder or one above it."""
    if not name or "\0" in name or len(name) > 1_000:
        return None
    for base in (Path(), *list(file.absolute().parents)[:6]):
        if (base / name).exists():
            return base / name
    return None


def _rack(value: object, file: Path, problems: Problems) -> RackFile | None:
    if isinstance(value, dict):
        table = build(value, SyntheticRack, Problems(problems.file), "rack")
        return synthesize(table) if table is not None else None
    if not isinstance(value, str):
        return None
    path = _find(value, file)
    if path is None:
        problems.add("rack", value, "no such file; allowed: a rack file, for example " + _example("racks", file))
        return None
    try:
        return load_rack(path)
    except InputError as error:
        problems.take(error)
        return None


def _catalog(value: object, file: Path, problems: Problems) -> Catalog | None:
    if not isinstance(value, str):
        return None
    path = _find(value, file)
    if path is None:
        problems.add(
            "catalog", value, "no such file; allowed: a catalog file, for example " + _example("catalog", file)
        )
        return None
    try:
        return load_catalog(path)
    except InputError as error:
        problems.take(error)
        return None


def _example(folder: str, file: Path) -> str:
    """The files that a scenario could name."""
    found = _find(folder, file)
    names = [f'"{folder}/{path.name}"' for path in sorted(found.glob("*.toml"))] if found is not None else []
    return one_of(names) if names else f'"{folder}/five.toml"'
