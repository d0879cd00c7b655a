"""Compiled CRUSH maps, as `ceph osd getcrushmap` and `crushtool -c` write them."""

import struct
from collections.abc import Callable
from typing import NoReturn, TypeVar

from core.errors import InputError
from twin.crush.map import (
    Algorithm,
    Bucket,
    Choice,
    Choose,
    ChooseArgs,
    CrushMap,
    Device,
    Emit,
    Rule,
    Set,
    Setting,
    Step,
    Take,
    Tunables,
    Unsupported,
)
from twin.crush.straws import tree_weights

MAGIC = struct.pack("<I", 0x00010000)
"""How every compiled map begins (`CRUSH_MAGIC`)."""
ALGORITHMS: dict[int, Algorithm] = {1: "uniform", 2: "list", 3: "tree", 4: "straw", 5: "straw2"}
CHOICES: dict[int, Choice] = {2: "choose_firstn", 3: "choose_indep", 6: "chooseleaf_firstn", 7: "chooseleaf_indep"}
SETTINGS: dict[int, Setting] = {
    8: "set_choose_tries",
    9: "set_chooseleaf_tries",
    10: "set_choose_local_tries",
    11: "set_choose_local_fallback_tries",
    12: "set_chooseleaf_vary_r",
    13: "set_chooseleaf_stable",
}
NOOP, TAKE, EMIT = 0, 1, 4
COUNT_MAX = 1 << 24
"""No count in a map is larger: a file that says so is not a map."""
T = TypeVar("T")


