"""What a mapping looked at: every draw and every reweight, kept by bucket and by device for questions afterwards."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import Compiled
from twin.crush.compiled import Prefer, chooses_numba, map_traced
from twin.crush.draw import Space
from twin.crush.lanes import Lanes
from twin.crush.map import NONE
from twin.crush.mapping import LANES, map_lanes
from twin.crush.rivals import hash_draws

Words = NDArray[np.uint32]
Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All that was looked at while inputs were mapped; 12 bytes a draw.

    ``mapped``: int32, shape (inputs, replicas). Draws, sorted by bucket: ``bucket_start`` int64, shape (buckets + 1,),
    where those of a bucket index begin; ``drawn_for`` int32 (input), ``drawn_r`` uint32, ``winner`` uint16 (its place
    in the bucket) and ``winner_hash`` uint16 (what it drew), shape (draws,). Reweights asked, sorted by device:
    ``device_start`` int64, shape (devices + 1,), and ``tested_for`` int32 (input).

    It may hold more than was needed, and things twice, but nothing that was looked at is missing.
    """

    mapped: Ids
    bucket_start: NDArray[np.int64]
    drawn_for: Ids
    drawn_r: Words
    winner: NDArray[np.uint16]
    winner_hash: NDArray[np.uint16]
    device_start: NDArray[np.int64]
    tested_for: Ids

    def draws(self, bucket: int) -> slice:
        """Return where the draws from a bucket are, by its id."""
        at = -1 - bucket
        return slice(*self.bucket_start[at : at + 2].tolist()) if at + 1 < len(self.bucket_start) else slice(0, 0)

    def tests(self, device: int) -> Ids:
        """Return the inputs that asked for a device's reweight: int32."""
        if device + 1 >= len(self.device_start):
            return self.tested_for[:0]
        return self.tested_for[self.device_start[device] : self.device_start[device + 1]]


def trace_inputs(
    compiled: Compiled,
    rule: int,
    xs: Words,
    num_rep: int,
    weights: Words,
    choose_args: str | None = None,
    prefer: Prefer = "auto",
) -> Trace:
    """Map inputs as ``map_inputs`` does and keep what was looked at.

    Raises: InputError if the rule or the choose_args do not exist.
    """
    if chooses_numba(compiled, rule, len(xs), num_rep, prefer):
        traced = map_traced(compiled, rule, xs, num_rep, weights, choose_args)
        draws = traced.draws[traced.draws[:, 3] >= 0]
        notes = _Notes(bucket=draws[:, 1], inputs=draws[:, 0], rs=draws[:, 2], places=draws[:, 3], tests=traced.tests)
        return _sorted(compiled, xs, traced.mapped, notes, "numba")
    watch = _Watch()
    mapped = np.full((len(xs), num_rep), NONE, np.int32)
    space, reweights = Space(), weights.astype(np.int64)
    for start in range(0, len(xs), LANES):
        part = slice(start, start + LANES)
        watch.start = start
        lanes = Lanes(
            compiled=compiled, x=xs[part], weights=reweights, choose_args=choose_args, space=space, watch=watch
        )
        map_lanes(lanes, rule, num_rep, mapped[part], np.zeros(len(xs[part]), np.int64))
    return _sorted(compiled, xs, mapped, watch.notes(compiled), "numpy")


class _Notes(NamedTuple):
    """Draws as four int32 columns, and tests, int32, shape (tests, 2): input, device."""

    bucket: Ids
    inputs: Ids
    rs: Ids
    places: Ids
    tests: Ids


class _Watch:
    """Keeps what the NumPy mapper looks at; ``start``: the input of the first lane."""

    def __init__(self) -> None:
        self.start = 0
        self.draws: list[tuple[Ids, Ids, Ids, Ids]] = []
        self.tests: list[tuple[Ids, Ids]] = []

    def drew(
        self, bucket: NDArray[np.int64], lane: NDArray[np.int64], r: NDArray[np.int64], items: NDArray[np.int32]
    ) -> None:
        """Keep draws."""
        inputs = (lane + self.start).astype(np.int32)
        self.draws.append((bucket.astype(np.int32), inputs, r.astype(np.int32), items.copy()))

    def tested(self, items: NDArray[np.int32], lane: NDArray[np.int64]) -> None:
        """Keep devices whose reweight was asked."""
        self.tests.append(((lane + self.start).astype(np.int32), items.copy()))

    def notes(self, compiled: Compiled) -> _Notes:
        """Put all together; winners by their places, the first one of an item that is in its bucket twice."""
        none: list[Ids] = [np.zeros(0, np.int32)]
        columns = [list(column) for column in zip(*self.draws, strict=True)] or [none] * 4
        bucket, inputs, rs, items = (np.concatenate(column) for column in columns)
        tests = [np.concatenate(column) for column in zip(*self.tests, strict=True)] or none * 2
        return _Notes(bucket, inputs, rs, _places(compiled, bucket, items), np.stack(tests, axis=1))


def _places(compiled: Compiled, bucket: Ids, items: Ids) -> Ids:
    """Where each item is in its bucket: found by one sorted list of all (bucket, item) pairs."""
    owners = np.repeat(np.arange(len(compiled.size)), compiled.size)
    at = np.arange(len(owners)) - np.repeat(np.cumsum(compiled.size) - compiled.size, compiled.size)
    keys = _key(owners, compiled.items[compiled.offset[owners] + at])
    order = np.argsort(keys, kind="stable")
    found: Ids = at[order[np.searchsorted(keys[order], _key(bucket, items))]].astype(np.int32)
    return found


def _key(bucket: NDArray[np.integer], items: Ids) -> NDArray[np.int64]:
    return (bucket.astype(np.int64) << 33) + items


def _sorted(compiled: Compiled, xs: Words, mapped: Ids, notes: _Notes, prefer: Prefer) -> Trace:
    order = np.argsort(notes.bucket, kind="stable")
    counts = np.bincount(notes.bucket, minlength=len(compiled.alg))
    bucket, inputs, places = notes.bucket[order], notes.inputs[order], notes.places[order]
    rs = notes.rs[order].astype(np.uint32)
    items = compiled.items.take(compiled.offset[bucket] + places).astype(np.uint32)
    devices = notes.tests[:, 1]
    tested = np.bincount(devices, minlength=compiled.device_count)
    return Trace(
        mapped=mapped,
        bucket_start=np.concatenate([[0], np.cumsum(counts)]),
        drawn_for=inputs,
        drawn_r=rs,
        winner=places.astype(np.uint16),
        winner_hash=hash_draws(xs[inputs], items, rs, prefer),
        device_start=np.concatenate([[0], np.cumsum(tested)]),
        tested_for=notes.tests[np.argsort(devices, kind="stable"), 0],
    )
