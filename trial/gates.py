"""Failover-time gates: upper bounds of how long failovers take, of all services, of one, or of one for one cause.

In ``[expect]``, quantiles are nearest ranks::

    failover_ms.p99 = 5_000                     # all failovers together
    failover_ms.mariadb.p99 = 4_000             # those of one service
    failover_ms.mariadb.power_loss.p50 = 3_000  # those of one service for one cause
    failover_ms."*".power_loss.p99 = 3_000      # those of all services for one cause
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import msgspec

from formats.load import Ms, keys_of
from formats.problems import Problems, join, nearest, one_of, text_table
from trial.measures import OWN_CAUSES, UNKNOWN_CAUSE

ANY = "*"
"""Every service, or every cause."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds of failover times, in milliseconds; what is not given is not bounded."""

    p50: Ms | None = None
    p90: Ms | None = None
    p99: Ms | None = None
    max: Ms | None = None


PERCENT: dict[str, int] = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
"""The keys of ``Bounds``, and the share of the failovers that each bounds."""

GateTable = dict[str, Ms | dict[str, Ms | Bounds]]
"""``failover_ms``: a quantile's bound, or a service's table, which holds bounds of quantiles or those of causes."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One bound: ``quantile`` of the failovers of ``service`` for ``cause`` takes at most ``most_ms``."""

    service: str
    cause: str
    quantile: str
    most_ms: int

    @property
    def percent(self) -> int:
        """The share of the failovers that has to keep the bound."""
        return PERCENT[self.quantile]

    @property
    def name(self) -> str:
        """The key path in ``[expect]``."""
        both = [self.service, self.cause]
        path = both if self.cause != ANY else [name for name in both if name != ANY]
        return reduce(join, [*path, self.quantile], "failover_ms")

    def meets(self, service: str, cause: str) -> bool:
        """Whether a failover of that service for that cause counts."""
        return self.service in (ANY, service) and self.cause in (ANY, cause)


def gates_of(table: GateTable) -> tuple[Gate, ...]:
    """All bounds of a table, in its order."""
    found: list[Gate] = []
    for service, inner in table.items():
        if isinstance(inner, int):
            found.append(Gate(service=ANY, cause=ANY, quantile=service, most_ms=inner))
            continue
        for cause, bounds in inner.items():
            if isinstance(bounds, int):
                found.append(Gate(service=service, cause=ANY, quantile=cause, most_ms=bounds))
            else:
                found += _bounds(service, cause, bounds)
    return tuple(found)


def _bounds(service: str, cause: str, bounds: Bounds) -> list[Gate]:
    given: list[tuple[str, int | None]] = [(name, getattr(bounds, name)) for name in PERCENT]
    return [
        Gate(service=service, cause=cause, quantile=name, most_ms=most_ms)
        for name, most_ms in given
        if most_ms is not None
    ]


def causes_across(gates: Iterable[Gate]) -> tuple[str, ...]:
    """The causes that gates bound for all services together, each once."""
    return tuple(dict.fromkeys(gate.cause for gate in gates if gate.service == ANY and gate.cause != ANY))


def check_gates(
    table: object, services: Sequence[str] | None, kinds: Iterable[str], key: str, problems: Problems
) -> None:
    """Note quantiles, services and causes in ``failover_ms`` that there are not.

    ``services``: the singletons, None if they are not known; ``kinds``: the kinds of fault; ``key``: the table's path.
    """
    causes = sorted({*kinds, *OWN_CAUSES, UNKNOWN_CAUSE})
    for service, inner in text_table(table).items():
        here = join(key, service)
        if not isinstance(inner, dict):
            if service not in PERCENT:
                names = [*keys_of(Bounds), *(services or ())]
                allowed = f"{one_of(keys_of(Bounds))}, or a table for a service"
                problems.add(here, inner, f"no such quantile; allowed: {allowed}{nearest(service, names)}")
            continue
        if services is not None and service != ANY and service not in services:
            allowed = f'{one_of(services)}, or "{ANY}" for all of them'
            problems.add(here, inner, f"no such singleton; allowed: {allowed}{nearest(service, services)}")
        _check_service(inner, causes, here, problems)


def _check_service(table: Mapping[str, object], causes: Sequence[str], key: str, problems: Problems) -> None:
    quantiles = keys_of(Bounds)
    for name, inner in table.items():
        if isinstance(inner, dict) and name not in causes:
            problems.add(join(key, name), inner, f"no such cause; allowed: {one_of(causes)}{nearest(name, causes)}")
        elif not isinstance(inner, dict) and name not in quantiles:
            hint = nearest(name, [*quantiles, *causes])
            allowed = f"{one_of(quantiles)}, or a table for a cause"
            problems.add(join(key, name), inner, f"no such key; allowed: {allowed}{hint}")
