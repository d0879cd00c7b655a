"""What campaigns can be made of (``menu.toml``): kinds of faults with rates and ranges, and plots of several faults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import inspect as mi

from formats.load import Ms, build, keys_of, read_toml
from formats.problems import Problems, nearest, one_of
from trial.fault import Fault as AnyFault
from twin.faults import FAULTS, Fault

MENU = Path(__file__).parent / "menu.toml"

Range: TypeAlias = Annotated[tuple[Ms, ...], msgspec.Meta(min_length=2, max_length=2)]
SignedMs: TypeAlias = Annotated[int, msgspec.Meta(ge=-600_000, le=600_000)]
Around: TypeAlias = Annotated[tuple[SignedMs, ...], msgspec.Meta(min_length=2, max_length=2)]
Sessions: TypeAlias = Annotated[
    tuple[Annotated[float, msgspec.Meta(ge=0, le=10)], ...], msgspec.Meta(min_length=2, max_length=2)
]
Rate: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1_000)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
Struck: TypeAlias = Literal["node", "role", "pdu", "switch", "spare", "all", "none"]
"""What a fault strikes in a campaign: each has streams of its own."""

_SPREAD = 4
"""A number without a range of its own lies between a quarter and four times its default."""
_NUMBER_MAX = 5_000
_STRIKES: dict[str, dict[Struck, float]] = {
    "nodes": {"node": 0.65, "role": 0.35},
    "pdus": {"pdu": 1.0},
    "switches": {"switch": 1.0},
    "none": {"none": 1.0},
}


class KindTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[kind.K]``: how a kind of fault takes part; the keys are explained at the head of ``menu.toml``."""

    rate: Rate = 1.0
    group: str = ""
    for_ms: Range | None = None
    lasting: Share | None = None
    keys: dict[str, tuple[int | float | str | bool, ...]] = {}
    strikes: dict[Struck, Rate] = {}
    nodes_max: Literal["", "1", "minority"] = ""
    once: bool = False
    volumeless: bool = True
    fair: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One fault of a plot: of a group or of some kinds, on whom, and how long after the plot begins.

    ``after_sessions`` times the session timeout is added to that, for what happens when a session has ended. ``keys``:
    as they have to be, for those kinds that have them.
    """

    group: str = ""
    kinds: tuple[str, ...] = ()
    target: str
    after_ms: Around = (0, 0)
    after_sessions: Sessions = (0.0, 0.0)
    share: Share = 1.0
    for_ms: Range | None = None
    keys: dict[str, int | float | str | bool] = {}


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """Faults that come together, told around a singleton, a node or the whole rack."""

    name: str
    rate: Rate = 1.0
    around: Literal["service", "node", "rack"]
    steps: tuple[Step, ...]


class MenuTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole menu."""

    for_ms: Range
    lasting: Share
    kind: dict[str, KindTable] = {}
    plot: tuple[Plot, ...] = ()


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a kind of fault and what it may be.

    ``how``: "number" from ``least`` to ``greatest``, "one" or "some" of ``values``, the name of a "service" or a
    "volume", the names of some "nodes", of one "node" or none, or the number of a "disk".
    """

    name: str
    how: Literal["number", "one", "some", "service", "volume", "nodes", "node", "disk"]
    least: int = 0
    greatest: int = 0
    values: tuple[int | float | str | bool, ...] = ()


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of fault as campaigns draw it."""

    name: str
    rate: float
    group: str
    for_ms: tuple[int, ...]
    lasting: float
    keys: tuple[Key, ...]
    strikes: dict[Struck, float]
    nodes_max: Literal["", "1", "minority"]
    once: bool
    volumeless: bool


def load_menu() -> MenuTables:
    """Read the menu. Raises: InputError with every problem of it."""
    problems = Problems(str(MENU))
    tables = build(read_toml(MENU, "the menu of campaigns"), MenuTables, problems)
    problems.check()
    assert tables is not None
    return tables


def make_kind(name: str, table: KindTable, menu: MenuTables, key: str, problems: Problems) -> Kind:
    """Complete a kind by the schema of its fault; note every key that this kind does not have or that cannot be."""
    fault = FAULTS[name]
    own = {field.name: field for field in msgspec.structs.fields(fault) if field.name not in keys_of(AnyFault)}
    for given, values in table.keys.items():
        if given not in own:
            problems.say(
                f"{key}.keys.{given} = {list(values)}: no such key; allowed: {one_of(own)}{nearest(given, own)}"
            )
            continue
        for value in values:
            _check_value(own[given], value, f"{key}.keys.{given}", problems)
    for_ms = table.for_ms or menu.for_ms
    if for_ms[0] > for_ms[1]:
        problems.say(f"{key}.for_ms = {list(for_ms)}: allowed: [shortest, longest]")
    found = [_key(field, table.keys.get(name_)) for name_, field in own.items()]
    return Kind(
        name=name,
        rate=table.rate,
        group=table.group,
        for_ms=for_ms,
        lasting=menu.lasting if table.lasting is None else table.lasting,
        keys=tuple(one for one in found if one is not None),
        strikes=dict(table.strikes) or _struck(fault),
        nodes_max=table.nodes_max,
        once=table.once,
        volumeless=table.volumeless,
    )


def _struck(fault: type[Fault]) -> dict[Struck, float]:
    return _STRIKES[fault.STRIKES]


def _check_value(field: msgspec.structs.FieldInfo, value: object, key: str, problems: Problems) -> None:
    kind = field.type
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problems.add(key, value, f"allowed: what this key of the fault takes ({error})")


def _key(field: msgspec.structs.FieldInfo, given: tuple[int | float | str | bool, ...] | None) -> Key | None:
    """What a key may be: as given, else by its type and its default; None for one that is left as it is."""
    name, info = field.name, mi.type_info(field.type)
    info = info.type if isinstance(info, mi.Metadata) else info
    if name in ("service", "volume"):
        return Key(name=name, how="service" if name == "service" else "volume")
    if name in ("disk", "of"):
        return Key(name=name, how="disk" if name == "disk" else "node")
    match info:
        case mi.BoolType():
            return Key(name=name, how="one", values=given or (False, True))
        case mi.LiteralType():
            return Key(name=name, how="one", values=given or tuple(value for value in info.values if value is not None))
        case mi.IntType():
            least, greatest = _bounds(info, field.default)
            if given is not None:
                least, greatest = int(min(given)), int(max(given))
            return Key(name=name, how="number", least=least, greatest=greatest)
        case mi.VarTupleType(item_type=mi.LiteralType() as item):
            return Key(name=name, how="some", values=given or tuple(v for v in item.values if v is not None))
        case mi.VarTupleType(item_type=mi.StrType()):
            return Key(name=name, how="nodes")
        case _:
            return Key(name=name, how="one", values=given) if given else None


def _bounds(info: mi.IntType, default: object) -> tuple[int, int]:
    """The range of a number that the menu says nothing about."""
    least = info.ge if info.ge is not None else info.gt + 1 if info.gt is not None else 0
    greatest = info.le if info.le is not None else info.lt - 1 if info.lt is not None else _NUMBER_MAX
    if isinstance(default, int) and default:
        low, high = sorted((default // _SPREAD, default * _SPREAD))
        return max(least, low), min(greatest, high)
    return least, min(greatest, max(least, _NUMBER_MAX))


def kinds_of(step: Step, kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    """Those of ``kinds`` that a step of a plot may strike with, in their order."""
    return tuple(
        name for name, kind in kinds.items() if name in step.kinds or (step.group and kind.group == step.group)
    )
