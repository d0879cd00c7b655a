"""The services of a rack, read from ``catalog/*.toml``: what the core must know, and how the twin times them."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from core.ids import NO_VOLUME, ServiceName, VolumeName
from core.specs import NodeSpec, Run, ServiceSpec
from formats.load import Ms, Name, PositiveMs, build, read_toml
from formats.problems import Problems, one_of


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A duration that varies: its smallest value, two quantiles and its largest value, in milliseconds."""

    min: Ms
    p50: Ms
    p90: Ms
    max: Ms


class ServiceTiming(msgspec.Struct, frozen=True, kw_only=True):
    """How long the twin lets a service take.

    ``start_ms``: process start to healthy, without recovery. ``recovery_ms``: added when the volume was not closed
    cleanly (log replay). ``stop_ms``: a clean stop with unmount.
    """

    start_ms: Spread = Spread(min=150, p50=300, p90=600, max=1_500)
    recovery_ms: Spread = Spread(min=0, p50=0, p90=0, max=0)
    stop_ms: Spread = Spread(min=50, p50=150, p90=400, max=2_000)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a supervisor finds out that a service is healthy."""

    kind: Literal["process", "tcp", "http", "command"] = "process"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    path: str = ""
    command: tuple[str, ...] = ()
    every_ms: PositiveMs = 2_000


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """How a supervisor runs a service: a command of its own, or a systemd unit.

    In ``command`` and ``env`` stand ``{mount}`` (where the volume is mounted), ``{address}``, ``{node}``, ``{epoch}``,
    ``{service}``, ``{run_dir}`` (a folder of its own, lost at boot), ``{config}`` (the node's file) and ``{python}``
    (what the supervisor itself runs on).
    """

    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    unit: str = ""
    stop_signal: Literal["TERM", "INT", "QUIT"] = "TERM"


class CatalogService(msgspec.Struct, frozen=True, kw_only=True):
    """One service: ``spec`` for the core, ``twin`` for the simulation, ``health`` and ``process`` for supervisors."""

    spec: ServiceSpec
    twin: ServiceTiming
    health: Health
    process: Process = Process()


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """All services of one file, in its order."""

    name: str
    services: tuple[CatalogService, ...]

    @property
    def specs(self) -> tuple[ServiceSpec, ...]:
        """What the core knows of each service."""
        return tuple(service.spec for service in self.services)

    @property
    def names(self) -> tuple[ServiceName, ...]:
        """The names of all services."""
        return tuple(service.spec.name for service in self.services)

    @property
    def singletons(self) -> tuple[ServiceName, ...]:
        """The names of those that are elected."""
        return tuple(service.spec.name for service in self.services if service.spec.run == "singleton")

    def get(self, name: str) -> CatalogService:
        """The service of that name. Raises: KeyError."""
        for service in self.services:
            if service.spec.name == name:
                return service
        raise KeyError(name)


# -- the file ----------------------------------------------------------------------------------------------------------

Cores = Annotated[int, msgspec.Meta(ge=0, le=4_096)]
Copies = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """``run = {count = 3}``: that many copies, on different nodes."""

    count: Copies


class TwinTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[service.twin]``; a plain number is a duration that does not vary, ``source`` where the figures are from."""

    start_ms: Ms | Spread = 300
    recovery_ms: Ms | Spread = 0
    stop_ms: Ms | Spread = 150
    source: str = ""


class ServiceTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[service]]``. ``fence = "storage+power"`` asks for the lost holder's node to be power-fenced as well."""

    name: Name
    run: Literal["everywhere", "singleton"] | Copied
    volume: Name | Literal[""] = ""
    address: str = ""
    cores: Cores = 0
    memory_gib: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    needs: tuple[Name, ...] = ()
    anti_affinity: tuple[Name, ...] = ()
    fence: Literal["storage", "storage+power", "power", "none"] = "none"
    start_ms_max: PositiveMs = 30_000
    stop_ms_max: PositiveMs = 10_000
    health: Health = Health()
    process: Process = Process()
    twin: TwinTable = TwinTable()


class CatalogTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file of ``catalog/``."""

    name: Name
    service: tuple[ServiceTable, ...]


def load_catalog(path: Path) -> Catalog:
    """Read a catalog file.

    Raises: InputError with every problem of the file.
    """
    problems = Problems(str(path))
    tables = build(read_toml(path, "a catalog file"), CatalogTables, problems)
    if tables is not None:
        _check(tables, problems)
    problems.check()
    assert tables is not None
    return Catalog(name=tables.name, services=tuple(map(_service, tables.service)))


def check_fit(catalog: Catalog, nodes: tuple[NodeSpec, ...], problems: Problems, *, more: bool = False) -> None:
    """Note every service that fits nowhere: its demand (beside the everywhere-services) exceeds every node.

    ``more``: there will be other nodes, so that copies which find no room yet are no problem.
    """
    base_cores = sum(spec.cores for spec in catalog.specs if spec.run == "everywhere")
    base_bytes = sum(spec.memory_bytes for spec in catalog.specs if spec.run == "everywhere")
    for index, spec in enumerate(catalog.specs):
        key = f"service[{index}] ({spec.name})"
        cores, memory = base_cores, base_bytes
        if spec.run != "everywhere":
            cores, memory = cores + spec.cores, memory + spec.memory_bytes
        fitting = sum(1 for node in nodes if node.cores >= cores and node.memory_bytes >= memory)
        needed = {"everywhere": len(nodes), "singleton": 1, "count": 1 if more else spec.count}[spec.run]
        if fitting >= needed:
            continue
        room = f"{max(n.cores for n in nodes)} cores and {max(n.memory_bytes for n in nodes) >> 30} GiB"
        problems.say(
            f"{key}: cores = {spec.cores}, memory_gib = {spec.memory_bytes >> 30} fits on {fitting} of {len(nodes)} "
            f"nodes, needed: {needed}; with the services that run everywhere it takes {cores} cores and "
            f"{memory >> 30} GiB, allowed: at most what the largest node has, {room}"
        )


def _spread(value: int | Spread) -> Spread:
    return value if isinstance(value, Spread) else Spread(min=value, p50=value, p90=value, max=value)


def _service(table: ServiceTable) -> CatalogService:
    run: Run = "count" if isinstance(table.run, Copied) else table.run
    spec = ServiceSpec(
        name=ServiceName(table.name),
        run=run,
        count=table.run.count if isinstance(table.run, Copied) else 1,
        volume=VolumeName(table.volume) if table.volume else NO_VOLUME,
        address=table.address,
        cores=table.cores,
        memory_bytes=table.memory_gib << 30,
        needs=tuple(map(ServiceName, table.needs)),
        anti_affinity=tuple(map(ServiceName, table.anti_affinity)),
        power_fence="power" in table.fence,
        start_ms_max=table.start_ms_max,
        stop_ms_max=table.stop_ms_max,
    )
    timing = ServiceTiming(
        start_ms=_spread(table.twin.start_ms),
        recovery_ms=_spread(table.twin.recovery_ms),
        stop_ms=_spread(table.twin.stop_ms),
    )
    return CatalogService(spec=spec, twin=timing, health=table.health, process=table.process)


def _check(tables: CatalogTables, problems: Problems) -> None:
    """Note what single values cannot show: names used twice, unknown or circular references, impossible mixtures."""
    first: dict[str, str] = {}
    known = sorted({service.name for service in tables.service})
    for index, service in enumerate(tables.service):
        key = f"service[{index}]"
        for what, value in (("name", service.name), ("volume", service.volume), ("address", service.address)):
            used = first.setdefault(f"{what} {value}", f"{key}.{what}") if value else f"{key}.{what}"
            if used != f"{key}.{what}":
                problems.add(f"{key}.{what}", value, f"this {what} is used twice; first as {used}")
        _check_references(service, key, known, problems)
        _check_mixture(service, key, problems)
    if not tables.service:
        problems.add("service", [], "needed: at least one [[service]]")
    cycle = find_cycle({service.name: service.needs for service in tables.service})
    if cycle:
        index = next(i for i, service in enumerate(tables.service) if service.name == cycle[0])
        problems.add(
            f"service[{index}].needs",
            list(tables.service[index].needs),
            f"services need each other in a circle: {' -> '.join(cycle)}; allowed: no circle",
        )


def _check_references(service: ServiceTable, key: str, known: list[str], problems: Problems) -> None:
    for what, names in (("needs", service.needs), ("anti_affinity", service.anti_affinity)):
        for at, name in enumerate(names):
            if name not in known:
                problems.add(f"{key}.{what}[{at}]", name, f"no such service; allowed: {one_of(known)}", known)
            elif name == service.name and what == "anti_affinity":
                problems.add(f"{key}.{what}[{at}]", name, "is the service itself")


def _check_mixture(service: ServiceTable, key: str, problems: Problems) -> None:
    single = service.run == "singleton"
    if service.volume and not single:
        problems.add(f"{key}.volume", service.volume, 'allowed: only with run = "singleton"')
    if service.address and not single:
        problems.add(f"{key}.address", service.address, 'allowed: only with run = "singleton"')
    if service.fence.startswith("storage") and not service.volume:
        problems.add(f"{key}.fence", service.fence, 'allowed without a volume: "power", "none"')
    if service.volume and not service.fence.startswith("storage"):
        problems.add(f"{key}.fence", service.fence, 'needed with a volume: "storage" or "storage+power"')
    if service.address:
        try:
            ipaddress.ip_address(service.address)
        except ValueError:
            problems.add(f"{key}.address", service.address, 'allowed: an IP address such as "10.40.0.10"')
    for name, spread in (
        ("start_ms", service.twin.start_ms),
        ("recovery_ms", service.twin.recovery_ms),
        ("stop_ms", service.twin.stop_ms),
    ):
        if isinstance(spread, Spread) and not spread.min <= spread.p50 <= spread.p90 <= spread.max:
            problems.say(f"{key}.twin.{name}: allowed: min <= p50 <= p90 <= max")


def find_cycle(needs: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Find one circle of needs, as a path that ends where it began; empty if there is none. ``O(services + needs)``."""
    done: dict[str, bool] = {}
    for start in needs:
        path: list[tuple[str, int]] = [(start, 0)] if start not in done else []
        while path:
            name, at = path.pop()
            done[name] = False
            names = needs.get(name, ())
            if at >= len(names):
                done[name] = True
                continue
            path.append((name, at + 1))
            if done.get(names[at]) is False:
                trail = [step for step, _ in path]
                return (*trail[trail.index(names[at]) :], names[at])
            if names[at] not in done:
                path.append((names[at], 0))
    return ()