class _Cursor:
    """A place in the bytes of a file; reading beyond the end is an error that says where and what."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where, self.at = content, where, 0

    def number(self, form: str, what: str) -> int:
        """One number in little-endian: `I` uint32, `i` int32, `H` uint16, `B` uint8, `q` int64."""
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.content):
            self.wrong(what, "the file ends here; allowed: a whole compiled map (truncated?)")
        value: int = struct.unpack_from("<" + form, self.content, self.at)[0]
        self.at += size
        return value

    def numbers(self, form: str, count: int, what: str) -> tuple[int, ...]:
        """Several numbers of one form."""
        size = struct.calcsize("<" + form) * count
        if self.at + size > len(self.content):
            self.wrong(what, f"{count} values do not fit into the rest of the file (truncated?)")
        values = struct.unpack_from(f"<{count}{form}", self.content, self.at)
        self.at += size
        return values

    def count(self, what: str) -> int:
        """How many of something follow."""
        value = self.number("I", what)
        if value > COUNT_MAX:
            self.wrong(what, f"{value} of them; allowed: up to {COUNT_MAX}")
        return value

    def text(self, what: str) -> str:
        """A name: its length, and that many bytes. Old maps have the upper half of a 64-bit key (0) before it."""
        length = self.count(what) or self.count(what)
        if self.at + length > len(self.content):
            self.wrong(what, f"a name of {length} bytes does not fit into the rest of the file (truncated?)")
        raw = self.content[self.at : self.at + length]
        self.at += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.wrong(what, f"{raw[:20]!r} is no name")

    def mapping(self, what: str, value: Callable[[], T]) -> dict[int, T]:
        """A table by int32."""
        made = {}
        for _ in range(self.count(what)):
            key = self.number("i", what)
            made[key] = value()
        return made

    def more(self) -> bool:
        """Whether anything follows: newer parts are at the end, and older maps lack them."""
        return self.at < len(self.content)

    def wrong(self, what: str, why: str) -> NoReturn:
        raise InputError([f"{self.where}: {what}, byte {self.at}: {why}"])


def crush_from_binary(content: bytes, where: str) -> tuple[CrushMap, tuple[str, ...]]:
    """Decode a compiled map; ``where`` names the file in errors. Also returns warnings.

    Raises: `InputError` naming field and byte if it is cut short, or no compiled map.
    Source: `CrushWrapper::decode` of Ceph 16.2 (format).
    """
    cursor = _Cursor(content, where)
    if cursor.number("I", "magic") != 0x00010000:
        raise InputError([f"{where}: does not begin with 00 00 01 00; allowed: a compiled CRUSH map"])
    bucket_count, rule_count, device_count = (cursor.count(f"max_{what}") for what in ("buckets", "rules", "devices"))
    warnings: list[str] = []
    raw = [_bucket(cursor, -1 - index, warnings) for index in range(bucket_count)]
    rules = [_rule(cursor, index) for index in range(rule_count)]
    types = cursor.mapping("type names", lambda: cursor.text("type name"))
    names = cursor.mapping("names", lambda: cursor.text("name"))
    rule_names = cursor.mapping("rule names", lambda: cursor.text("rule name"))
    tunables = _tunables(cursor)
    classes: dict[int, int] = {}
    class_names: dict[int, str] = {}
    if cursor.more():
        classes = cursor.mapping("classes", lambda: cursor.number("i", "class"))
        class_names = cursor.mapping("class names", lambda: cursor.text("class name"))
        cursor.mapping("shadow buckets", lambda: cursor.mapping("shadow", lambda: cursor.number("i", "shadow id")))
    choose_args = _choose_args(cursor, bucket_count) if cursor.more() else {}
    devices = tuple(
        Device(
            id=item_id,
            name=names.get(item_id, f"device{item_id}"),
            device_class=class_names.get(classes.get(item_id, -1), ""),
        )
        for item_id in range(device_count)
    )
    crush = CrushMap(
        devices=devices,
        types=types if 0 in types else {0: "osd", **types},
        buckets=tuple(_named(bucket, names) for bucket in raw if bucket is not None),
        rules=tuple(
            Rule(
                id=rule.id,
                name=rule_names.get(rule.id, f"rule{rule.id}"),
                type_id=rule.type_id,
                steps=rule.steps,
                size_min=rule.size_min,
                size_max=rule.size_max,
            )
            for rule in rules
            if rule is not None
        ),
        tunables=tunables,
        choose_args=choose_args,
    )
    return crush, tuple(warnings)


def _named(bucket: Bucket, names: dict[int, str]) -> Bucket:
    return Bucket(
        id=bucket.id,
        name=names.get(bucket.id, f"bucket{-1 - bucket.id}"),
        type_id=bucket.type_id,
        alg=bucket.alg,
        items=bucket.items,
        weights=bucket.weights,
        straws=bucket.straws,
    )


def _bucket(cursor: _Cursor, expected: int, warnings: list[str]) -> Bucket | None:
    what = f"bucket {expected}"
    number = cursor.number("I", what)
    if not number:
        return None
    if number not in ALGORITHMS:
        cursor.wrong(what, f"algorithm {number}; allowed: 1 (uniform) to 5 (straw2)")
    alg = ALGORITHMS[number]
    item_id, type_id = cursor.number("i", what), cursor.number("H", what)
    again, hashing = cursor.number("B", what), cursor.number("B", what)
    cursor.number("I", what)
    if item_id != expected or again != number or hashing:
        cursor.wrong(
            what, f"id {item_id}, algorithm {again}, hash {hashing}; allowed: id {expected}, {number}, 0 (rjenkins1)"
        )
    size = cursor.count(what)
    items = cursor.numbers("i", size, what)
    weights: tuple[int, ...]
    straws: tuple[int, ...] = ()
    match alg:
        case "uniform":
            weights = (cursor.number("I", what),) * size
        case "list":
            weights = cursor.numbers("I", 2 * size, what)[::2]
        case "tree":
            nodes = cursor.numbers("I", cursor.number("B", what), what)
            weights = nodes[1 : 2 * size : 2]
            if list(nodes[1:]) != tree_weights(weights)[1:]:
                warnings.append(
                    f"{cursor.where}: {what}: node weights are not the sums of the items'; the sums are used"
                )
        case "straw":
            both = cursor.numbers("I", 2 * size, what)
            weights, straws = both[::2], both[1::2]
        case "straw2":
            weights = cursor.numbers("I", size, what)
    return Bucket(id=item_id, name="", type_id=type_id, alg=alg, items=items, weights=weights, straws=straws)


def _rule(cursor: _Cursor, rule_id: int) -> Rule | None:
    what = f"rule {rule_id}"
    if not cursor.number("I", what):
        return None
    length = cursor.count(what)
    _, type_id, size_min, size_max = cursor.numbers("B", 4, what)
    steps = []
    for place in range(length):
        operation = cursor.number("I", f"{what}, step {place}")
        one, two = cursor.numbers("i", 2, f"{what}, step {place}")
        step = _step(operation, one, two)
        steps.extend([step] if step is not None else [])
    return Rule(id=rule_id, name="", type_id=type_id, steps=tuple(steps), size_min=size_min, size_max=size_max)


def _step(operation: int, one: int, two: int) -> Step | None:
    if operation == TAKE:
        return Take(item=one)
    if operation == EMIT:
        return Emit()
    if operation in CHOICES:
        return Choose(how=CHOICES[operation], num=one, type_id=two)
    if operation in SETTINGS:
        return Set(what=SETTINGS[operation], value=one)
    return None if operation == NOOP else Unsupported(operation=f"step operation {operation}")


def _tunables(cursor: _Cursor) -> Tunables:
    """The tunables as far as the map's age has them; the oldest profile ("legacy") for the rest."""
    local, fallback, total, once, vary_r, straw, stable = 2, 5, 19, 0, 0, 0, 0
    if cursor.more():
        local, fallback, total = cursor.numbers("I", 3, "tunables")
    if cursor.more():
        once = cursor.number("I", "chooseleaf_descend_once")
    if cursor.more():
        vary_r = cursor.number("B", "chooseleaf_vary_r")
    if cursor.more():
        straw = cursor.number("B", "straw_calc_version")
    if cursor.more():
        cursor.number("I", "allowed_bucket_algs")
    if cursor.more():
        stable = cursor.number("B", "chooseleaf_stable")
    return Tunables(
        choose_local_tries=local,
        choose_local_fallback_tries=fallback,
        choose_total_tries=total,
        chooseleaf_descend_once=once,
        chooseleaf_vary_r=vary_r,
        chooseleaf_stable=stable,
        straw_calc_version=straw,
    )


def _choose_args(cursor: _Cursor, bucket_count: int) -> dict[str, tuple[ChooseArgs, ...]]:
    made = {}
    for _ in range(cursor.count("choose_args")):
        name = str(cursor.number("q", "choose_args"))
        what = f"choose_args {name}"
        arguments = []
        for _ in range(cursor.count(what)):
            bucket = cursor.count(what)
            if bucket >= bucket_count:
                cursor.wrong(what, f"bucket {-1 - bucket}; allowed: a bucket of the map")
            sets = tuple(cursor.numbers("I", cursor.count(what), what) for _ in range(cursor.count(what)))
            ids = cursor.numbers("i", cursor.count(what), what)
            arguments.append(ChooseArgs(bucket=-1 - bucket, weight_sets=sets, ids=ids))
        made[name] = tuple(arguments)
    return made
