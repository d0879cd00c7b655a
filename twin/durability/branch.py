"""The chance that a loss of data goes back to one given strike, by one weighted sample that goes straight for it.

Source of forcing and failure biasing: E. Lewis, F. Boehm: Monte Carlo simulation of Markov unreliability models,
Nuclear Engineering and Design 77, 1984; for distributions with ageing: V. Nicola, P. Heidelberger, P. Shahabuddin:
Uniformization and exponential transformation: techniques for fast simulation of highly dependable non-Markovian
systems, Symposium on Fault-Tolerant Computing, 1992.
"""

import math

import numpy as np
import numpy.typing as npt

from twin.durability.site import Index, Site
from twin.durability.state import NEVER, State
from twin.durability.strike import aimed, as_it_comes

NOTHING = (0.0, 0.0)
STEPS_MAX = 10_000
"""A branch with more steps is an error of ours: its window would not end."""


def goes_back(
    site: Site, state: State, strike: int, clock: int, now: float, horizon: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Return an unbiased sample of: the first loss of data goes back to this strike and happens before ``horizon``.

    Returns the weight (0 without a loss) and the time of the loss, hours.

    ``state``: just before the strike (it is not changed). ``strike``: its number, counted up along a path.
    Candidates are the disks (and what takes disks along) whose next strike brings the worst hit of the groups closer to
    loss; one of them is forced to strike while the disks of this strike are not recovered, and the sample is weighted
    with the chance of that. All other clocks go on as in ``state``.
    """
    state = state.copy()
    taken, weight = aimed(site, state, clock, None, rng)
    whom = state.take(site, taken, strike, now, rng)
    if whom:
        return (weight, now) if whom == strike else NOTHING
    if not len(taken):
        return NOTHING
    if clock >= site.layout.disks:
        state.restart(site, clock, now, rng)
    own = taken
    own_groups = site.groups_of(own)
    end = min(float(state.until[own].max()), horizon)
    candidates = np.empty(0, dtype=np.intp)
    for number in range(1, STEPS_MAX):
        groups = _worst(site, state, own_groups, strike)
        candidates = _aim(site, state, groups, candidates, now, rng)
        when, chosen, factor = _next(site, state, candidates, now, end, rng)
        weight *= factor
        if when >= end or weight == 0.0:
            return NOTHING
        now = when
        state.recover(now)
        if chosen is not None:
            forced = bool((candidates == chosen).any())
            candidates = candidates[candidates != chosen]
            taken, factor = _taken(site, state, chosen, groups if forced else None, rng)
            weight *= factor
            if chosen >= site.layout.disks:
                state.restart(site, chosen, now, rng)
            whom = state.take(site, taken, strike + number, now, rng)
            if whom:
                return (weight, now) if whom == strike else NOTHING
    raise AssertionError(f"the window after strike {strike} did not end in {STEPS_MAX} steps")


def _taken(site: Site, state: State, clock: int, groups: Index | None, rng: np.random.Generator) -> tuple[Index, float]:
    """The disks a strike takes, aimed if it was forced, and the weight of that draw."""
    if clock < site.layout.disks:
        return np.array([clock], dtype=np.intp), 1.0
    if groups is None:
        return as_it_comes(site, state, clock, rng), 1.0
    return aimed(site, state, clock, groups, rng)


def _worst(site: Site, state: State, own_groups: Index, strike: int) -> Index:
    """Those groups nearest to loss among the ones whose loss would go back to this strike."""
    eligible: Index = np.asarray(own_groups[state.oldest(site, own_groups) == strike], dtype=np.intp)
    if not len(eligible):
        return eligible
    left = site.spare[eligible] - state.missing(site, eligible)
    return np.asarray(eligible[left == left.min()], dtype=np.intp)


def _aim(site: Site, state: State, groups: Index, before: Index, now: float, rng: np.random.Generator) -> Index:
    """The clocks to be forced (sorted). Those no longer among them get a next strike as it comes."""
    held = np.unique(site.shards[groups])
    disks: Index = np.asarray(held[state.is_fine(held)], dtype=np.intp)
    parts: list[Index] = [disks] if len(disks) else []
    for family in site.families[1:] if len(disks) else ():
        if family.burst is not None:
            parts.append(np.array([family.start], dtype=np.intp))
        elif family.kind is not None:
            units = np.unique(site.layout.unit_of(family.kind)[disks])
            parts.append(units[units >= 0].astype(np.intp) + family.start)
    candidates = np.concatenate(parts) if parts else np.empty(0, dtype=np.intp)
    dropped = np.setdiff1d(before, candidates, assume_unique=True)
    dropped = dropped[np.isinf(state.dues[dropped])]
    if len(dropped):
        state.dues[dropped] = site.redraw(dropped, state.births, now, rng)
    state.dues[candidates] = NEVER
    return candidates


def _next(
    site: Site, state: State, candidates: Index, now: float, end: float, rng: np.random.Generator
) -> tuple[float, int | None, float]:
    """Draw what happens next: (time, clock that strikes or None for a recovery, weight factor).

    The forced time is drawn from an exponential distribution cut off at ``end``, with the candidates' mean hazard rate;
    if they do not age, the factor is just the chance that one of them strikes before ``end``.
    """
    other = int(state.dues.argmin())
    at = float(state.dues[other])
    recovery = float(state.until[state.lost].min(initial=NEVER))
    recovery = recovery if recovery > now else NEVER
    length = end - now
    hazard = float(site.hazards(candidates, state.births, now, end).sum()) if len(candidates) else 0.0
    first = min(at, recovery)
    if hazard <= 0.0 or length <= 0.0:
        return (first, other if at <= recovery else None, 1.0) if first < end else (end, None, 1.0)
    reach = -math.expm1(-hazard)
    forced = now - math.log1p(-rng.random() * reach) / hazard * length
    if forced < first:
        past = float(site.hazards(candidates, state.births, now, forced).sum())
        rates = site.rates(candidates, state.births, forced)
        chosen, share = _choose(site, candidates, rates, rng)
        proposal = hazard / length * math.exp(-hazard * (forced - now) / length) / reach
        return forced, chosen, share * math.exp(-past) / proposal if proposal > 0.0 else 0.0
    if first >= end:
        return end, None, 0.0
    past = float(site.hazards(candidates, state.births, now, first).sum())
    beyond = math.exp(-hazard * (first - now) / length) - math.exp(-hazard)
    factor = math.exp(-past) * reach / beyond if beyond > 0.0 else 0.0
    return first, other if at <= recovery else None, factor


def _choose(
    site: Site, candidates: Index, rates: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[int, float]:
    """Choose who strikes: half by the rates, half balanced between kinds. Returns (clock, its rate over its chance)."""
    total = float(rates.sum())
    if total <= 0.0:
        return int(candidates[0]), 0.0
    chances = rates / total
    spread = np.zeros(len(rates))
    kinds = [(candidates >= family.start) & (candidates < family.stop) for family in site.families if family.count]
    kinds = [kind for kind in kinds if rates[kind].sum() > 0.0]
    for kind in kinds:
        spread[kind] = rates[kind] / rates[kind].sum() / len(kinds)
    mixed = (chances + spread) / 2.0
    picked = int(rng.choice(len(mixed), p=mixed / mixed.sum()))
    return int(candidates[picked]), float(rates[picked] / mixed[picked])
