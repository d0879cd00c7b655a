"""Rules over arrays of inputs: which devices each input is placed on, exactly as Ceph and crushtool compute it."""

import numpy as np
from numpy.typing import ArrayLike

from core.errors import InputError
from twin.crush.compile import Compiled
from twin.crush.draw import Indices, Items, Space
from twin.crush.firstn import choose_firstn
from twin.crush.indep import choose_indep
from twin.crush.lanes import Lanes, Tries
from twin.crush.map import NONE, Choose, Emit, Set, Take, Tunables, Unsupported

LANES = 1 << 16
"""How many results of inputs are worked on together: they stay in a core's cache, and the memory is bounded."""


def map_inputs(
    compiled: Compiled,
    rule: int,
    xs: ArrayLike,
    num_rep: int,
    weights: ArrayLike,
    choose_args: str | None = None,
) -> Items:
    """Map inputs by a rule: int32, shape (n, num_rep), device ids; `NONE` is a hole (indep) or padding (firstn).

    ``xs``: integers, shape (n,), taken modulo 2^32. ``weights``: reweights in 16.16 by device id; devices beyond its
    end are out. ``choose_args``: the name of a set of them in the map. O(n * draws per input).

    Raises: `InputError` if the rule or the choose_args do not exist.
    """
    return map_counted(compiled, rule, xs, num_rep, weights, choose_args)[0]


