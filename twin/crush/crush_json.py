"""CRUSH maps as JSON: what `ceph osd crush dump` and `crushtool --dump` print."""

from typing import Annotated, get_args

import msgspec

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
from twin.crush.sound import unsound

CHOICES: dict[str, Choice] = {name: name for name in get_args(Choice)}
SETTINGS: dict[str, Setting] = {name: name for name in get_args(Setting)}
OPCODES: dict[int, Setting] = {
    10: "set_choose_local_tries",
    11: "set_choose_local_fallback_tries",
    12: "set_chooseleaf_vary_r",
    13: "set_chooseleaf_stable",
}
"""Steps that a dump gives by number only."""


TypeId = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
"""Ceph holds a bucket's type in 16 bits."""


class _Device(msgspec.Struct):
    id: int
    name: str
    device_class: str = msgspec.field(default="", name="class")


class _Type(msgspec.Struct):
    type_id: TypeId
    name: str


class _Item(msgspec.Struct):
    id: int
    weight: int


class _Bucket(msgspec.Struct):
    id: int
    type_id: TypeId
    alg: Algorithm
    items: list[_Item]
    hash: str = "rjenkins1"
    name: str = ""


class _Step(msgspec.Struct):
    op: str = ""
    opcode: int = 0
    arg1: int = 0
    item: int = 0
    num: int = 0
    type: str = ""


class _Rule(msgspec.Struct):
    rule_id: int
    type: int
    steps: list[_Step]
    rule_name: str = ""
    min_size: int = 1
    max_size: int = 10


class _ChooseArgs(msgspec.Struct):
    bucket_id: int
    weight_set: list[list[float]] = []
    ids: list[int] = []


class _Dump(msgspec.Struct):
    devices: list[_Device]
    types: list[_Type]
    buckets: list[_Bucket]
    rules: list[_Rule]
    tunables: Tunables
    choose_args: dict[str, list[_ChooseArgs]] = {}


def crush_from_json(obj: object, where: str) -> CrushMap:
    """Read a map from a decoded JSON object; ``where`` names it in errors.

    Raises: `InputError` naming the field that is missing or wrong.
    """
    try:
        dump = msgspec.convert(obj, _Dump)
    except msgspec.ValidationError as error:
        allowed = "allowed: what `ceph osd crush dump` or `crushtool --dump` prints"
        raise InputError([f"{where}: {error}; {allowed}"]) from None
    types = {one.type_id: one.name for one in dump.types}
    by_name = {name: number for number, name in types.items()}
    crush = CrushMap(
        devices=tuple(Device(id=one.id, name=one.name, device_class=one.device_class) for one in dump.devices),
        types=types,
        buckets=tuple(_bucket(one, where) for one in dump.buckets),
        rules=tuple(_rule(one, by_name, where) for one in dump.rules),
        tunables=dump.tunables,
        choose_args={name: tuple(_choose_args(one) for one in many) for name, many in dump.choose_args.items()},
    )
    if problems := unsound(crush):
        raise InputError([f"{where}: {problem}" for problem in problems])
    return crush


def _bucket(one: _Bucket, where: str) -> Bucket:
    if one.hash != "rjenkins1" or one.id >= 0:
        raise InputError([f"{where}: bucket {one.id}: hash {one.hash!r}; allowed: an id below 0, hash rjenkins1"])
    return Bucket(
        id=one.id,
        name=one.name or f"bucket{-1 - one.id}",
        type_id=one.type_id,
        alg=one.alg,
        items=tuple(item.id for item in one.items),
        weights=tuple(item.weight for item in one.items),
    )


def _rule(one: _Rule, types: dict[str, int], where: str) -> Rule:
    return Rule(
        id=one.rule_id,
        name=one.rule_name or f"rule{one.rule_id}",
        type_id=one.type,
        steps=tuple(step for raw in one.steps if (step := _step(raw, types, f"{where}: rule {one.rule_id}"))),
        size_min=one.min_size,
        size_max=one.max_size,
    )


def _step(raw: _Step, types: dict[str, int], where: str) -> Step | None:
    if not raw.op and raw.opcode in OPCODES:
        return Set(what=OPCODES[raw.opcode], value=raw.arg1)
    if raw.op == "noop":
        return None
    if raw.op == "take":
        return Take(item=raw.item)
    if raw.op == "emit":
        return Emit()
    if raw.op in SETTINGS:
        return Set(what=SETTINGS[raw.op], value=raw.num)
    if raw.op not in CHOICES:
        return Unsupported(operation=f"step {raw.op or raw.opcode}")
    if raw.type not in types:
        raise InputError([f"{where}: step {raw.op}: type {raw.type!r}; allowed: {', '.join(types)}"])
    return Choose(how=CHOICES[raw.op], num=raw.num, type_id=types[raw.type])


def _choose_args(one: _ChooseArgs) -> ChooseArgs:
    """The weights are printed as float32 quotients by 65536: exact for weights below 256."""
    return ChooseArgs(
        bucket=one.bucket_id,
        weight_sets=tuple(tuple(round(min(weight, 1e9) * ONE) for weight in weights) for weights in one.weight_set),
        ids=tuple(one.ids),
    )
