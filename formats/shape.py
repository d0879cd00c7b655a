"""Comparing parsed TOML with a type: a walk over both that notes every misfit, where ``msgspec.convert`` stops at one.

Tuples of fixed length are left out on purpose: give ``tuple[T, ...]`` a length instead. (``msgspec`` 0.22 damages
memory when it inspects a union with a fixed tuple of annotated items.)
"""

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from msgspec import inspect as mi

from formats.problems import Problems, join, nearest, one_of, show


def walk(value: object, kind: mi.Type, problems: Problems, key: str) -> None:
    """Compare a parsed value with a type (``msgspec.inspect``) and note everything that does not fit."""
    if isinstance(kind, mi.Metadata):
        if not _described(value, kind, problems, key):
            walk(value, kind.type, problems, key)
        return
    match kind:
        case mi.StructType():
            _walk_struct(value, kind, problems, key)
        case mi.DictType():
            _walk_dict(value, kind, problems, key)
        case mi.ListType() | mi.VarTupleType():
            _walk_items(value, kind, problems, key)
        case mi.UnionType():
            _walk_union(value, kind.types, problems, key)
        case mi.AnyType():
            pass
        case _:
            if not _fits(value, kind):
                names = [str(v) for v in kind.values] if isinstance(kind, mi.LiteralType) else []
                problems.add(key, value, f"allowed: {wording(kind)}", names)


def _described(value: object, kind: mi.Metadata, problems: Problems, key: str) -> bool:
    """Note a misfit in the words of the type's own description, if it has one; True if there was a misfit."""
    words = (kind.extra_json_schema or {}).get("description")
    inner = kind.type
    if not isinstance(inner, mi.StrType) or words is None or _fits(value, inner):
        return False
    problems.add(key, value, f"allowed: {words}")
    return True


def _walk_struct(value: object, kind: mi.StructType, problems: Problems, key: str) -> None:
    if not isinstance(value, dict):
        problems.add(key, value, f"allowed: a table with the keys {one_of(f.encode_name for f in kind.fields)}")
        return
    fields = {field.encode_name: field for field in kind.fields}
    for name, inner in value.items():
        if name in fields:
            walk(inner, fields[name].type, problems, join(key, name))
        else:
            problems.add(join(key, name), inner, f"no such key; allowed: {one_of(fields)}{nearest(name, fields)}")
    for name, field in fields.items():
        if field.required and name not in value:
            problems.say(f"{join(key, name)} is missing; needed: {wording(field.type)}")


def _walk_dict(value: object, kind: mi.DictType, problems: Problems, key: str) -> None:
    if not isinstance(value, dict):
        problems.add(key, value, "allowed: a table")
        return
    for name, inner in value.items():
        walk(inner, kind.value_type, problems, join(key, name))


def _walk_items(value: object, kind: mi.ListType | mi.VarTupleType, problems: Problems, key: str) -> None:
    least, most = kind.min_length or 0, kind.max_length
    if not isinstance(value, list) or len(value) < least or (most is not None and len(value) > most):
        problems.add(key, value, f"allowed: {wording(kind)}")
        return
    for index, inner in enumerate(value):
        walk(inner, kind.item_type, problems, f"{key}[{index}]")


def _walk_union(value: object, kinds: Sequence[mi.Type], problems: Problems, key: str) -> None:
    """Accept what any branch accepts; a table is judged by the table branch, an array by the array branch."""
    tries = [Problems(problems.file) for _ in kinds]
    for kind, trial in zip(kinds, tries, strict=True):
        walk(value, kind, trial, key)
        if not trial.found:
            return
    for kind, trial in zip(kinds, tries, strict=True):
        if isinstance(value, _container(kind)):
            problems.found.extend(trial.found)
            return
    problems.add(key, value, "allowed: " + ", or ".join(map(wording, kinds)))


def _container(kind: mi.Type) -> type | tuple[()]:
    """The container that a branch of a union takes; nothing for a plain value."""
    match kind:
        case mi.StructType() | mi.DictType():
            return dict
        case mi.ListType() | mi.VarTupleType():
            return list
        case mi.Metadata():
            return _container(kind.type)
        case _:
            return ()


def _fits(value: object, kind: mi.Type) -> bool:
    """Whether a plain value fits a plain type; True and false are not numbers, 1 is a float."""
    match kind:
        case mi.IntType():
            return type(value) is int and abs(value) < 1 << 63 and _within(value, kind)
        case mi.FloatType():
            return type(value) in (int, float) and _float_within(value, kind)
        case mi.BoolType():
            return isinstance(value, bool)
        case mi.NoneType():
            return value is None
        case mi.LiteralType():
            return any(type(value) is type(allowed) and value == allowed for allowed in kind.values)
        case mi.StrType():
            return isinstance(value, str) and _string_within(value, kind)
        case mi.CustomType() if kind.cls is Path:
            return isinstance(value, str) and value != "" and "\0" not in value
        case _:
            return True


def _within(value: float, kind: mi.IntType | mi.FloatType) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def _float_within(value: object, kind: mi.FloatType) -> bool:
    if not isinstance(value, int | float) or abs(value) >= 1 << 63:
        return False
    return isfinite(value) and _within(value, kind)


def _string_within(value: str, kind: mi.StrType) -> bool:
    if kind.pattern is not None and re.search(kind.pattern, value) is None:
        return False
    return (kind.min_length or 0) <= len(value) and (kind.max_length is None or len(value) <= kind.max_length)


def wording(kind: mi.Type) -> str:
    """Say in words what a type allows."""
    match kind:
        case mi.Metadata():
            words = (kind.extra_json_schema or {}).get("description")
            return str(words) if isinstance(kind.type, mi.StrType) and words else wording(kind.type)
        case mi.IntType():
            return "a whole number" + _limits(kind)
        case mi.FloatType():
            return "a number" + _limits(kind)
        case mi.BoolType():
            return "true or false"
        case mi.StrType():
            return "a string"
        case mi.CustomType() if kind.cls is Path:
            return "a path"
        case mi.NoneType():
            return "nothing"
        case mi.LiteralType():
            return ", ".join(show(value) for value in kind.values)
        case mi.StructType():
            return f"a table with the keys {one_of(field.encode_name for field in kind.fields)}"
        case mi.DictType():
            return "a table"
        case mi.ListType() | mi.VarTupleType():
            some = f"{kind.min_length} x " if kind.min_length and kind.min_length == kind.max_length else ""
            return f"an array of {some}{wording(kind.item_type)}"
        case mi.UnionType():
            return ", or ".join(map(wording, kind.types))
        case _:
            return "another value"


def _limits(kind: mi.IntType | mi.FloatType) -> str:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f", {low} or more" if low is not None else f", {high} or less" if high is not None else ""
