"""CRUSH maps as text: what `crushtool -d` writes and `crushtool -c` reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn, get_args

import numpy as np

from core.errors import InputError
from twin.crush.map import (
    ONE,
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
from twin.crush.shadows import add_shadows

LOSSY = (
    "a crushmap text has its weights with 3 decimals only, which changes about 1 in 10,000 mappings: "
    "give the JSON of `ceph osd crush dump` (or the binary of `ceph osd getcrushmap`) for exact ones"
)
LEGACY = {
    "choose_local_tries": 2,
    "choose_local_fallback_tries": 5,
    "choose_total_tries": 19,
    "chooseleaf_descend_once": 0,
    "chooseleaf_vary_r": 0,
    "chooseleaf_stable": 0,
    "straw_calc_version": 0,
}
"""The tunables that a text means if it does not name them: the "argonaut" profile."""
IGNORED = ("allowed_bucket_algs", "msr_descents", "msr_collision_tries")
ALGORITHMS: dict[str, Algorithm] = {name: name for name in get_args(Algorithm)}
CHOICES: dict[str, Choice] = {name.replace("_", " "): name for name in get_args(Choice)}
SETTINGS: dict[str, Setting] = {name: name for name in get_args(Setting)}
RULE_TYPES = {"replicated": 1, "erasure": 3, "msr_firstn": 4, "msr_indep": 5}


@dataclass
class _Lines:
    """The words of a text with their lines; reading beyond or wrongly is an error that names the line."""

    words: list[tuple[str, int]]
    where: str
    at: int = 0

    def peek(self) -> str:
        """The next word, or "" at the end."""
        return self.words[self.at][0] if self.at < len(self.words) else ""

    def word(self, what: str) -> str:
        """The next word, whatever it is."""
        if self.at >= len(self.words):
            self.wrong(f"the text ends where {what} should follow (truncated?)")
        self.at += 1
        return self.words[self.at - 1][0]

    def expect(self, *allowed: str) -> str:
        """The next word, one of some."""
        word = self.word(" or ".join(allowed))
        if word not in allowed:
            self.wrong(f"{word!r}; allowed here: {', '.join(allowed)}")
        return word

    def number(self, what: str) -> int:
        """The next word as an integer."""
        word = self.word(what)
        try:
            return int(word)
        except ValueError:
            self.wrong(f"{what}: {word!r}; allowed: a whole number")

    def weight(self) -> int:
        """The next word as a weight in 16.16, with the roundings of float32 that crushtool makes."""
        word = self.word("weight")
        try:
            value = float(np.float32(word) * np.float32(ONE))
        except (ValueError, OverflowError):
            value = -1.0
        if not 0 <= value < 2**32:
            self.wrong(f"weight {word!r}; allowed: a number from 0 to 65535")
        return int(value)

    def wrong(self, why: str) -> NoReturn:
        line = self.words[min(max(self.at - 1, 0), len(self.words) - 1)][1] if self.words else 1
        raise InputError([f"{self.where}: line {line}: {why}"])


@dataclass
class _Text:
    """What has been read so far. ``classes``: in the order they were first named, which is that of their numbers."""

    tunables: dict[str, int] = field(default_factory=lambda: dict(LEGACY))
    devices: dict[int, Device] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    buckets: dict[int, Bucket] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    shadows: dict[tuple[int, str], int] = field(default_factory=dict)
    shadowed: bool = False
    rules: dict[int, Rule] = field(default_factory=dict)
    choose_args: dict[str, tuple[ChooseArgs, ...]] = field(default_factory=dict)
    named: set[int] = field(default_factory=set)


def crush_from_text(text: str, where: str) -> CrushMap:
    """Read a crushmap text, with its shadow trees made anew; ``where`` names the file in errors.

    Raises: `InputError` naming the line.
    """
    lines = _Lines(list(_words(text)), where)
    known = _Text()
    _ids_first(lines, known)
    sections: dict[str, Callable[[_Lines, _Text], None]] = {
        "tunable": _tunable,
        "device": _device,
        "type": _type,
        "rule": _rule,
        "choose_args": _choose_args,
    }
    if not lines.words:
        lines.wrong("there is nothing; allowed: a crushmap text, as `crushtool -d` writes it")
    while lines.peek():
        name = lines.word("a section")
        if name in sections and not (name == "rule" and name in known.types):
            sections[name](lines, known)
        elif name in known.types:
            _bucket(lines, known, known.types[name])
        else:
            lines.wrong(f"{name[:40]!r}; allowed: tunable, device, type, rule, choose_args, or a type named before")
    return CrushMap(
        devices=tuple(known.devices[item_id] for item_id in sorted(known.devices)),
        types={number: name for name, number in known.types.items()},
        buckets=tuple(known.buckets[item_id] for item_id in sorted(known.buckets, reverse=True)),
        rules=tuple(known.rules[item_id] for item_id in sorted(known.rules)),
        tunables=Tunables(**known.tunables),
        choose_args=known.choose_args,
    )


def _words(text: str) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(text.splitlines(), 1):
        spaced = line.split("#", 1)[0]
        for mark in "{}[]":
            spaced = spaced.replace(mark, f" {mark} ")
        for word in spaced.split():
            yield word, number


def _ids_first(lines: _Lines, known: _Text) -> None:
    """Learn all bucket ids that are named, so that a bucket without one gets an id that is free."""
    for (word, _), (number, _), (after, _) in zip(lines.words, lines.words[1:], lines.words[2:], strict=False):
        if word == "id" and after != "class" and number[:1] == "-" and number[1:].isdigit():
            known.named.add(int(number))


def _tunable(lines: _Lines, known: _Text) -> None:
    name = lines.word("the name of a tunable")
    if name not in LEGACY and name not in IGNORED:
        lines.wrong(f"tunable {name!r}; allowed: {', '.join((*LEGACY, *IGNORED))}")
    value = lines.number(f"tunable {name}")
    if name in LEGACY:
        known.tunables[name] = value


def _device(lines: _Lines, known: _Text) -> None:
    item_id, name = lines.number("device id"), lines.word("device name")
    if item_id < 0 or name in known.ids:
        lines.wrong(f"device {item_id} {name}; allowed: an id from 0, and a name that is not used yet")
    device_class = ""
    if lines.peek() == "class":
        lines.word("class")
        device_class = lines.word("class name")
        _class(known, device_class)
    known.ids[name], known.devices[item_id] = item_id, Device(id=item_id, name=name, device_class=device_class)


def _class(known: _Text, name: str) -> None:
    if name not in known.classes:
        known.classes.append(name)


def _type(lines: _Lines, known: _Text) -> None:
    number = lines.number("type number")
    known.types[lines.word("type name")] = number


def _bucket(lines: _Lines, known: _Text, type_id: int) -> None:
    name = lines.word("bucket name")
    if name in known.ids:
        lines.wrong(f"bucket {name!r}: the name is used before; allowed: each name once")
    lines.expect("{")
    item_id, alg = 0, ""
    items: list[tuple[int, int, int]] = []
    shadows = {}
    while (word := lines.expect("id", "alg", "hash", "item", "}")) != "}":
        match word:
            case "id":
                number = lines.number("bucket id")
                if lines.peek() == "class":
                    lines.word("class")
                    shadows[lines.word("class name")] = number
                else:
                    item_id = number
            case "alg":
                alg = lines.expect(*ALGORITHMS)
            case "hash":
                lines.expect("0", "rjenkins1")
            case _:
                items.append(_item(lines, known))
    if alg not in ALGORITHMS or item_id > 0:
        lines.wrong(f"bucket {name!r}: id {item_id}, alg {alg!r}; allowed: an id below 0, and an alg")
    item_id = item_id or next(free for free in range(-1, -(2**31), -1) if free not in known.named)
    if item_id in known.buckets:
        lines.wrong(f"bucket {name!r}: id {item_id} is used before; allowed: each id once")
    known.named.add(item_id)
    for shadow, number in shadows.items():
        _class(known, shadow)
        known.shadows[item_id, shadow] = number
    ordered = _ordered(items)
    known.ids[name] = item_id
    known.buckets[item_id] = Bucket(
        id=item_id,
        name=name,
        type_id=type_id,
        alg=ALGORITHMS[alg],
        items=tuple(item for item, _ in ordered),
        weights=tuple(weight for _, weight in ordered),
    )


def _item(lines: _Lines, known: _Text) -> tuple[int, int, int]:
    """One item: its id, weight and position (-1: the next free one)."""
    name, position = lines.word("item name"), -1
    if name not in known.ids:
        lines.wrong(f"item {name!r}; allowed: a device or bucket of a line before")
    item_id = known.ids[name]
    weight = known.buckets[item_id].weight if item_id in known.buckets else ONE
    while lines.peek() in ("weight", "pos"):
        if lines.word("weight or pos") == "weight":
            weight = lines.weight()
        else:
            position = lines.number("pos")
    return item_id, weight, position


def _ordered(items: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Items with a position first get theirs, the others the places that are left."""
    placed = {position: (item_id, weight) for item_id, weight, position in items if position >= 0}
    rest = iter([(item_id, weight) for item_id, weight, position in items if position < 0])
    return [placed[place] if place in placed else next(rest, (0, 0)) for place in range(len(items))]


