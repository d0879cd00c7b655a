"""Random CRUSH maps as text: hierarchies, weights, classes, algorithms, tunables, rules and choose_args by a seed."""

from dataclasses import dataclass, field

import numpy as np

PROFILES: dict[str, dict[str, int]] = {
    "argonaut": {},
    "bobtail": {
        "choose_local_tries": 0,
        "choose_local_fallback_tries": 0,
        "choose_total_tries": 50,
        "chooseleaf_descend_once": 1,
    },
}
PROFILES["firefly"] = PROFILES["bobtail"] | {"chooseleaf_vary_r": 1}
PROFILES["hammer"] = PROFILES["firefly"] | {"straw_calc_version": 1}
PROFILES["jewel"] = PROFILES["hammer"] | {"chooseleaf_stable": 1}
ALGORITHMS = ("straw2", "straw", "list", "tree", "uniform")
TYPES = ("osd", "host", "rack", "row", "root")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a map is like. ``fan``: how many items a bucket of each level has, from and to, hosts first."""

    levels: int = 2
    fan: tuple[tuple[int, int], ...] = ((2, 6), (3, 6), (2, 4), (2, 3))
    algorithms: tuple[str, ...] = ("straw2",)
    weights: str = "mixed"
    classes: tuple[str, ...] = ()
    profile: str = "jewel"
    choose_args: int = 0
    empty: bool = False
    total_tries: int = 0


@dataclass
class _Built:
    rng: np.random.Generator
    shape: Shape
    lines: list[str] = field(default_factory=list)
    devices: int = 0
    device_lines: list[str] = field(default_factory=list)
    buckets: dict[int, int] = field(default_factory=dict)
    next_id: int = -1


def map_text(seed: int, shape: Shape) -> str:
    """Write a map in crushtool's text form. Its weights have 3 decimals, so that nothing is lost."""
    built = _Built(np.random.Generator(np.random.Philox(seed)), shape)
    _bucket(built, shape.levels, "default")
    if shape.empty:
        built.lines.append("host lonely {\n id -900\n alg straw2\n hash 0\n}")
    tunables = PROFILES[shape.profile] | ({"choose_total_tries": shape.total_tries} if shape.total_tries else {})
    head = [f"tunable {name} {value}" for name, value in tunables.items()]
    types = [f"type {number} {name}" for number, name in enumerate(TYPES)]
    return "\n".join(
        (
            *head,
            *built.device_lines,
            *types,
            *built.lines,
            *_rules(shape, built.device_lines[0].split()[2]),
            *_choose_args(built),
            "",
        )
    )


def _bucket(built: _Built, level: int, name: str) -> float:
    """Write a bucket after all below it; return its weight."""
    low, high = built.shape.fan[level - 1]
    items = []
    for place in range(int(built.rng.integers(low, high + 1))):
        if level == 1:
            items.append((_device(built), _weight(built)))
        else:
            inner = f"{TYPES[level - 1]}{place}-{name}"
            items.append((inner, _bucket(built, level - 1, inner)))
    alg = str(built.rng.choice(built.shape.algorithms))
    if alg == "uniform":
        items = [(item, items[0][1]) for item, _ in items]
    built.next_id -= 1 if built.rng.random() < 0.8 else 2
    built.buckets[built.next_id] = len(items)
    kind = "root" if level == built.shape.levels else TYPES[level]
    body = [f" id {built.next_id}", f" alg {alg}", " hash 0", *(f" item {item} weight {w:.3f}" for item, w in items)]
    built.lines.append("\n".join((f"{kind} {name} {{", *body, "}")))
    return round(sum(weight for _, weight in items), 3)


def _device(built: _Built) -> str:
    built.devices += 1 if built.rng.random() < 0.95 else 2
    number = built.devices - 1
    suffix = f" class {built.rng.choice(built.shape.classes)}" if built.shape.classes else ""
    built.device_lines.append(f"device {number} osd.{number}{suffix}")
    return f"osd.{number}"


def _weight(built: _Built) -> float:
    match built.shape.weights:
        case "equal":
            return 1.0
        case "zero":
            return float(built.rng.choice([0.0, 1.0, 2.0]))
        case "tiny":
            return float(built.rng.choice([0.001, 0.002, 0.004]))
        case _:
            return round(float(built.rng.choice([0.5, 1.0, 1.819, 3.638, 7.277, 14.553, 90.5])), 3)


def _rules(shape: Shape, device: str) -> list[str]:
    """The rules that clusters have, and some that they better had not."""
    top = TYPES[shape.levels - 1]
    middle = TYPES[max(shape.levels - 2, 0)]
    take = [f"default class {name}" for name in shape.classes] or ["default"]
    bodies = [
        ["take " + take[0], "chooseleaf firstn 0 type host"],
        ["take " + take[-1], f"chooseleaf firstn 0 type {top}"],
        ["take default", "choose firstn 0 type osd"],
        ["set_chooseleaf_tries 5", "set_choose_tries 100", "take " + take[0], "chooseleaf indep 0 type host"],
        ["set_choose_tries 20", "take default", "choose indep 0 type osd"],
        ["take default", f"choose firstn 2 type {top}", f"chooseleaf firstn 2 type {middle}"],
        ["set_chooseleaf_tries 3", "take default", f"choose indep 3 type {top}", "chooseleaf indep 2 type osd"],
        [
            "take " + take[0],
            "chooseleaf firstn 1 type host",
            "emit",
            "take " + take[-1],
            "chooseleaf firstn -1 type host",
        ],
        ["take default", f"choose firstn 0 type {top}", "choose firstn 1 type osd"],
        ["set_chooseleaf_vary_r 2", "set_chooseleaf_stable 0", "take default", "chooseleaf firstn 0 type host"],
        [
            "set_choose_local_tries 2",
            "set_choose_local_fallback_tries 3",
            "take default",
            "chooseleaf firstn 0 type host",
        ],
        [f"take {device}", "emit", "take default", f"chooseleaf indep -1 type {top}"],
        ["set_choose_local_tries 2", "take default", "chooseleaf firstn 0 type host"],
        ["take default", f"choose firstn 3 type {top}", "chooseleaf indep 2 type osd"],
    ]
    rules = []
    for number, steps in enumerate(bodies):
        lines = "\n".join(f" step {step}" for step in (*steps, "emit"))
        kind = "erasure" if "indep" in lines else "replicated"
        rules.append(f"rule r{number} {{\n id {number}\n type {kind}\n min_size 1\n max_size 12\n{lines}\n}}")
    return rules


def _choose_args(built: _Built) -> list[str]:
    if not built.shape.choose_args:
        return []
    lines = ["choose_args 0 {"]
    for bucket, size in built.buckets.items():
        if built.rng.random() < 0.2 or not size:
            continue
        lines.append(f" {{\n bucket_id {bucket}\n weight_set [")
        for _ in range(int(built.rng.integers(1, built.shape.choose_args + 1))):
            row = " ".join(f"{weight:.3f}" for weight in built.rng.choice([0.0, 0.7, 1.0, 1.3, 2.5], size))
            lines.append(f"  [ {row} ]")
        lines.append(" ]")
        if built.rng.random() < 0.3:
            lines.append(f" ids [ {' '.join(str(-1000 - place) for place in range(size))} ]")
        lines.append(" }")
    return [*lines, "}"]
