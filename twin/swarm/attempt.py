"""Runs one tape and keeps what matters of its outcome."""

from trial.verdict import Outcome
from twin.run import Make, Options, run
from twin.swarm.found import Found, Move
from twin.swarm.sometimes import reached_in
from twin.swarm.tape import Tape, to_scenario


def attempt(tape: Tape, make: Make | None = None) -> Found:
    """Run a tape to its end. ``make`` builds the machines, if other ones than the core's are to be tried.

    Raises: InputError if the tape is not a scenario.
    """
    scenario = to_scenario(tape)
    result = run(scenario, Options(), make=make)
    outcome = result.outcome
    broken, detail = broken_rule(outcome)
    return Found(
        seed=tape.seed,
        verdict=outcome.verdict,
        broken=broken,
        detail=detail,
        nodes=len(scenario.rack.nodes),
        faults=len(scenario.faults),
        sim_ms=outcome.sim_ms,
        digest=outcome.digest,
        kinds=tuple(sorted({planned.kind for planned in scenario.faults})),
        reached=reached_in(result.truth, scenario),
        moves=tuple(Move(service=m.service, cause=m.cause, total_ms=m.total_ms) for m in outcome.failovers),
        unavailable_ms=outcome.unavailable_ms,
    )


def broken_rule(outcome: Outcome) -> tuple[str, str]:
    """Name the first thing that is broken, the worst kind first, and say it in words; ("", "") if nothing is."""
    if outcome.crash is not None:
        return "crash", f"{outcome.crash.what} at {outcome.crash.at_ms} ms\n{outcome.crash.traceback}"
    for check in outcome.checks:
        if not check.ok:
            return check.name, check.detail
    for wish in outcome.expectations:
        if not wish.ok:
            return wish.name, f"wanted {wish.wanted}, got {wish.got}"
    if outcome.pending:
        return "convergence", "; ".join(outcome.pending[:3])
    return "", ""
