"""Outages of many components at once: each a renewal process of its own, up and down in turn."""

import msgspec
import numpy as np
import numpy.typing as npt

from core.errors import InputError
from twin.failures.bulk import uniforms
from twin.failures.components import Component
from twin.failures.distributions import YEAR_H, Floats, mean_h, quantile, residual, survival

HOUR_MS = 3_600_000
_AGES = 1_000
"""Ages over which an expectation is averaged."""
OUTAGES_MAX = 50_000_000
"""More are refused: they would not fit into the memory of a small machine."""

Ints = npt.NDArray[np.int64]


class Outages(msgspec.Struct, frozen=True, eq=False):
    """Outages of the components of one kind, by component, then start; those of one component never overlap.

    ``component``: int64 array of indices from 0; ``start_ms`` and ``end_ms``: int64 arrays. An end may lie after the
    end of the watch, a start never does.
    """

    component: Ints
    start_ms: Ints
    end_ms: Ints


NONE = Outages(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
"""No outage at all."""


def renew(of: Component, components: int, duration_ms: int, seed: int) -> Outages:
    """Draw the outages of ``components`` components of one kind within ``duration_ms``.

    They are in the middle of their lives at 0, as a site that has long been running has them (``residual``), or as old
    as ``of.ages_years`` says. Component i draws from its own stream (``bulk``). Cost: O(components + outages).

    Raises: InputError if more than ``OUTAGES_MAX`` outages are to be expected.
    """
    up, down = of.behaviour.up, of.behaviour.down
    cycle_h = mean_h(up) + mean_h(down)
    expected = components * (duration_ms / HOUR_MS / cycle_h + 1.0)
    if not np.isfinite(cycle_h) or expected > OUTAGES_MAX:
        raise InputError([f"{of.kind}: about {expected:.3g} outages; allowed: up to {OUTAGES_MAX:,}; take less time"])
    now_ms = _first(of, components, seed)
    alive = np.flatnonzero(now_ms < duration_ms)
    found: list[tuple[Ints, Ints, Ints]] = []
    for draw in range(OUTAGES_MAX):
        if not len(alive):
            break
        start_ms = now_ms[alive]
        length_h = quantile(down, uniforms(seed, f"{of.kind}.down", draw, int(alive[-1]) + 1)[alive])
        if draw == 0:
            length_h = np.where(start_ms < 0, _down_left(of, alive, seed), length_h)
        start_ms = np.maximum(start_ms, 0)
        end_ms = start_ms + _ms(length_h)
        found.append((alive, start_ms, end_ms))
        next_h = quantile(up, uniforms(seed, f"{of.kind}.up", draw + 1, int(alive[-1]) + 1)[alive])
        now_ms[alive] = end_ms + _ms(next_h)
        alive = alive[now_ms[alive] < duration_ms]
    return _joined(found)


def expected_per_year(of: Component, years: float) -> float:
    """How often a year one component is expected to fail, at the ages that it has in these years.

    In the long run once in its mean time up and down; with ``ages_years`` by the mean rise of the hazard while each
    gets older by ``years`` (a replacement that fails again within the time is not counted).
    """
    up, down = of.behaviour.up, of.behaviour.down
    if not of.ages_years:
        return YEAR_H / (mean_h(up) + mean_h(down))
    ages_h = (np.arange(_AGES) + 0.5) / _AGES * of.ages_years * YEAR_H
    rise = np.log(survival(up, ages_h)) - np.log(survival(up, ages_h + years * YEAR_H))
    return float(rise.mean() / years)


def _first(of: Component, components: int, seed: int) -> Ints:
    """When each component first fails; -1 if it is down already."""
    up = of.behaviour.up
    uniform = uniforms(seed, f"{of.kind}.up", 0, components)
    second = uniforms(seed, f"{of.kind}.age", 0, components)
    if of.ages_years:
        age_h = second * of.ages_years * YEAR_H
        left_h = quantile(up, 1.0 - survival(up, age_h) * (1.0 - uniform)) - age_h
        return _ms(left_h)
    first_ms = _ms(residual(up, uniform, second))
    is_down = uniforms(seed, f"{of.kind}.state", 0, components) >= of.behaviour.availability
    return np.where(is_down, -1, first_ms)


def _down_left(of: Component, alive: Ints, seed: int) -> Floats:
    uniform = uniforms(seed, f"{of.kind}.repair", 0, int(alive[-1]) + 1)[alive]
    second = uniforms(seed, f"{of.kind}.repair", 1, int(alive[-1]) + 1)[alive]
    return residual(of.behaviour.down, uniform, second)


def _ms(hours: Floats) -> Ints:
    """Whole milliseconds, at least one, at most a hundred thousand years, so that no sum overflows."""
    return np.clip(np.rint(hours * HOUR_MS), 1, 1e5 * YEAR_H * HOUR_MS).astype(np.int64)


def _joined(found: list[tuple[Ints, Ints, Ints]]) -> Outages:
    if not found:
        return NONE
    component, start_ms, end_ms = (np.concatenate([part[i] for part in found]) for i in range(3))
    order = np.argsort(component, kind="stable")
    return Outages(component[order], start_ms[order], end_ms[order])


def union(parts: list[Outages]) -> Outages:
    """Join outages of the same components that overlap or touch. O(n log n)."""
    component, start_ms, end_ms = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("component", "start_ms", "end_ms")
    )
    if not len(component):
        return NONE
    order = np.lexsort((start_ms, component))
    component, start_ms, end_ms = component[order], start_ms[order], end_ms[order]
    keep, ends = joined_ends(component, start_ms, end_ms)
    return Outages(component[keep], start_ms[keep], ends)


def joined_ends(owner: Ints, start_ms: Ints, end_ms: Ints) -> tuple[npt.NDArray[np.intp], Ints]:
    """Which spans begin a joined one, and where each of those ends; spans sorted by owner, then start.

    ``owner``: int64 array, ascending. One pass: the latest end so far, lifted by more than any time for each owner.
    """
    lift = np.int64(max(int(end_ms.max(initial=0)), int(start_ms.max(initial=0))) + 1)
    offset = (owner - owner[0]) * lift
    latest = np.maximum.accumulate(end_ms + offset)
    begins = np.ones(len(owner), dtype=np.bool_)
    begins[1:] = start_ms[1:] + offset[1:] > latest[:-1]
    keep = np.flatnonzero(begins)
    last = np.append(keep[1:], len(owner)) - 1
    return keep, latest[last] - offset[last]
