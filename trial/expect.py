"""A scenario's ``[expect]`` against what was measured; every line that was asked for is answered."""

from collections.abc import Mapping, Sequence

from trial.gates import Gate
from trial.scenario import Expect
from trial.verdict import Expectation, Failover


def compare(
    expect: Expect,
    failovers: Sequence[Failover],
    unavailable_ms: Mapping[str, int],
    notes: Mapping[str, int],
    joined: int,
) -> tuple[Expectation, ...]:
    """Compare each expectation but the verdict, in the order of the file's schema.

    ``notes`` counts the notes of the run by kind, ``joined`` the members at its end.
    """
    found: list[Expectation] = []
    for gate in expect.gates:
        found.append(_gate(gate, [move.total_ms for move in failovers if gate.meets(move.service, move.cause)]))
    for service in expect.failovers:
        found += _count(service, expect, sum(1 for move in failovers if move.service == service))
    for service, most_ms in expect.unavailable_ms.items():
        got_ms = unavailable_ms.get(service, 0)
        wanted = f"at most {most_ms:,d} ms"
        found.append(_line(f"unavailable_ms.{service}", got_ms <= most_ms, wanted, f"{got_ms:,d} ms"))
    for kind in expect.sometimes:
        count = notes.get(kind, 0)
        found.append(_line(f"sometimes.{kind}", count > 0, "at least once", _times(count)))
    for kind in expect.never:
        count = notes.get(kind, 0)
        found.append(_line(f"never.{kind}", count == 0, "never", _times(count)))
    if expect.joined is not None:
        found.append(_line("joined", joined == expect.joined, f"{expect.joined} nodes", f"{joined} nodes"))
    return tuple(found)


def _gate(gate: Gate, totals_ms: Sequence[int]) -> Expectation:
    """A bound on the time of a failover that never happened is not met: the scenario did not show what it is for."""
    ok = bool(totals_ms) and quantile(totals_ms, gate.percent) <= gate.most_ms
    got = f"{quantile(totals_ms, gate.percent):,d} ms" if totals_ms else "no failover"
    return _line(gate.name, ok, f"at most {gate.most_ms:,d} ms", got)


def _count(service: str, expect: Expect, count: int) -> list[Expectation]:
    wanted = expect.failovers_of(service)
    if wanted is None:
        return []
    least, most = wanted
    words = f"exactly {least}" if least == most else f"{least} to {most}"
    return [_line(f"failovers.{service}", least <= count <= most, words, str(count))]


def quantile(values: Sequence[int], percent: int) -> int:
    """The smallest value that at least ``percent`` of the values do not exceed (nearest rank); ``values`` not empty."""
    ordered = sorted(values)
    rank = -(-percent * len(ordered) // 100)
    return ordered[max(0, rank - 1)]


def _times(count: int) -> str:
    return "never" if count == 0 else "once" if count == 1 else f"{count:,d} times"


def _line(name: str, ok: bool, wanted: str, got: str) -> Expectation:
    return Expectation(name=name, ok=ok, wanted=wanted, got=got)