def _rule(lines: _Lines, known: _Text) -> None:
    if not known.shadowed:
        known.shadowed = True
        class_of = {item_id: device.device_class for item_id, device in known.devices.items()}
        made, known.shadows = add_shadows(list(known.buckets.values()), known.classes, class_of, known.shadows)
        known.buckets |= {shadow.id: shadow for shadow in made}
    name = lines.word("rule name or {")
    if name != "{":
        lines.expect("{")
    steps: list[Step] = []
    numbers = {"id": len(known.rules), "min_size": 1, "max_size": 10, "type": 1}
    while (word := lines.expect("id", "ruleset", "type", "min_size", "max_size", "step", "}")) != "}":
        if word == "step":
            steps.extend(_step(lines, known))
        elif word == "type" and lines.peek() in RULE_TYPES:
            numbers["type"] = RULE_TYPES[lines.word("type")]
        else:
            numbers["id" if word == "ruleset" else word] = lines.number(word)
    rule_id = numbers["id"]
    if rule_id in known.rules or rule_id < 0:
        lines.wrong(f"rule {rule_id}: allowed: each id once, from 0")
    known.rules[rule_id] = Rule(
        id=rule_id,
        name=name if name != "{" else f"rule{rule_id}",
        type_id=numbers["type"],
        steps=tuple(steps),
        size_min=numbers["min_size"],
        size_max=numbers["max_size"],
    )


