"""What `crushtool --test` prints, line for line, from a map and the options of a run."""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import Compiled
from twin.crush.draw import Indices, Items
from twin.crush.hashing import hash2
from twin.crush.map import NONE, Rule
from twin.crush.mapping import map_counted

ROWS = 1 << 15
"""How many inputs are mapped and printed together."""
X_MAX = (1 << 31) - 1


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which inputs to map, and what to print. ``replicas``: from and to, or None for each rule's own sizes.

    ``weights``: reweights by device, 1.0 at most. ``pool``: hash each input with this pool id first.
    """

    rules: tuple[int, ...]
    x_min: int = 0
    x_max: int = 1023
    replicas: tuple[int, int] | None = None
    weights: Mapping[int, float] = {}
    choose_args: str | None = None
    pool: int | None = None
    mappings: bool = True
    bad: bool = False
    statistics: bool = False


def reweights(compiled: Compiled, weights: Mapping[int, float]) -> NDArray[np.uint32]:
    """Make the devices' reweights, 16.16: as given, else 1.0 for a device in a bucket, 0 for one in none.

    Given weights are rounded to float32 and cut off at 16 bits after the point, from 0 to 1, as crushtool does.
    """
    made = np.zeros(compiled.device_count, np.uint32)
    made[compiled.items[compiled.items >= 0]] = 0x10000
    for device, weight in weights.items():
        if 0 <= device < len(made):
            made[device] = min(max(int(np.float32(weight) * np.float32(0x10000)), 0), 0x10000)
    return made


def default_choose_args(compiled: Compiled) -> str | None:
    """Name the choose_args that crushtool tests with: those of pool 0, else the default ("-1"), else none."""
    return next((name for name in ("0", "-1") if name in compiled.drawn), None)


def printed_lines(compiled: Compiled, wanted: Wanted) -> Iterator[str]:
    """Yield what `crushtool --test` prints, as blocks of whole lines.

    Source: `CrushTester::test` of Ceph 16.2 (output format).
    """
    weights = reweights(compiled, wanted.weights)
    for number in wanted.rules:
        rule = compiled.rules[number]
        least, most = wanted.replicas or (rule.size_min, rule.size_max)
        if wanted.statistics:
            span = f"x = {wanted.x_min}..{wanted.x_max}, numrep = {least}..{most}"
            yield f"rule {rule.id} ({rule.name}), {span}\n"
        for replicas in range(least, most + 1):
            if int(weights.astype(np.int64).sum()) & 0xFFFFFFFF:  # crushtool sums in 32 bits, and skips if 0
                yield from _lines(compiled, wanted, rule, replicas, weights)


def _lines(compiled: Compiled, wanted: Wanted, rule: Rule, replicas: int, weights: NDArray[np.uint32]) -> Iterator[str]:
    sizes = np.zeros(replicas + 1, np.int64)
    for start in range(wanted.x_min, wanted.x_max + 1, ROWS):
        xs = np.arange(start, min(start + ROWS, wanted.x_max + 1), dtype=np.int64)
        inputs = xs if wanted.pool is None else hash2(xs, wanted.pool)
        mapped, lengths = map_counted(compiled, rule.id, inputs, replicas, weights, wanted.choose_args)
        sizes += np.bincount(lengths, minlength=replicas + 1)
        yield _block(wanted, rule.id, replicas, xs, mapped, lengths)
    if wanted.statistics:
        count = wanted.x_max - wanted.x_min + 1
        for size in np.flatnonzero(sizes).tolist():
            yield f"rule {rule.id} ({rule.name}) num_rep {replicas} result size == {size}:\t{sizes[size]}/{count}\n"


def _block(wanted: Wanted, rule: int, replicas: int, xs: Indices, mapped: Items, lengths: Indices) -> str:
    """One line for each input; all of one form if all results are as long as wanted."""
    whole = bool((lengths == replicas).all())
    if whole and wanted.mappings and (not wanted.bad or not (mapped == NONE).any()):
        form = f"CRUSH rule {rule} x %d [{','.join(['%d'] * replicas)}]\n"
        return (form * len(xs)) % tuple(np.column_stack((xs, mapped)).ravel().tolist())
    lines = []
    for x, row, length in zip(xs.tolist(), mapped.tolist(), lengths.tolist(), strict=True):
        result = ",".join(map(str, row[:length]))
        if wanted.mappings:
            lines.append(f"CRUSH rule {rule} x {x} [{result}]\n")
        if wanted.bad and (length != replicas or NONE in row):
            lines.append(f"bad mapping rule {rule} x {x} num_rep {replicas} result [{result}]\n")
    return "".join(lines)
