"""What must hold for a rack to count as scaling linearly, checked on what `twin scale` found.

A law that allows sigma 0.01 and kappa 1e-6 still loses most of a thousand nodes, so tighter bounds stand beside: what
is measured today with a margin, for the stated churn and for one of a loss a day. And since work that every node does
for every other hides behind machines that are fast and nodes that rarely fail, costs of a node must not grow either.
"""

from typing import TYPE_CHECKING

from twin.scaling.usl import Usl

if TYPE_CHECKING:
    from twin.scaling.scale import Scaling

SIGMA_MAX, KAPPA_MAX = 0.01, 1e-6
TIGHT_SIGMA_MAX, TIGHT_KAPPA_MAX = 1e-5, 1e-8
EXPONENT_MAX = 0.1
EXPONENTS_MAX = {
    "time to join one more": 0.15,
    "memory of one agent": 1.05,
    "messages of a node a day, at the stated churn": 1.05,
    "one step of an agent": 0.5,
    "steps of one agent for a loss and a join": 0.5,
    "cold start, until all have joined": 0.5,
    "cold start, messages per node": 1.05,
}
"""How fast costs may grow with the rack; all others by ``EXPONENT_MAX``. An agent remembers every member and hears of
every change, so these may grow in proportion. Steps touch more memory in a larger rack, whose machines share the caches
of one processor here."""


def broken(found: "Scaling") -> tuple[str, ...]:
    """Say what a rack fails in, one sentence each; nothing if it scales linearly."""
    problems = _bounds("capacity", found.usl, SIGMA_MAX, KAPPA_MAX)
    problems += _bounds("capacity", found.usl, TIGHT_SIGMA_MAX, TIGHT_KAPPA_MAX)
    problems += _bounds("a loss a day", found.fits["every_node_lost_daily"], TIGHT_SIGMA_MAX, TIGHT_KAPPA_MAX)
    for term in found.terms:
        most = EXPONENTS_MAX.get(term.name, EXPONENT_MAX)
        if term.exponent_ci is not None and term.exponent_ci[0] > most:
            problems.append(f"{term.name} grows as N^{term.exponent:.2f}; allowed: N^{most:g}")
    return tuple(dict.fromkeys(problems))


def _bounds(name: str, usl: Usl, sigma_max: float, kappa_max: float) -> list[str]:
    """Both ends of the interval count, so that few seeds do not make a rack look better."""
    problems = []
    if max(usl.sigma, usl.sigma_ci[1]) > sigma_max:
        problems.append(f"{name}: sigma is up to {max(usl.sigma, usl.sigma_ci[1]):.2g}; allowed: {sigma_max:g}")
    if max(usl.kappa, usl.kappa_ci[1]) > kappa_max:
        problems.append(f"{name}: kappa is up to {max(usl.kappa, usl.kappa_ci[1]):.2g}; allowed: {kappa_max:g}")
    return problems
