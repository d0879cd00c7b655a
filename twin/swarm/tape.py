"""Fault tapes: one campaign as an ordinary scenario, written out in full, so that no later draw can change it."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

import msgspec

from core.errors import InputError
from core.specs import Timing
from formats.load import keys_of, read_toml
from formats.synthetic import SyntheticRack
from trial.scenario import FILE_NAME, Boots, Expect, find_file, why
from twin.faults import FAULTS
from twin.scenario import Scenario, scenario_of
from twin.swarm.toml_text import lines_of, text_of

Table = dict[str, object]
"""One TOML table, of the values that TOML knows."""

WIDTH = 119
_COMMON = ("kind", "target", "at_ms", "for_ms", "every_ms", "times")


class Tape(msgspec.Struct, frozen=True, kw_only=True):
    """What a campaign is, key by key as in its scenario file (``trial.scenario.ScenarioTables``).

    ``why`` is one line without runs of spaces. ``seed`` is that of the world's own streams (latencies, losses).
    ``fault`` holds the tables of all faults, in order of ``at_ms``; their targets are nodes, or roles that are resolved
    when they strike, never a draw ("one").
    """

    why: str
    seed: int
    rack: str | SyntheticRack
    catalog: str
    nodes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    duration_ms: int
    heal_ms: int = 600_000
    settle_ms: int | None = None
    start: str = "warm"
    fidelity: str = "campaign"
    calibration: str = ""
    boots: Table = {}
    timing: dict[str, int] = {}
    clients: dict[str, int] = {}
    expect: Table = {}
    fault: tuple[Table, ...] = ()


def to_tables(tape: Tape) -> Table:
    """Return the tables of the tape's file, without its reason, which is a comment there."""
    tables = {**_changes(tape, _DEFAULTS), "fidelity": tape.fidelity}
    del tables["why"]
    if isinstance(tape.rack, SyntheticRack):
        tables["rack"] = _changes(tape.rack, _RACK_DEFAULTS)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in tables.items()}


def to_scenario(tape: Tape, folder: Path = Path()) -> Scenario:
    """Return the scenario that a file of this tape in ``folder`` would be.

    Raises: InputError if the tape, its rack or its catalog is not right.
    """
    return scenario_of(to_tables(tape), folder / f"{tape.seed}.toml", tape.why)


def read_tape(path: Path) -> Tape:
    """Read a scenario, given its folder or its file, as a tape.

    A rack or catalog that is found from the file's folder only, and not from the current one, is named by its whole
    path in the tape.

    Raises: InputError with every problem of the scenario, its rack and its catalog, or if it replays a trace.
    """
    file = path / FILE_NAME if path.is_dir() else path
    raw = read_toml(file, f"a tape or another scenario file, or a folder with {FILE_NAME}")
    reason = why(file)
    scenario = scenario_of(raw, file, reason)
    if scenario.trace is not None:
        allowed = "allowed in a tape: [[fault]]s only; nobody wrote the outages of a trace down as faults"
        raise InputError([f"{file}: trace: {allowed}"])
    tables = {
        "seed": scenario.seed,
        "fidelity": scenario.fidelity,
        **raw,
        "rack": _found(raw["rack"], file),
        "catalog": _found(raw["catalog"], file),
        "calibration": _found(raw["calibration"], file) if "calibration" in raw else "",
        "fault": _in_order(raw.get("fault", ())),  # type: ignore[arg-type]  # checked by the loader
        "why": reason,
    }
    return msgspec.convert(tables, Tape)


def to_toml(tape: Tape) -> str:
    """Write the tape as the text of a scenario file: its reason, its keys, its tables, one ``[[fault]]`` block each."""
    tables = to_tables(tape)
    plain = {key: tables[key] for key in keys_of(Tape) if key in tables and key not in (*_ORDER, "fault")}
    blocks = [[_reason(tape.why), *(f"{key} = {text_of(value)}" for key, value in plain.items())]]
    for name, keys in _ORDER.items():
        table = tables.get(name)
        if isinstance(table, dict) and table:
            blocks.append([f"[{name}]", *lines_of(_ordered(table, keys))])
    blocks += [["[[fault]]", *lines_of(_fault(fault))] for fault in _in_order(tape.fault)]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


_ORDER: dict[str, tuple[str, ...]] = {
    "boots": keys_of(Boots),
    "timing": keys_of(Timing),
    "clients": (),
    "expect": keys_of(Expect),
}
"""The tables of a file, and the order of the keys in each."""


def _defaults(kind: type[msgspec.Struct]) -> Table:
    """The keys of a table and what each is if nobody says: ``msgspec.NODEFAULT`` where it has to be said."""
    fields = msgspec.structs.fields(kind)
    made = ((f.name, f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory()) for f in fields)
    return dict(made)


_DEFAULTS, _RACK_DEFAULTS = _defaults(Tape), _defaults(SyntheticRack)


def _changes(record: msgspec.Struct, defaults: Table) -> Table:
    """What a record has that is not its default, in declared order."""
    return {name: value for name, default in defaults.items() if (value := getattr(record, name)) != default}


def _reason(why: str) -> str:
    """The comment of the first lines; what TOML does not allow in a comment goes."""
    text = "".join(letter for letter in why if letter.isprintable() or letter.isspace())
    return textwrap.fill(
        " ".join(["Why:", *text.split()]),
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _fault(fault: Table) -> Table:
    """A fault's keys in order: its kind, its target, its times, then those of its kind."""
    kind = FAULTS.get(str(fault.get("kind")))
    return _ordered(fault, (*_COMMON, *(keys_of(kind) if kind is not None else ())))


def _ordered(table: Table, keys: tuple[str, ...]) -> Table:
    """The same table, the named keys first and in that order, the others by name."""
    return {key: table[key] for key in dict.fromkeys([*keys, *sorted(table)]) if key in table}


def _found(name: object, file: Path) -> object:
    """Name a rack or catalog so that it is found from the current directory."""
    if not isinstance(name, str) or Path(name).exists():
        return name
    found = find_file(name, file)
    return name if found is None else str(found)


def _in_order(faults: Iterable[Table]) -> list[Table]:
    """The faults in order of their times; those of one time keep theirs."""
    return sorted(faults, key=lambda fault: fault["at_ms"])  # type: ignore[arg-type,return-value]  # checked by the loader
