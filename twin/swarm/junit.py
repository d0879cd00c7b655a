"""A swarm as a JUnit suite: a case for each rule, gate and rare situation, and one for each failing seed."""

from pathlib import Path

from trial.junit import Case, Result, Suite
from trial.verdict import Verdict
from twin.checkers import CHECKERS
from twin.swarm.summary import LARGE, Broken, Failure, Reached, Summary
from twin.swarm.words import rule_words

SEEDS_SHOWN = 10

RULES: dict[str, str] = {
    "crash": "no campaign ends in an error of the core or of the twin",
    "killed_worker": "no campaign kills the processes that run it",
    "invariants": "what must hold in every machine at every step holds",
    **{checker.name: checker.text for checker in CHECKERS},
    "settle_ms": "the rack settles before the first fault",
    "convergence": "once all faults are removed, the rack converges in time",
}
"""Whatever may be broken in any campaign, in words; expectations of a profile come on top as they are broken."""


def to_suite(summary: Summary) -> Suite:
    """Make a suite of a swarm. Seeds that failed are listed as far as the summary has kept them."""
    group = f"swarm.{summary.profile}"
    broken = {one.broken: one for one in reversed(summary.broken)}
    rules = [*RULES, *(name for name in sorted(broken) if name not in RULES)]
    explained = {failure.found.seed: failure for failure in summary.failures}
    return Suite(
        name=group,
        wall_ms=summary.wall_ms,
        properties={
            "campaigns": str(summary.campaigns),
            "seeds": f"{summary.first_seed}..{summary.last_seed}",
            "simulated_ms": str(summary.sim_ms),
            "digest": summary.digest,
        },
        cases=(
            *(_rule(f"{group}.rule", name, broken.get(name)) for name in rules),
            *(
                Case(
                    group=f"{group}.gate",
                    name=gate.name,
                    result="passed" if gate.ok else "failure",
                    detail="" if gate.ok else f"wanted {gate.wanted}, got {gate.got}",
                    out=f"{gate.got}; wanted {gate.wanted}" if gate.ok else "",
                )
                for gate in summary.gates
            ),
            *(_sometimes(f"{group}.sometimes", one, summary) for one in summary.sometimes if one.wanted),
            *(_seed(f"{group}.seed", seed, one, explained) for one in summary.broken for seed in one.seeds),
        ),
    )


def _rule(group: str, name: str, broken: Broken | None) -> Case:
    if broken is None:
        return Case(group=group, name=name, out=RULES[name])
    seeds = ", ".join(str(seed) for seed in broken.seeds[:SEEDS_SHOWN])
    more = f" and {broken.count - SEEDS_SHOWN} more" if broken.count > SEEDS_SHOWN else ""
    lines = [rule_words(broken.verdict, broken.broken), f"in the campaigns of {seeds}{more}", broken.detail]
    return Case(group=group, name=name, result=_result(broken.verdict), detail="\n".join(lines))


def _sometimes(group: str, one: Reached, summary: Summary) -> Case:
    if one.campaigns:
        return Case(group=group, name=one.name, out=f"{one.text}: in {one.campaigns} of {summary.campaigns} campaigns")
    result: Result = "failure" if summary.too_calm else "skipped"
    detail = f"not reached by any of {summary.campaigns:,d} campaigns (must be, from {LARGE:,d} on): {one.text}"
    return Case(group=group, name=one.name, result=result, detail=detail)


def _seed(group: str, seed: int, broken: Broken, explained: dict[int, Failure]) -> Case:
    """One failing seed. Only one of each way to fail is explained; the others say which one that is."""
    failure = explained.get(seed)
    detail = rule_words(broken.verdict, broken.broken)
    if failure is None:
        first = explained.get(broken.seeds[0])
        out = [f"fails as seed {broken.seeds[0]} does"]
        if first is not None:
            out.append(f"replay: twin run {Path(first.tape).with_name(f'{seed}.toml')}")
    else:
        detail = "\n".join(failure.reason) or f"{detail}\n{failure.found.detail}"
        out = explanation(failure)
    return Case(group=group, name=f"seed {seed}", result=_result(broken.verdict), detail=detail, out="\n".join(out))


def explanation(failure: Failure) -> list[str]:
    """Say in lines how to replay a failure, what is left of it, and which faults were necessary."""
    lines = [f"replay: twin run {failure.tape}"]
    if failure.shrunk:
        left = f"{failure.faults_left} of {failure.found.faults} faults left after {failure.runs} runs"
        lines.append(f"shrunk: twin run {failure.shrunk} ({left})")
        lines += failure.blame
        lines += ["", failure.shrunk_text]
    return lines


def _result(verdict: Verdict) -> Result:
    return "error" if verdict == "crash" else "failure"
