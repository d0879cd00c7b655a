"""CRUSH one input at a time, in plain integers: slow and simple, to compare the fast code with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from twin.crush.compile import compile_map
from twin.crush.logarithm import negative_logs
from twin.crush.map import NONE, Bucket, Choose, CrushMap, Emit, Set, Take, Unsupported
from twin.crush.straws import straw_lengths, tree_weights

WORD = 0xFFFFFFFF
UNDEFINED = NONE - 1
LOGS = [int(log) for log in negative_logs()]
ORDERS = {
    1: ("bx", "ya"),
    2: ("ab", "xa", "by"),
    3: ("ab", "cx", "ya", "bx", "yc"),
    4: ("ab", "cd", "ax", "yb", "cx", "yd"),
    5: ("ab", "cd", "ex", "ya", "bx", "yc", "dx", "ye"),
}


def hashed(*values: int) -> int:
    """Hash one to five values by rjenkins1."""
    words = [value & WORD for value in values]
    at = dict(zip("abcde", words * 2 if len(words) == 1 else words, strict=False)) | {"x": 231232, "y": 1232}
    h = 1315423911
    for value in values:
        h ^= value & WORD
    for one, two in ORDERS[len(values)]:
        at[one], at[two], h = _mixed(at[one], at[two], h)
    return h


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for shift_a, shift_b, shift_c in ((13, 8, 13), (12, 16, 5), (3, 10, 15)):
        a = ((a - b - c) & WORD) ^ (c >> shift_a)
        b = ((b - c - a) & WORD) ^ (a << shift_b & WORD)
        c = ((c - a - b) & WORD) ^ (b >> shift_c)
    return a, b, c


@dataclass
class Tries:
    """What steps can set."""

    choose: int
    leaf: int
    local: int
    fallback: int
    vary_r: int
    stable: int


@dataclass
class Scalar:
    """A map and reweights; ``one`` maps one input."""

    crush: CrushMap
    weights: Sequence[int]
    choose_args: str | None = None
    buckets: dict[int, Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the buckets, after the checks that every map gets."""
        compile_map(self.crush)
        self.buckets = {bucket.id: bucket for bucket in self.crush.buckets}
        chosen = self.crush.choose_args.get(self.choose_args or "", ())
        self.arguments = {one.bucket: one for one in chosen}
        self.devices = max((item for bucket in self.crush.buckets for item in bucket.items), default=-1) + 1

    def one(self, rule: int, x: int, most: int) -> list[int]:
        """Run a rule for one input."""
        tunables = self.crush.tunables
        self.tries = Tries(
            tunables.choose_total_tries + 1,
            0,
            tunables.choose_local_tries,
            tunables.choose_local_fallback_tries,
            tunables.chooseleaf_vary_r,
            tunables.chooseleaf_stable,
        )
        self.x = x & WORD
        work: list[int] = []
        result: list[int] = []
        for step in next(known for known in self.crush.rules if known.id == rule).steps:
            match step:
                case Take():
                    work = [step.item] if step.item in self.buckets or 0 <= step.item < self.devices else work
                case Set():
                    name = step.what.removeprefix("set_").removeprefix("choose_").removeprefix("chooseleaf_")
                    short = {"local_tries": "local", "local_fallback_tries": "fallback", "tries": "choose"}.get(
                        name, name
                    )
                    short = "leaf" if step.what == "set_chooseleaf_tries" else short
                    if step.value >= (1 if short in ("choose", "leaf") else 0):
                        setattr(self.tries, short, step.value)
                case Choose():
                    work = self._chosen(step, work, most)
                case Emit():
                    result += work[: most - len(result)]
                    work = []
                case Unsupported():
                    raise NotImplementedError(step.operation)
        return result

    def _chosen(self, step: Choose, work: list[int], most: int) -> list[int]:
        number = step.num if step.num > 0 else step.num + most
        leaf = step.how.startswith("chooseleaf")
        chosen: list[int] = []
        for item in work if number > 0 else ():
            if item not in self.buckets:
                continue
            if step.how.endswith("firstn"):
                chosen += self._firstn(item, number, step.type_id, leaf, most - len(chosen))
            else:
                left = min(number, most - len(chosen))
                items = [UNDEFINED] * left
                leaves = [UNDEFINED] * left
                self._indep(item, 0, number, step.type_id, items, leaves if leaf else None, self.tries.choose, 0)
                chosen += [NONE if one == UNDEFINED else one for one in (leaves if leaf else items)]
        return chosen

    def _firstn(self, start: int, number: int, type_id: int, leaf: bool, room: int) -> list[int]:
        items: list[int] = []
        leaves: list[int] = []
        for replica in range(number):
            if len(items) >= room:
                break
            found = self._first(start, replica, type_id, items, leaves if leaf else None, self.tries.choose)
            if found is not None:
                items.append(found[0])
                leaves.append(found[1])
        return leaves if leaf else items

    def _first(
        self, start: int, base: int, type_id: int, taken: list[int], leaves: list[int] | None, tries: int
    ) -> tuple[int, int] | None:
        failed = 0
        while True:
            bucket, local, again = self.buckets[start], 0, True
            while again:
                again = False
                collided = refused = False
                r = base + failed
                device = 0
                if not bucket.items:
                    refused = True
                else:
                    last = 0 < self.tries.fallback < local and local >= len(bucket.items) >> 1
                    place = self._permuted(bucket, r) if last else self._place(bucket, r, len(taken))
                    item = device = bucket.items[place]
                    kind = self.buckets[item].type_id if item < 0 else 0
                    if kind != type_id:
                        if item >= 0:
                            return None
                        bucket, again = self.buckets[item], True
                        continue
                    collided = item in taken
                    if not collided and leaves is not None and item < 0:
                        refused, device = self._leaf(item, r, taken, leaves)
                    if not collided and not refused and type_id == 0:
                        refused = self._out(item)
                if not (collided or refused):
                    return item, device
                failed += 1
                local += 1
                every = len(bucket.items) + self.tries.fallback if self.tries.fallback > 0 else 0
                if (collided and local <= self.tries.local) or local <= every:
                    again = True
                elif failed >= tries:
                    return None

    def _leaf(self, item: int, r: int, taken: list[int], leaves: list[int]) -> tuple[bool, int]:
        parent = r >> (self.tries.vary_r - 1) if self.tries.vary_r else 0
        own = 0 if self.tries.stable else len(taken)
        once = self.crush.tunables.chooseleaf_descend_once
        found = self._first(item, own + parent, 0, leaves, None, self.tries.leaf or (1 if once else self.tries.choose))
        return found is None, found[0] if found else 0

    def _indep(
        self,
        start: int,
        first: int,
        number: int,
        type_id: int,
        items: list[int],
        leaves: list[int] | None,
        tries: int,
        parent: int,
    ) -> None:
        """Fill ``items``, whose first is position ``first``, in rounds."""
        for failed in range(tries):
            for place in range(len(items)):
                if items[place] == UNDEFINED:
                    self._round(start, first, place, number, type_id, items, leaves, failed, parent)

    def _round(
        self,
        start: int,
        first: int,
        place: int,
        number: int,
        type_id: int,
        items: list[int],
        leaves: list[int] | None,
        failed: int,
        parent: int,
    ) -> None:
        bucket = self.buckets[start]
        while bucket.items:
            apart = number + 1 if bucket.alg == "uniform" and len(bucket.items) % number == 0 else number
            r = first + place + parent + apart * failed
            item = bucket.items[self._place(bucket, r, first)]
            kind = self.buckets[item].type_id if item < 0 else 0
            if kind != type_id and item < 0:
                bucket = self.buckets[item]
                continue
            if kind != type_id:
                items[place] = NONE
                if leaves is not None:
                    leaves[place] = NONE
                return
            if item in items:
                return
            if leaves is not None:
                below = [item]
                if item < 0:
                    below = [UNDEFINED]
                    self._indep(item, first + place, number, 0, below, None, self.tries.leaf or 1, r)
                leaves[place] = NONE if below[0] == UNDEFINED else below[0]
                if leaves[place] == NONE:
                    return
            if type_id == 0 and self._out(item):
                return
            items[place] = item
            return

    def _out(self, device: int) -> bool:
        weight = self.weights[device] if device < len(self.weights) else 0
        return weight < 0x10000 and (weight == 0 or hashed(self.x, device) & 0xFFFF >= weight)

    def _permuted(self, bucket: Bucket, r: int) -> int:
        order, size = list(range(len(bucket.items))), len(bucket.items)
        for place in range(min(r % size + 1, size - 1)):
            swap = place + hashed(self.x, bucket.id, place) % (size - place)
            order[place], order[swap] = order[swap], order[place]
        return order[r % size]

    def _place(self, bucket: Bucket, r: int, position: int) -> int:
        x, size = self.x, len(bucket.items)
        match bucket.alg:
            case "uniform":
                return self._permuted(bucket, r)
            case "list":
                for place in range(size - 1, -1, -1):
                    drawn = hashed(x, bucket.items[place], r, bucket.id) & 0xFFFF
                    if drawn * sum(bucket.weights[: place + 1]) >> 16 < bucket.weights[place]:
                        return place
                return 0
            case "tree":
                nodes = tree_weights(bucket.weights)
                node = len(nodes) >> 1
                while not node & 1:
                    half = (node & -node) >> 1
                    drawn = hashed(x, node, r, bucket.id) * nodes[node] >> 32
                    node += -half if drawn < nodes[node - half] else half
                return min(node >> 1, size - 1)
            case "straw":
                lengths = bucket.straws or straw_lengths(bucket.weights, self.crush.tunables.straw_calc_version)
                scores = [
                    (hashed(x, item, r) & 0xFFFF) * length for item, length in zip(bucket.items, lengths, strict=True)
                ]
                return scores.index(max(scores))
            case "straw2":
                return self._straw2(bucket, r, position)

    def _straw2(self, bucket: Bucket, r: int, position: int) -> int:
        one = self.arguments.get(bucket.id)
        weights = (
            one.weight_sets[min(position, len(one.weight_sets) - 1)] if one and one.weight_sets else bucket.weights
        )
        ids = one.ids if one and one.ids else bucket.items
        scores = [
            LOGS[hashed(self.x, item, r) & 0xFFFF] // weight if weight else 1 << 60
            for item, weight in zip(ids, weights, strict=True)
        ]
        return scores.index(min(scores))
