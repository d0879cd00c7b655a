"""Mapping by the fastest way there is: the NumPy mapper, or the same rules compiled by numba where that pays.

numba is an optional extra. Both give the same results bit for bit.
"""

import functools
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError
from twin.crush.compile import ALGORITHMS, Compiled
from twin.crush.logarithm import negative_logs
from twin.crush.map import NONE, Choose, Emit, Rule, Set, Take, Tunables, Unsupported
from twin.crush.mapping import map_inputs

Prefer = Literal["auto", "numpy", "numba"]
"""How to map: "auto" takes numba where it is installed and saves more than it costs to start."""

_KERNEL = "twin.crush.kernel"
_DRAW_S = 30e-9
"""What one draw costs in NumPy (measured: 22-35 ns). Only the choice of the way depends on it, never a result."""
_WARM_S, _CACHED_S, _COLD_S = 0.002, 1.5, 30.0
"""NumPy time from which numba pays: already loaded, to be loaded, to be compiled first (about 20 s)."""
_LANES = 8
_NOTES_EACH = 4


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Mapped inputs, and all that was looked at for them.

    ``mapped``: int32, shape (inputs, replicas). ``draws``: int32, shape (draws, 4): input, bucket index, r, place of
    the winner in the bucket (-1: the bucket is empty). ``tests``: int32, shape (tests, 2): input, device whose
    reweight was asked.
    """

    mapped: NDArray[np.int32]
    draws: NDArray[np.int32]
    tests: NDArray[np.int32]


def map_best(
    compiled: Compiled,
    rule: int,
    xs: NDArray[np.integer],
    num_rep: int,
    weights: NDArray[np.uint32],
    choose_args: str | None = None,
    *,
    prefer: Prefer = "auto",
) -> NDArray[np.int32]:
    """Map inputs as ``map_inputs`` does, with the same results: int32, shape (inputs, num_rep).

    With ``prefer="numba"`` a map or rule that numba's path does not know (other buckets than straw2, local retries)
    is mapped by NumPy.

    Raises: ModuleNotFoundError if numba is preferred and not installed.
    """
    if chooses_numba(compiled, rule, len(xs), num_rep, prefer):
        return _run(compiled, rule, xs, num_rep, weights, choose_args, capacity=0)[0]
    return map_inputs(compiled, rule, xs, num_rep, weights, choose_args)


def chooses_numba(compiled: Compiled, rule: int, inputs: int, num_rep: int, prefer: Prefer = "auto") -> bool:
    """Whether ``map_best`` takes numba for so many inputs.

    Raises: ModuleNotFoundError if numba is preferred and not installed.
    """
    if prefer == "numpy" or not knows(compiled, rule):
        return False
    if prefer == "numba":
        kernel()
        return True
    if sys.modules.get("numba", ...) is None or importlib.util.find_spec("numba") is None:
        return False
    expected_s = inputs * num_rep * _items_on_the_way(compiled) * _DRAW_S
    return expected_s >= (_WARM_S if is_warm() else _CACHED_S if _has_cache() else _COLD_S)


def knows(compiled: Compiled, rule: int) -> bool:
    """Whether the compiled rules hold for this map and rule: straw2 buckets only, and no local retries."""
    tunables = compiled.crush.tunables
    steps = compiled.rules[rule].steps if rule in compiled.rules else ()
    settings = ("set_choose_local_tries", "set_choose_local_fallback_tries")
    local = [tunables.choose_local_tries, tunables.choose_local_fallback_tries]
    local += [step.value for step in steps if isinstance(step, Set) and step.what in settings]
    there = compiled.alg[compiled.alg != 0]
    known = rule in compiled.rules and not any(isinstance(step, Unsupported) for step in steps)
    return known and bool((there == ALGORITHMS["straw2"]).all()) and max(local) <= 0


def map_traced(
    compiled: Compiled,
    rule: int,
    xs: NDArray[np.integer],
    num_rep: int,
    weights: NDArray[np.uint32],
    choose_args: str | None = None,
) -> Traced:
    """Map inputs with numba and keep every draw and every reweight that was looked at.

    Raises: ModuleNotFoundError if numba is not installed.
    """
    depth = len(np.unique(compiled.type_id[compiled.alg != 0]))
    capacity = max(1024, len(xs) * (num_rep + 1) * (depth + 1))
    mapped, notes, used = _run(compiled, rule, xs, num_rep, weights, choose_args, capacity=capacity)
    if used > capacity:
        mapped, notes, _ = _run(compiled, rule, xs, num_rep, weights, choose_args, capacity=used)
    notes = notes[:used]
    tests = notes[:, 1] == kernel().TEST
    return Traced(mapped=mapped, draws=notes[~tests], tests=notes[tests][:, [0, 3]])


def kernel() -> ModuleType:
    """Load the machine code. Raises: ModuleNotFoundError without numba."""
    return importlib.import_module(_KERNEL)


def is_warm() -> bool:
    """Whether the machine code is loaded, so that it costs nothing to use."""
    loaded = sys.modules.get(_KERNEL)
    return loaded is not None and bool(loaded.map_all.signatures)


def _has_cache() -> bool:
    """Whether numba has kept the machine code of this very source (its index is never older than the source)."""
    source = Path(__file__).with_name("kernel.py")
    kept = source.parent.joinpath("__pycache__").glob("kernel.map_all-*.nbi")
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in kept)


def _items_on_the_way(compiled: Compiled) -> float:
    """Items that are drawn from on one way down: the mean size of the buckets of each type, summed."""
    there = compiled.alg != 0
    types = compiled.type_id[there]
    sizes = compiled.size[there]
    return float(sum(sizes[types == one].mean() for one in np.unique(types)))


def _run(
    compiled: Compiled,
    rule: int,
    xs: NDArray[np.integer],
    num_rep: int,
    weights: NDArray[np.uint32],
    choose_args: str | None,
    *,
    capacity: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Map, and note what was looked at in ``capacity`` rows (0: nothing); also how many rows that would take."""
    code = kernel()
    buckets, names, weighed = _tables(code, compiled, choose_args)
    quotients = np.zeros(max(int(buckets[:, code.COUNT].max(initial=0)), _LANES))
    notes, used = np.zeros((capacity, _NOTES_EACH), np.int32), np.zeros(1, np.int64)
    desk = code.Desk(
        buckets=buckets,
        names=names,
        weights=weighed,
        logs=logs(),
        reweights=np.asarray(weights).astype(np.int64),
        devices=compiled.device_count,
        hashes=np.zeros(len(quotients), np.uint32),
        quotients=quotients,
        keys=quotients.view(np.int64),
        room=np.zeros((3, num_rep + 1), np.int32),
        notes=notes,
        used=used,
    )
    mapped = np.full((len(xs), num_rep), NONE, np.int32)
    steps = _steps(code, compiled.rules[rule], compiled.crush.tunables, num_rep)
    code.map_all(desk, steps, np.asarray(xs).astype(np.int64).astype(np.uint32), mapped)
    return mapped, notes, int(used[0])


