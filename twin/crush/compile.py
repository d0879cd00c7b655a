"""A CRUSH map as flat arrays, ready to be drawn from: what each bucket algorithm needs, made once for many inputs."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.errors import InputError
from twin.crush.map import Algorithm, Bucket, CrushMap, Rule
from twin.crush.sound import unsound
from twin.crush.straws import straw_lengths, tree_weights

ALGORITHMS: dict[Algorithm, int] = {"uniform": 1, "list": 2, "tree": 3, "straw": 4, "straw2": 5}
"""Ceph's numbers of the bucket algorithms (`CRUSH_BUCKET_*`)."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is hashed and weighed instead of the map's own: one set of choose_args, as flat as `Compiled.items`.

    ``ids``: int32, shape (items,). ``weights``: int64, shape (positions, items), 16.16; a position beyond the last
    row uses the last. Only straw2 buckets look at either.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A map in flat arrays. Bucket ``id`` (< 0) is at index ``-1 - id``; its items are ``offset : offset + size``.

    Per bucket, shape (buckets,): ``alg`` uint8 (`ALGORITHMS`; 0: no such bucket), ``type_id`` int32, ``offset``
    int64, ``size`` int64, ``node_offset`` and ``node_count`` int64 (tree buckets: their nodes in ``nodes``, else 0).

    Per item, shape (items,): ``items`` int32 (device id, or bucket id < 0), ``weights`` int64 (16.16; 0 never wins),
    ``sums`` int64 (list buckets: the weight of this item and all before it), ``straws`` int64 (straw buckets: the
    straw lengths, 16.16).

    ``nodes`` int64: node weights of all tree buckets. ``device_count``: the highest device id in a bucket and one
    (`max_devices`). ``ids``: id by name, devices and buckets. ``rules``: by rule id. ``drawn``: choose_args by name.
    ``groups``: a cache of the mapper's own tables by (choose_args name, position); not for others.
    """

    crush: CrushMap
    device_count: int
    alg: NDArray[np.uint8]
    type_id: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    node_offset: NDArray[np.int64]
    node_count: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.int64]
    sums: NDArray[np.int64]
    straws: NDArray[np.int64]
    nodes: NDArray[np.int64]
    ids: dict[str, int]
    rules: dict[int, Rule]
    drawn: dict[str, Drawn]
    groups: dict[tuple[str | None, int], object] = field(default_factory=dict, compare=False, repr=False)


def compile_map(crush: CrushMap) -> Compiled:
    """Lay a map out in flat arrays, with the straw lengths and tree weights that follow from its weights.

    Raises: `InputError` if an item does not exist, a bucket contains itself, or a bucket is too large.
    """
    problems = unsound(crush)
    if problems:
        raise InputError(problems)
    count = max((-bucket.id for bucket in crush.buckets), default=0)
    shape = {name: np.zeros(count, np.int64) for name in ("offset", "size", "node_offset", "node_count")}
    alg, type_id = np.zeros(count, np.uint8), np.zeros(count, np.int32)
    items: list[int] = []
    weights: list[int] = []
    straws: list[int] = []
    nodes: list[int] = []
    sums: list[int] = []
    for bucket in crush.buckets:
        at = -1 - bucket.id
        alg[at], type_id[at] = ALGORITHMS[bucket.alg], bucket.type_id
        shape["offset"][at], shape["size"][at] = len(items), len(bucket.items)
        items.extend(bucket.items)
        weights.extend(bucket.weights)
        sums.extend(np.cumsum(np.array(bucket.weights, np.int64)).tolist())
        straws.extend(_straws(bucket, crush.tunables.straw_calc_version))
        if bucket.alg == "tree":
            made = tree_weights(bucket.weights)
            shape["node_offset"][at], shape["node_count"][at] = len(nodes), len(made)
            nodes.extend(made)
    names = {device.name: device.id for device in crush.devices} | {bucket.name: bucket.id for bucket in crush.buckets}
    return Compiled(
        crush=crush,
        device_count=max(max(items, default=-1), -1) + 1,
        alg=alg,
        type_id=type_id,
        offset=shape["offset"],
        size=shape["size"],
        node_offset=shape["node_offset"],
        node_count=shape["node_count"],
        items=np.array(items, np.int32),
        weights=np.array(weights, np.int64),
        sums=np.array(sums, np.int64),
        straws=np.array(straws, np.int64),
        nodes=np.array(nodes, np.int64),
        ids=names,
        rules={rule.id: rule for rule in crush.rules},
        drawn=_drawn(crush, shape["offset"], np.array(items, np.int32), np.array(weights, np.int64)),
    )


def _straws(bucket: Bucket, version: int) -> list[int]:
    if bucket.alg != "straw":
        return [0] * len(bucket.items)
    return list(bucket.straws) if bucket.straws else straw_lengths(bucket.weights, version)


def _drawn(
    crush: CrushMap, offset: NDArray[np.int64], items: NDArray[np.int32], weights: NDArray[np.int64]
) -> dict[str, Drawn]:
    """Spread each set of choose_args over all items; where it says nothing, the map's own ids and weights hold."""
    drawn = {}
    for name, arguments in crush.choose_args.items():
        positions = max((len(argument.weight_sets) for argument in arguments), default=0)
        ids, rows = items.copy(), np.tile(weights, (max(positions, 1), 1))
        for argument in arguments:
            start = int(offset[-1 - argument.bucket])
            if argument.ids:
                ids[start : start + len(argument.ids)] = argument.ids
            for position in range(positions if argument.weight_sets else 0):
                row = argument.weight_sets[min(position, len(argument.weight_sets) - 1)]
                rows[position, start : start + len(row)] = row
        drawn[name] = Drawn(ids=ids, weights=rows)
    return drawn
