"""The lab form of a catalog: every service gets a command that runs anywhere, and a health check that fits it.

What placement and election know of a service (volume, address, demand, needs) stays as it is; only the process behind
it is exchanged, so a scenario means the same in the lab as in the twin.
"""

import sys
from pathlib import Path

import msgspec

from core.ids import ServiceName
from drivers.toml_text import toml_text
from formats.catalog import Catalog, CatalogService, Health, Process

FIRST_PORT = 8_100
"""Away from the storage's ports, which faults of the network tell traffic by."""
REGISTER = Path(__file__).with_name("register.py")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients find a singleton; ``keeps`` whether it has a register on a volume."""

    service: ServiceName
    address: str
    port: int
    keeps: bool


def stand_in(service: CatalogService, index: int, folder: Path, python: str = sys.executable) -> CatalogService:
    """Exchange a service's process for ``register.py`` on a port of its own, number ``index`` of its catalog."""
    port = FIRST_PORT + index
    kind, more = ("register", ("{mount}",)) if service.spec.volume else ("echo", ())
    command = (python, "-S", "-E", str(REGISTER), kind, "{node}", "{epoch}", str(port), *more)
    return msgspec.structs.replace(
        service,
        health=Health(kind="tcp", port=port, every_ms=1_000),
        process=Process(command=command, env={"SICK": str(folder / "sick" / service.spec.name)}),
    )


def lab_form(catalog: Catalog, folder: Path, real_services: bool = False, python: str = sys.executable) -> Catalog:
    """Exchange every service's process; with ``real_services`` only of those that have none of their own."""
    return msgspec.structs.replace(
        catalog,
        services=tuple(
            service if real_services and _has_process(service) else stand_in(service, index, folder, python)
            for index, service in enumerate(catalog.services)
        ),
    )


def endpoints(catalog: Catalog) -> tuple[Endpoint, ...]:
    """Where clients find the singletons with an address, in the catalog's order."""
    return tuple(
        Endpoint(
            service=service.spec.name,
            address=service.spec.address,
            port=FIRST_PORT + index,
            keeps=bool(service.spec.volume),
        )
        for index, service in enumerate(catalog.services)
        if service.spec.run == "singleton"
        and service.spec.address
        and REGISTER.name in " ".join(service.process.command)
    )


def to_toml(catalog: Catalog) -> str:
    """A catalog file that reads as ``catalog`` (without what only the twin knows)."""
    return toml_text({"name": catalog.name, "service": [_table(service) for service in catalog.services]})


def _has_process(service: CatalogService) -> bool:
    return bool(service.process.command or service.process.unit)


def _table(service: CatalogService) -> dict[str, object]:
    spec = service.spec
    return {
        "name": spec.name,
        "run": {"count": spec.count} if spec.run == "count" else spec.run,
        "volume": spec.volume or None,
        "address": spec.address or None,
        "cores": spec.cores,
        "memory_gib": spec.memory_bytes >> 30,
        "needs": spec.needs,
        "anti_affinity": spec.anti_affinity,
        "fence": _fence(service),
        "start_ms_max": spec.start_ms_max,
        "stop_ms_max": spec.stop_ms_max,
        "health": msgspec.to_builtins(service.health),
        "process": msgspec.to_builtins(service.process),
    }


def _fence(service: CatalogService) -> str:
    parts = [word for word, on in (("storage", service.spec.volume), ("power", service.spec.power_fence)) if on]
    return "+".join(parts) or "none"