@functools.cache
def logs() -> NDArray[np.float64]:
    """Make ``2^48 - crush_ln(u)`` for each 16-bit u; 0.5 instead of 0, so that by a weight of 0 all become infinite."""
    return np.maximum(negative_logs(), 0.5)


def _tables(
    code: ModuleType, compiled: Compiled, choose_args: str | None
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Lay a map out for the kernel: each bucket's items padded to whole lanes with items of no weight."""
    size = compiled.size
    count = -(-size // _LANES) * _LANES
    start = np.cumsum(count) - count
    bucket = np.repeat(np.arange(len(size)), size)
    within = np.arange(len(bucket)) - np.repeat(np.cumsum(size) - size, size)
    source, target = compiled.offset[bucket] + within, start[bucket] + within
    drawn = compiled.drawn[choose_args] if choose_args is not None else None
    ids, rows = (drawn.ids, drawn.weights) if drawn else (compiled.items, compiled.weights[None, :])
    total = int(count.sum())
    names, weighed = np.zeros((2, total), np.int32), np.zeros((len(rows), total))
    names[code.ITEM, target], names[code.HASHED, target] = compiled.items[source], ids[source]
    weighed[:, target] = rows[:, source]
    buckets = np.stack([start, count, size, compiled.type_id.astype(np.int64)], axis=1)
    return buckets, names, weighed


def _steps(code: ModuleType, rule: Rule, tunables: Tunables, num_rep: int) -> NDArray[np.int64]:
    """Write a rule down as numbers, with the tunables that hold at each step."""
    tries, leaf_tries = tunables.choose_total_tries + 1, 0
    vary_r, stable = tunables.chooseleaf_vary_r, tunables.chooseleaf_stable
    rows = []
    for step in rule.steps:
        match step:
            case Take():
                rows.append((code.TAKE, step.item, 0, 0, 0, 0, 0, 0, 0))
            case Emit():
                rows.append((code.EMIT, 0, 0, 0, 0, 0, 0, 0, 0))
            case Set():
                tries = step.value if step.what == "set_choose_tries" and step.value > 0 else tries
                leaf_tries = step.value if step.what == "set_chooseleaf_tries" and step.value > 0 else leaf_tries
                vary_r = step.value if step.what == "set_chooseleaf_vary_r" and step.value >= 0 else vary_r
                stable = step.value if step.what == "set_chooseleaf_stable" and step.value >= 0 else stable
            case Choose():
                firstn = step.how.endswith("firstn")
                once = 1 if tunables.chooseleaf_descend_once or not firstn else tries
                number = step.num if step.num > 0 else step.num + num_rep
                leaf = int(step.how.startswith("chooseleaf"))
                kind = code.FIRSTN if firstn else code.INDEP
                rows.append((kind, 0, number, step.type_id, leaf, tries, leaf_tries or once, vary_r, stable))
            case Unsupported():
                raise InputError([f"rule {rule.id} ({rule.name}): {step.operation}: MSR rules cannot be mapped"])
    return np.array(rows, np.int64).reshape(len(rows), 9)
