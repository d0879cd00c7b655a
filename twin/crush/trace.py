"""What a mapping looked at: every draw and every reweight, kept by bucket and by device for questions afterwards."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.crush.compile import Compiled
from twin.crush.compiled import Prefer, chooses_numba, hash_draws, map_traced
from twin.crush.draw import Space
from twin.crush.lanes import Lanes
from twin.crush.map import NONE
from twin.crush.mapping import LANES, map_lanes

Words = NDArray[np.uint32]
Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All that was looked at while inputs were mapped; about 14 bytes a draw.

    ``mapped``: int32, shape (inputs, replicas). Draws, sorted by bucket: ``bucket_start`` int64, shape (buckets + 1,),
    where those of a bucket index begin; ``drawn_for`` int32 (input), ``drawn_r`` int32, ``winner`` int32 (item id) and
    ``winner_hash`` uint16 (what it drew), shape (draws,). Reweights asked, sorted by device: ``device_start`` int64,
    shape (devices + 1,), and ``tested_for`` int32 (input).

    It may hold more than was needed, and things twice, but nothing that was looked at is missing.
    """

    mapped: Ids
    bucket_start: NDArray[np.int64]
    drawn_for: Ids
    drawn_r: Ids
    winner: Ids
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
        bucket, place = traced.draws[:, 1], traced.draws[:, 3]
        at = np.where(place >= 0, compiled.offset[bucket] + place, 0)
        items = np.where(place >= 0, compiled.items.take(at, mode="clip"), NONE).astype(np.int32)
        held = place >= 0
        inputs, rs = traced.draws[:, 0], traced.draws[:, 2]
        return _sorted(
            compiled, xs, traced.mapped, bucket[held], inputs[held], rs[held], items[held], traced.tests, prefer="numba"
        )
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
    bucket, inputs, rs, items = (_joined(rows) for rows in zip(*watch.draws, strict=True)) if watch.draws else _EMPTY
    tests = np.stack([_joined(rows) for rows in zip(*watch.tests, strict=True)], axis=1) if watch.tests else _NO_TESTS
    return _sorted(compiled, xs, mapped, bucket, inputs, rs, items, tests, prefer="numpy")


_EMPTY = (np.zeros(0, np.int32),) * 4
_NO_TESTS = np.zeros((0, 2), np.int32)


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


def _joined(rows: tuple[Ids, ...]) -> Ids:
    return np.concatenate(rows)


def _sorted(
    compiled: Compiled,
    xs: Words,
    mapped: Ids,
    bucket: Ids,
    inputs: Ids,
    rs: Ids,
    items: Ids,
    tests: Ids,
    prefer: Prefer,
) -> Trace:
    order = np.argsort(bucket, kind="stable")
    counts = np.bincount(bucket, minlength=len(compiled.alg))
    inputs, rs, items = inputs[order], rs[order], items[order]
    devices = tests[:, 1]
    tested = np.bincount(devices, minlength=compiled.device_count) if len(devices) else np.zeros(0, np.int64)
    return Trace(
        mapped=mapped,
        bucket_start=np.concatenate([[0], np.cumsum(counts)]),
        drawn_for=inputs,
        drawn_r=rs,
        winner=items,
        winner_hash=hash_draws(xs[inputs], items.astype(np.uint32), rs.astype(np.uint32), prefer),
        device_start=np.concatenate([[0], np.cumsum(tested)]),
        tested_for=tests[np.argsort(devices, kind="stable"), 0],
    )
