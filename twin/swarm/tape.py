"""Fault tapes: one campaign as an ordinary scenario, written out in full, so that no later draw can change it."""

from pathlib import Path

import msgspec

from formats.synthetic import SyntheticRack
from twin.scenario import Scenario, scenario_of

Table = dict[str, object]
"""One TOML table, of the values that TOML knows."""


class Tape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a campaign is, key by key as in its scenario file (``trial.scenario.ScenarioTables``).

    ``seed`` is that of the world's own streams (latencies, losses). ``fault`` holds the tables of all faults, in order
    of ``at_ms``; their targets are nodes, or roles that are resolved when they strike, never a draw ("one").
    """

    why: str
    seed: int
    rack: str | SyntheticRack
    catalog: str
    duration_ms: int
    nodes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    start: str = "warm"
    fidelity: str = "campaign"
    heal_ms: int = 600_000
    timing: dict[str, int] = {}
    clients: dict[str, int] = {}
    expect: Table = {}
    fault: tuple[Table, ...] = ()


def to_tables(tape: Tape) -> Table:
    """Return the tables of the tape's file, without its reason, which is a comment there."""
    tables: Table = msgspec.to_builtins(tape, builtin_types=())
    del tables["why"]
    tables.setdefault("fidelity", tape.fidelity)
    return _lists(tables)


def to_scenario(tape: Tape, folder: Path = Path()) -> Scenario:
    """Return the scenario that a file of this tape in ``folder`` would be.

    Raises: InputError if the tape, its rack or its catalog is not right.
    """
    return scenario_of(to_tables(tape), folder / f"{tape.seed}.toml", tape.why)


def read_tape(path: Path) -> Tape:
    """Read a scenario file or folder as a tape. Raises: InputError with every problem of it."""
    raise NotImplementedError


def to_toml(tape: Tape) -> str:
    """Write the tape as the text of a scenario file, one fault a block, keys in a fixed order."""
    raise NotImplementedError


def _lists(tables: Table) -> Table:
    """Lists where there are tuples, as TOML would have them."""
    return {key: [dict(one) for one in value] if key == "fault" else value for key, value in tables.items()}  # type: ignore[attr-defined]