def _step(lines: _Lines, known: _Text) -> list[Step]:
    word = lines.word("a step")
    if word == "noop":
        return []
    if word == "emit":
        return [Emit()]
    if word == "take":
        return [_take(lines, known)]
    if word in SETTINGS:
        return [Set(what=SETTINGS[word], value=lines.number(word))]
    if word in ("choose", "chooseleaf"):
        how = CHOICES[f"{word} {lines.expect('firstn', 'indep')}"]
        number = lines.number("how many")
        lines.expect("type")
        return [Choose(how=how, num=number, type_id=known.types[lines.expect(*known.types)])]
    if word == "choosemsr" or word.startswith("set_msr_"):
        while lines.peek() not in ("step", "}", ""):
            lines.word("the rest of a step")
        return [Unsupported(operation=f"step {word}")]
    return lines.wrong(f"step {word!r}; allowed: take, choose, chooseleaf, emit, noop, {', '.join(SETTINGS)}")


def _take(lines: _Lines, known: _Text) -> Take:
    name = lines.word("bucket or device")
    if name not in known.ids:
        lines.wrong(f"step take {name}: allowed: a device or bucket of the map")
    item_id = known.ids[name]
    if lines.peek() == "class":
        lines.word("class")
        wanted = lines.word("class name")
        if (item_id, wanted) not in known.shadows:
            lines.wrong(f"step take {name} class {wanted}; allowed: {', '.join(known.classes) or 'no class'}")
        item_id = known.shadows[item_id, wanted]
    return Take(item=item_id)


def _choose_args(lines: _Lines, known: _Text) -> None:
    number = lines.number("choose_args")
    name = str(number - 2**64 if number >= 2**63 else number)
    lines.expect("{")
    arguments = []
    while lines.expect("{", "}") == "{":
        lines.expect("bucket_id")
        bucket = lines.number("bucket_id")
        sets: list[tuple[int, ...]] = []
        ids: tuple[int, ...] = ()
        while (word := lines.expect("weight_set", "ids", "}")) != "}":
            lines.expect("[")
            if word == "ids":
                ids = tuple(_numbers(lines, lambda: lines.number("id")))
            else:
                while lines.expect("[", "]") == "[":
                    sets.append(tuple(_numbers(lines, lines.weight)))
        arguments.append(ChooseArgs(bucket=bucket, weight_sets=tuple(sets), ids=ids))
    known.choose_args[name] = tuple(arguments)


def _numbers(lines: _Lines, one: Callable[[], int]) -> Iterator[int]:
    while lines.peek() != "]":
        yield one()
    lines.word("]")
