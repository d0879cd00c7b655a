"""The parts of a scenario file whose schema depends on other files: faults, timers, expectations."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from core.notes import NOTES
from core.specs import Timing
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.load import MS_MAX, build, keys_of
from formats.problems import Problems, join, nearest, one_of, text_table
from trial import targets
from trial.fault import F, Fault, Planned
from trial.gates import check_gates


def read_faults(
    value: object,
    faults: Mapping[str, type[F]],
    rack: RackFile | None,
    catalog: Catalog | None,
    problems: Problems,
) -> tuple[Planned[F], ...]:
    """Read each ``[[fault]]`` by the schema of its kind, one of ``faults``."""
    planned = []
    for index, table in enumerate(value if isinstance(value, list) else []):
        if isinstance(table, dict):
            one = _fault(table, f"fault[{index}]", faults, rack, catalog, problems)
            planned += [one] if one is not None else []
    return tuple(planned)


def _fault(
    table: dict[str, object],
    key: str,
    faults: Mapping[str, type[F]],
    rack: RackFile | None,
    catalog: Catalog | None,
    problems: Problems,
) -> Planned[F] | None:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in faults:
        if kind is None:
            problems.say(f"{key}.kind is missing; needed: one of {one_of(faults)}")
        else:
            problems.add(f"{key}.kind", kind, f"no such fault; allowed: {one_of(faults)}", faults)
        _common(table, key, rack, catalog, problems)
        return None
    fault: F | None = build({k: v for k, v in table.items() if k != "kind"}, faults[kind], problems, key)
    terms: tuple[targets.Target, ...] = ()
    target = table.get("target", "")
    if isinstance(target, str) and rack is not None and catalog is not None:
        terms = _target(kind, faults[kind], target, key, rack, catalog, problems)
        if fault is not None:
            fault.check(rack, catalog, key, problems)
    return Planned(kind=kind, fault=fault, terms=terms) if fault is not None else None


def _common(
    table: dict[str, object], key: str, rack: RackFile | None, catalog: Catalog | None, problems: Problems
) -> None:
    """Note what is wrong with the keys that every fault has, where the kind is unknown."""
    build({name: value for name, value in table.items() if name in keys_of(Fault)}, Fault, problems, key)
    target = table.get("target")
    if isinstance(target, str) and rack is not None and catalog is not None:
        targets.check(target, rack, catalog, f"{key}.target", problems)


def _target(
    kind: str, fault: type[Fault], target: str, key: str, rack: RackFile, catalog: Catalog, problems: Problems
) -> tuple[targets.Target, ...]:
    """Read the target of a fault; it must be there if the fault strikes something, and of the right sort."""
    if fault.STRIKES == "none":
        if target:
            problems.add(f"{key}.target", target, f"allowed: none, {kind} strikes the whole rack")
        return ()
    if not target:
        if fault.TARGET_NEEDED:
            problems.say(f'{key}.target is missing; needed: for example "n3", "holder-of:mariadb", "switch:s1"')
        return ()
    terms = targets.check(target, rack, catalog, f"{key}.target", problems)
    if fault.STRIKES == "switches" and any(term.kind != "switch" for term in terms):
        problems.add(f"{key}.target", target, 'allowed: switches, for example "switch:s1"')
    return terms


def read_timing(table: object, problems: Problems) -> Timing:
    """The protocol's timers with the scenario's changes."""
    changes: dict[str, int] = {}
    for name, value in text_table(table).items():
        key = join("timing", name)
        if name not in keys_of(Timing):
            hint = nearest(name, keys_of(Timing))
            problems.add(key, value, f"no such key; allowed: {one_of(keys_of(Timing))}{hint}")
        elif type(value) is not int or not 1 <= value <= MS_MAX:
            problems.add(key, value, f"allowed: a whole number from 1 to {MS_MAX}")
        else:
            changes[name] = value
    return msgspec.structs.replace(Timing(), **changes)


def check_expect(
    table: object, faults: Iterable[str], rack: RackFile | None, catalog: Catalog | None, problems: Problems
) -> None:
    """Note services, causes, notes and numbers in ``[expect]`` that cannot be; ``faults``: the kinds there are."""
    expect = text_table(table)
    singletons = [str(service) for service in catalog.singletons] if catalog is not None else None
    check_gates(expect.get("failover_ms"), singletons, faults, "expect.failover_ms", problems)
    for name in ("failovers", "unavailable_ms"):
        for service, value in text_table(expect.get(name)).items():
            key = join(f"expect.{name}", service)
            if singletons is not None and service not in singletons:
                hint = nearest(service, singletons)
                problems.add(key, value, f"no such singleton; allowed: {one_of(singletons)}{hint}")
            elif name == "failovers" and isinstance(value, list) and len(value) == 2 and _reversed(value):
                problems.add(key, value, "allowed: [least, most] with least <= most")
    for name in ("sometimes", "never"):
        notes = expect.get(name)
        for index, note in enumerate(notes if isinstance(notes, list) else []):
            if isinstance(note, str) and note not in NOTES:
                problems.add(f"expect.{name}[{index}]", note, f"no such note; allowed: {one_of(NOTES)}", NOTES)
    joined = expect.get("joined")
    if type(joined) is int and rack is not None and joined > len(rack.nodes):
        problems.add("expect.joined", joined, f"allowed: at most {len(rack.nodes)}, the nodes of the rack")


def _reversed(value: list[object]) -> bool:
    least, most = value
    return type(least) is int and type(most) is int and least > most


def check_times(duration_ms: int, faults: Sequence[Planned[F]], problems: Problems) -> None:
    """Note faults that would strike after the fault phase."""
    for index, planned in enumerate(faults):
        if planned.fault.at_ms >= duration_ms:
            allowed = f"allowed: less than duration_ms = {duration_ms}, when everything is healed"
            problems.add(f"fault[{index}].at_ms", planned.fault.at_ms, allowed)
