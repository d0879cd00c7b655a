"""Whether a CRUSH map can be used: what no file may say, however it was written."""

from collections.abc import Iterator

from twin.crush.map import Bucket, Choose, CrushMap, Emit, Rule, Set, Take, Unsupported

ITEMS_MAX = 0xFFFF
"""The largest bucket that can be mapped."""
TREE_MAX = 64
"""The largest tree bucket: Ceph counts its nodes, a power of two of at least twice as many, in 8 bits."""
ID_MAX = 1 << 20
"""The highest device id, and the lowest bucket id below 0: arrays are as long."""
TYPE_MAX = 0xFFFF
WEIGHT_MAX = 0xFFFFFFFF
NUMBER_MAX = 1000
"""How many items a step may ask for, and how many replicas a rule may be for."""
TRIES_MAX = 100_000
SHIFT_MAX = 31


def unsound(crush: CrushMap) -> list[str]:
    """List what makes a map impossible to use, in its own order; nothing if it is sound."""
    return [*_bounds(crush), *_links(crush)] or _cycles(crush)


def _within(value: int, low: int, high: int, what: str) -> Iterator[str]:
    if not low <= value <= high:
        yield f"{what} {value}; allowed: from {low} to {high}"


def _bounds(crush: CrushMap) -> Iterator[str]:
    for device in crush.devices:
        yield from _within(device.id, 0, ID_MAX, f"device {device.name}: id")
    for number, name in crush.types.items():
        yield from _within(number, 0, TYPE_MAX, f"type {name}: type_id")
    for bucket in crush.buckets:
        yield from _bucket(bucket)
    for rule in crush.rules:
        yield from _rule(rule)
    tunables = crush.tunables
    for name in ("choose_local_tries", "choose_local_fallback_tries", "choose_total_tries"):
        yield from _within(getattr(tunables, name), 0, TRIES_MAX, f"tunable {name}")
    yield from _within(tunables.chooseleaf_vary_r, 0, SHIFT_MAX, "tunable chooseleaf_vary_r")
    for name, arguments in crush.choose_args.items():
        for argument in arguments:
            for weight in (weight for weights in argument.weight_sets for weight in weights):
                yield from _within(weight, 0, WEIGHT_MAX, f"choose_args {name}: bucket {argument.bucket}: weight")
            for one in argument.ids:
                yield from _within(one, -(1 << 31), (1 << 31) - 1, f"choose_args {name}: bucket {argument.bucket}: id")


def _bucket(bucket: Bucket) -> Iterator[str]:
    what = f"bucket {bucket.name}"
    yield from _within(bucket.id, -ID_MAX, -1, f"{what}: id")
    yield from _within(bucket.type_id, 0, TYPE_MAX, f"{what}: type_id")
    most = TREE_MAX if bucket.alg == "tree" else ITEMS_MAX
    yield from _within(len(bucket.items), 0, most, f"{what}: a {bucket.alg} bucket, items:")
    if len(bucket.items) != len(bucket.weights):
        yield f"{what}: {len(bucket.items)} items but {len(bucket.weights)} weights"
    for item in bucket.items:
        yield from _within(item, -ID_MAX, ID_MAX, f"{what}: item")
    for weight in (*bucket.weights, *bucket.straws):
        yield from _within(weight, 0, WEIGHT_MAX, f"{what}: weight")


def _rule(rule: Rule) -> Iterator[str]:
    what = f"rule {rule.name}"
    yield from _within(rule.id, 0, TYPE_MAX, f"{what}: rule_id")
    yield from _within(rule.size_min, 0, NUMBER_MAX, f"{what}: min_size")
    yield from _within(rule.size_max, 0, NUMBER_MAX, f"{what}: max_size")
    for step in rule.steps:
        match step:
            case Choose():
                yield from _within(step.num, -NUMBER_MAX, NUMBER_MAX, f"{what}: step {step.how}: num")
                yield from _within(step.type_id, 0, TYPE_MAX, f"{what}: step {step.how}: type")
            case Set():
                most = SHIFT_MAX if step.what == "set_chooseleaf_vary_r" else TRIES_MAX
                yield from _within(step.value, -TRIES_MAX, most, f"{what}: step {step.what}")
            case Take() | Emit() | Unsupported():
                pass


def _links(crush: CrushMap) -> Iterator[str]:
    sizes = {bucket.id: len(bucket.items) for bucket in crush.buckets}
    if len(sizes) != len(crush.buckets):
        yield "buckets: an id is used twice; allowed: one bucket for each id"
    for bucket in crush.buckets:
        for item in bucket.items:
            if item < 0 and item not in sizes:
                yield f"bucket {bucket.name}: item {item} is no bucket of the map"
    for name, arguments in crush.choose_args.items():
        for argument in arguments:
            rows = (*argument.weight_sets, argument.ids) if argument.ids else argument.weight_sets
            if argument.bucket not in sizes or any(len(row) != sizes[argument.bucket] for row in rows):
                yield f"choose_args {name}: bucket {argument.bucket}: not one value for each of its items"


def _cycles(crush: CrushMap) -> list[str]:
    """Name a bucket that contains itself, by taking away buckets all of whose inner buckets are gone."""
    inner = {bucket.id: {item for item in bucket.items if item < 0} for bucket in crush.buckets}
    while inner:
        leaves = [bucket for bucket, below in inner.items() if not any(item in inner for item in below)]
        if not leaves:
            name = next(bucket.name for bucket in crush.buckets if bucket.id in inner)
            return [f"bucket {name}: contains itself, or a bucket that does; allowed: a tree"]
        for leaf in leaves:
            del inner[leaf]
    return []