def map_counted(
    compiled: Compiled,
    rule: int,
    xs: ArrayLike,
    num_rep: int,
    weights: ArrayLike,
    choose_args: str | None = None,
) -> tuple[Items, Indices]:
    """Map as `map_inputs` does, and say how long each result is: int64, shape (n,). Holes count, padding does not."""
    if rule not in compiled.rules:
        allowed = ", ".join(str(known) for known in sorted(compiled.rules)) or "none"
        raise InputError([f"rule {rule}: not in the map; allowed: {allowed}"])
    if choose_args is not None and choose_args not in compiled.drawn:
        raise InputError([f"choose_args {choose_args}: not in the map; allowed: {', '.join(compiled.drawn) or 'none'}"])
    x = np.asarray(xs).astype(np.int64).astype(np.uint32)
    reweights = np.asarray(weights).astype(np.int64)
    result, length = np.full((len(x), max(num_rep, 0)), NONE, np.int32), np.zeros(len(x), np.int64)
    space = Space()
    step = max(LANES // max(num_rep, 1), 1)
    for start in range(0, len(x) if num_rep > 0 else 0, step):
        part = slice(start, start + step)
        lanes = Lanes(compiled=compiled, x=x[part], weights=reweights, choose_args=choose_args, space=space)
        map_lanes(lanes, rule, num_rep, result[part], length[part])
    return result, length


def map_lanes(lanes: Lanes, rule: int, num_rep: int, result: Items, length: Indices) -> None:
    """Map one stretch of lanes into ``result``, int32, shape (n, num_rep), all `NONE` before; ``length`` all 0."""
    _Run(lanes, num_rep, result, length).rule(rule)


class _Run:
    """One run of a rule over a stretch of lanes: the working items, and the results so far."""

    def __init__(self, lanes: Lanes, num_rep: int, result: Items, length: Indices) -> None:
        self.lanes, self.num_rep, self.result, self.length = lanes, num_rep, result, length
        self.work: Items = np.empty((len(lanes.x), 0), np.int32)
        self.size = np.zeros(len(lanes.x), np.int64)
        self.tries = _tries(lanes.compiled.crush.tunables)

    def rule(self, rule: int) -> None:
        """Run all steps."""
        known = self.lanes.compiled.rules[rule]
        for step in known.steps:
            match step:
                case Take():
                    self._take(step.item)
                case Choose():
                    self._choose(step)
                case Set():
                    self.tries = _set(self.tries, step)
                case Emit():
                    self._emit()
                case Unsupported():
                    raise InputError([f"rule {known.id} ({known.name}): {step.operation}: MSR rules cannot be mapped"])

    def _take(self, item: int) -> None:
        compiled = self.lanes.compiled
        bucket = item < 0 and -1 - item < len(compiled.alg) and compiled.alg[-1 - item] > 0
        if bucket or 0 <= item < compiled.device_count:
            self.work = np.full((len(self.size), 1), item, np.int32)
            self.size = np.ones(len(self.size), np.int64)

    def _choose(self, step: Choose) -> None:
        """Choose below each working item; what is chosen takes its place. Devices and holes lead nowhere."""
        number = step.num if step.num > 0 else step.num + self.num_rep
        chosen = np.full((len(self.size), self.num_rep), NONE, np.int32)
        size = np.zeros(len(self.size), np.int64)
        for place in range(self.work.shape[1] if number > 0 else 0):
            item = self.work[:, place]
            lane = np.flatnonzero((self.size > place) & (item < 0))
            if len(lane):
                start = -1 - item[lane].astype(np.int64)
                if step.how in ("choose_firstn", "chooseleaf_firstn"):
                    self._firstn(step, lane, start, number, chosen, size)
                else:
                    self._indep(step, lane, start, number, chosen, size)
        if self.size.any():
            self.work, self.size = chosen, size

    def _firstn(self, step: Choose, lane: Indices, start: Indices, number: int, chosen: Items, size: Indices) -> None:
        leaf, room = step.how == "chooseleaf_firstn", self.num_rep - size[lane]
        _, leaves, count = choose_firstn(self.lanes, lane, start, number, step.type_id, leaf, self.tries, room)
        for place in range(int(count.max(initial=0))):
            some = np.flatnonzero(count > place)
            chosen[lane[some], size[lane[some]] + place] = leaves[some, place]
        size[lane] += count

    def _indep(self, step: Choose, lane: Indices, start: Indices, number: int, chosen: Items, size: Indices) -> None:
        leaf = step.how == "chooseleaf_indep"
        before = size[lane]
        for full in np.flatnonzero(np.bincount(before)).tolist():
            left = min(number, self.num_rep - full)
            some = np.flatnonzero(before == full)
            if left > 0 and len(some):
                where = lane[some]
                items, leaves = choose_indep(
                    self.lanes, where, start[some], number, left, step.type_id, leaf, self.tries
                )
                chosen[where, full : full + left] = leaves if leaf else items
                size[where] += left

    def _emit(self) -> None:
        for place in range(self.work.shape[1]):
            lane = np.flatnonzero((self.size > place) & (self.length < self.num_rep))
            self.result[lane, self.length[lane]] = self.work[lane, place]
            self.length[lane] += 1
        self.size = np.zeros(len(self.size), np.int64)


def _tries(tunables: Tunables) -> Tries:
    """The map's own; one more than `choose_total_tries`, which once counted retries."""
    return Tries(
        choose=tunables.choose_total_tries + 1,
        leaf=0,
        local=tunables.choose_local_tries,
        fallback=tunables.choose_local_fallback_tries,
        vary_r=tunables.chooseleaf_vary_r,
        stable=tunables.chooseleaf_stable,
    )


def _set(tries: Tries, step: Set) -> Tries:
    """Change what a step sets; a count of tries must be above 0, the others at least 0, else nothing changes."""
    name = {
        "set_choose_tries": "choose",
        "set_chooseleaf_tries": "leaf",
        "set_choose_local_tries": "local",
        "set_choose_local_fallback_tries": "fallback",
        "set_chooseleaf_vary_r": "vary_r",
        "set_chooseleaf_stable": "stable",
    }[step.what]
    if step.value < (1 if name in ("choose", "leaf") else 0):
        return tries
    values = {known: getattr(tries, known) for known in Tries.__dataclass_fields__}
    return Tries(**(values | {name: step.value}))
