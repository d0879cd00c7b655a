"""Gates of a whole swarm: bounds that its failovers must keep, all campaigns together, and the downtime of each."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from formats.catalog import Catalog
from formats.load import build
from formats.problems import Problems, one_of, text_table
from trial.gates import ANY, Gate, check_gates
from trial.scenario import Expect
from trial.verdict import Expectation
from twin.swarm.spread import Times, quantiles_of

GATES = ("failover_ms", "unavailable_ms")
"""The keys of a profile's ``[expect]``; the others of a scenario's make no sense for what is drawn."""


def read_gates(
    table: object, problems: Problems, kinds: Iterable[str], services: Sequence[str] | None = None
) -> Expect:
    """Read a profile's ``[expect]`` and note every problem; ``services``: the singletons, None if any may be drawn."""
    found = build(table, Expect, problems, "expect")
    for key, value in text_table(table).items():
        if key in msgspec.structs.asdict(Expect()) and key not in GATES:
            problems.add(f"expect.{key}", value, f"no gate of a whole swarm; allowed: {one_of(GATES)}")
    check_gates(text_table(table).get("failover_ms"), services, kinds, "expect.failover_ms", problems)
    return found if found is not None else Expect()


def check_services(expect: Expect, catalogs: Iterable[Catalog], profile: str) -> None:
    """Make sure that gates name singletons that may be drawn; else a small swarm would take them for met.

    Raises: InputError with every name that is in none of the catalogs.
    """
    known = sorted({str(name) for catalog in catalogs for name in catalog.singletons})
    problems = Problems(f'profile "{profile}"')
    for name in (*(gate.service for gate in expect.gates), *expect.unavailable_ms):
        if name not in (ANY, *known):
            problems.add("expect", name, f"no singleton of any catalog; allowed: {one_of(known)}", known)
    problems.check()


def judge_gates(
    expect: Expect, times: Times, unavailable_ms_max: Mapping[str, int], large: bool
) -> tuple[Expectation, ...]:
    """Hold every gate against what was counted.

    A gate on failovers that never happened is not met by a ``large`` swarm: it did not show what it is for.
    """
    found = [_failover(gate, times, large) for gate in expect.gates]
    for service, most_ms in expect.unavailable_ms.items():
        got_ms = unavailable_ms_max.get(service, 0)
        found.append(
            Expectation(
                name=f"unavailable_ms.{service}",
                ok=got_ms <= most_ms,
                wanted=f"at most {most_ms:,d} ms in each campaign",
                got=f"{got_ms:,d} ms in the worst one",
            )
        )
    return tuple(found)


def _failover(gate: Gate, times: Times, large: bool) -> Expectation:
    counts = times.of(gate.service, gate.cause)
    wanted = f"at most {gate.most_ms:,d} ms"
    count = counts.total()
    if not count:
        return Expectation(name=gate.name, ok=not large, wanted=wanted, got="no failover")
    (got_ms,) = quantiles_of(counts, (gate.percent,))
    over = sum(many for ms, many in counts.items() if ms > gate.most_ms)
    got = f"{got_ms:,d} ms ({over:,d} of {count:,d} above)"
    return Expectation(name=gate.name, ok=got_ms <= gate.most_ms, wanted=wanted, got=got)
