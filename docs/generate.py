"""Writes docs/generated from the tables in the code; the tidy tests fail when it is not fresh (``make docs``)."""

import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path

import msgspec

import core
from core.effects import AnyEffect
from core.events import AnyEvent
from core.notes import NOTES
from twin.faults.base import Fault

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "generated"
DRIVERS_INDEX = ROOT / "docs" / "drivers" / "README.md"
NOTICE = "<!-- Written by docs/generate.py (make docs); do not edit. -->\n"


def pages() -> dict[str, str]:
    """Render every page: file name to its text."""
    from core.invariants import INVARIANTS
    from twin.checkers import CHECKERS
    from twin.faults import FAULTS
    from twin.swarm.sometimes import SOMETIMES

    return {
        "states.md": states_page(),
        "messages.md": messages_page(),
        "faults.md": page(
            "Faults",
            "What can be done to the simulated rack, each in one file of `twin/faults/`. "
            "Beside `kind`, `target`, `at_ms`, `for_ms`, `times` and `every_ms` they have keys of their own, "
            "listed with defaults.",
            ("kind", "what happens", "keys", "scenarios"),
            [(f"`{kind}`", told(fault), keys(fault), users(kind)) for kind, fault in items(FAULTS)],
        ),
        "invariants.md": page(
            "Invariants",
            "What one machine checks about its own view, in the twin, in every test and in production.",
            ("invariant", "what holds"),
            [(f"`{name}`", told(check)) for name, check in items(INVARIANTS)],
        ),
        "checkers.md": page(
            "Checkers",
            "What the twin checks against the truth of the simulated rack, which no node knows. The numbers "
            "are those of [the rules](../RULES.md).",
            ("checker", "rule", "what holds"),
            [(f"`{checker.name}`", checker.rule, checker.text) for checker in CHECKERS],
        ),
        "sometimes.md": page(
            "Sometimes",
            "Rare situations that a good campaign of random faults must reach: a swarm of 2,000 campaigns that misses "
            "one of those its profile lists fails, for it has shown too little. The numbers are those of "
            "[the rules](../RULES.md).",
            ("situation", "rule", "what happened"),
            [(f"`{one.name}`", one.rule, one.text) for one in SOMETIMES],
        ),
        "scenarios.md": page(
            "Scenarios",
            "Each is a folder of `scenarios/` with a `scenario.toml`; `twin run scenarios/NAME` runs one.",
            ("scenario", "why", "faults", "verdict"),
            [scenario_row(path) for path in scenarios()],
        ),
        "notes.md": page(
            "Notes",
            "The facts that a machine states about itself, for timelines and for `sometimes` in scenarios.",
            ("note", "meaning"),
            [(f"`{name}`", text) for name, text in NOTES.items()],
        ),
    }


def drivers_index() -> str:
    """Render the index of the drivers: one row for each line of ``drivers/registry.py``."""
    from drivers.registry import DRIVERS

    def needs(names: Iterable[str]) -> str:
        return ", ".join(f"`{name}`" for name in names)

    rows = [
        (
            f"[`{driver.name}`]({driver.page})",
            driver.port,
            driver.technology,
            needs(driver.modules),
            needs(driver.programs),
            needs(driver.debian),
        )
        for driver in DRIVERS
    ]
    lead = (
        "The real rack that the core runs in. Each driver carries out one port of `core/ports.py`; `rack check` looks "
        "for what it needs. The commands are on [a page of their own](rack.md). To add a driver, write "
        "`drivers/<technology>.py` and its page here, add a line to `drivers/registry.py`, and run `make docs` and the "
        "port's contract suite."
    )
    return page("Drivers", lead, ("driver", "port", "technology", "Python", "programs", "Debian packages"), rows)


def page(title: str, lead: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render one table with its title."""
    return f"{NOTICE}\n# {title}\n\n{lead}\n\n{table(head, rows)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def items(registry: Mapping[str, object] | Iterable[object]) -> list[tuple[str, object]]:
    """List a registry's names with what they stand for, in its own order."""
    if isinstance(registry, Mapping):
        return list(registry.items())
    return [(str(getattr(entry, "name", None) or getattr(entry, "__name__", entry)), entry) for entry in registry]


def told(entry: object) -> str:
    """Say what an entry is: the first paragraph of its docstring, as one line."""
    text = inspect.getdoc(entry) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


def keys(fault: object) -> str:
    """List the keys of a fault's record with their defaults."""
    if not (isinstance(fault, type) and issubclass(fault, msgspec.Struct)):
        return ""
    shown = []
    common = [field.name for field in msgspec.structs.fields(Fault)]
    for field in msgspec.structs.fields(fault):
        if field.name in common:
            continue
        if field.default is not msgspec.NODEFAULT:
            shown.append(f"`{field.encode_name} = {msgspec.json.encode(field.default).decode()}`")
        elif field.default_factory is msgspec.NODEFAULT:
            shown.append(f"`{field.encode_name}`")
    return ", ".join(shown)


def scenarios() -> list[Path]:
    """List the scenario files by name."""
    return sorted((ROOT / "scenarios").glob("*/scenario.toml"))


def users(kind: str) -> str:
    """Name the scenarios that use a fault."""
    return ", ".join(path.parent.name for path in scenarios() if kind in kinds(path))


def kinds(path: Path) -> list[str]:
    """List the fault kinds of a scenario, each once, in order of use."""
    file = tomllib.loads(path.read_text(encoding="utf-8"))
    return list(dict.fromkeys(str(fault["kind"]) for fault in file.get("fault", [])))


def why(path: Path) -> str:
    """Read the reason in a scenario's first lines, without the word in front."""
    text = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text.append(line.lstrip("# ").rstrip())
    return " ".join(text).removeprefix("Why:").strip()


def scenario_row(path: Path) -> tuple[str, str, str, str]:
    """Render one scenario's row."""
    expect = tomllib.loads(path.read_text(encoding="utf-8")).get("expect", {})
    used = ", ".join(f"`{kind}`" for kind in kinds(path))
    link = f"[{path.parent.name}](../../scenarios/{path.parent.name}/scenario.toml)"
    return link, why(path), used, str(expect.get("verdict", "pass"))


def states_page() -> str:
    """Draw every transition table of the core, as a diagram and as a table."""
    parts = [f"{NOTICE}\n# State machines\n\nDrawn from the `TRANSITIONS` tables of the core.\n"]
    for name in sorted(module.name for module in pkgutil.iter_modules(core.__path__, "core.")):
        module = importlib.import_module(name)
        transitions: dict[tuple[object, str], object] | None = getattr(module, "TRANSITIONS", None)
        if transitions and "TRANSITIONS: dict" in inspect.getsource(module):
            parts.append(states_section(name, (module.__doc__ or "").split("\n\n")[0].strip(), transitions))
    return "\n".join(parts)


def states_section(name: str, text: str, transitions: Mapping[tuple[object, str], object]) -> str:
    """Render one table of transitions: a mermaid diagram, then its rows."""
    edges: dict[tuple[str, str], list[str]] = {}
    rows = []
    for (before, trigger), after in transitions.items():
        edges.setdefault((word(before), word(after)), []).append(str(trigger).replace("_", " "))
        rows.append((word(before), str(trigger).replace("_", " "), word(after)))
    first = word(next(iter(transitions))[0])
    drawn = "".join(f"    {a} --> {b}: {', '.join(triggers)}\n" for (a, b), triggers in edges.items())
    diagram = f"```mermaid\nstateDiagram-v2\n    [*] --> {first}\n{drawn}```\n"
    return f"## `{name}`\n\n{text}\n\n{diagram}\n{table(('state', 'trigger', 'next state'), rows)}"


def word(state: object) -> str:
    """Name a state."""
    return str(state.value if isinstance(state, Enum) else state)


def messages_page() -> str:
    """List every event and every effect with its fields."""
    parts = [f"{NOTICE}\n# Events and effects\n\nThe whole interface of a machine, and the journal's wire format.\n"]
    for title, union in (("Events", AnyEvent), ("Effects", AnyEffect)):
        rows = []
        for record in union.__args__:
            fields = ", ".join(
                f"`{field.encode_name}`" for field in msgspec.structs.fields(record) if field.name != "at_ms"
            )
            own = record.__doc__ if "__doc__" in record.__dict__ else ""
            rows.append((f"`{record.__name__}`", " ".join((own or "").split()), fields))
        parts.append(f"## {title}\n\n{table((title.lower()[:-1], 'meaning', 'fields'), rows)}")
    return "\n".join(parts)


def main() -> None:
    """Write the pages and remove those that no longer exist."""
    OUT.mkdir(parents=True, exist_ok=True)
    rendered = pages()
    for stale in sorted(path for path in OUT.glob("*.md") if path.name not in rendered):
        stale.unlink()
    for name, text in rendered.items():
        (OUT / name).write_text(text, encoding="utf-8")
    DRIVERS_INDEX.write_text(drivers_index(), encoding="utf-8")
    print(f"wrote {len(rendered)} pages to {OUT.relative_to(ROOT)}, and {DRIVERS_INDEX.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
