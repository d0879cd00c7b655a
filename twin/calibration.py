"""The timings of the twin, each with where it came from: ``twin/calibration.toml``, loaded into frozen records.

Every entry is a table ``{value = ...}`` or ``{min, p50, p90, max}`` plus ``source``. A part of the world asks for its
own section as a record of its own type: ``calibration.section("storage", StorageTimes)``.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec

from core.errors import InputError
from formats.kept import Kept
from formats.load import read_toml
from formats.problems import nearest
from twin.streams import Stream

R = TypeVar("R", bound=msgspec.Struct)
DEFAULT = Path(__file__).with_name("calibration.toml")

SERVICE = "service"
SERVICE_TIMES = ("start_ms", "recovery_ms", "stop_ms")
"""What a section ``service`` may hold (``formats.catalog.ServiceTiming``); the twin's own file has none."""


class Sampled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number: either a fixed ``value``, or measured quantiles. The unit is the last word of its name."""

    source: str
    value: float | None = None
    min: float | None = None
    p50: float | None = None
    p90: float | None = None
    max: float | None = None

    @property
    def number(self) -> float:
        """The value itself, or the median of a measured quantity."""
        if self.value is not None:
            return self.value
        assert self.p50 is not None
        return self.p50

    @property
    def ms(self) -> int:
        """The number, rounded to an int."""
        return int(self.number + 0.5)

    @property
    def ms_max(self) -> int:
        """The largest value that ``draw`` returns."""
        return int((self.number if self.max is None else self.max) + 0.5)

    def real(self, stream: Stream) -> float:
        """Draw from the distribution that is linear between the quantiles; the value itself if it is fixed."""
        if self.value is not None:
            return self.value
        lo, p50, p90, hi = self.min, self.p50, self.p90, self.max
        assert lo is not None
        assert p50 is not None
        assert p90 is not None
        assert hi is not None
        u = stream.uniform()
        if u < 0.5:
            return lo + (p50 - lo) * u * 2.0
        if u < 0.9:
            return p50 + (p90 - p50) * (u - 0.5) * 2.5
        return p90 + (hi - p90) * (u - 0.9) * 10.0

    def draw(self, stream: Stream) -> int:
        """Draw an int (milliseconds, where the name says so), rounded half up."""
        return int((self.real(stream) if self.value is None else self.value) + 0.5)


class Calibration:
    """All quantities by dotted name, ``section.name``."""

    def __init__(self, quantities: Mapping[str, Sampled]) -> None:
        self.quantities: Mapping[str, Sampled] = MappingProxyType(dict(quantities))
        self._sections: dict[tuple[str, type[msgspec.Struct]], msgspec.Struct] = {}

    def __getitem__(self, name: str) -> Sampled:
        """Return a quantity. Raises: KeyError if the file has none of that name, which is a bug of the caller."""
        return self.quantities[name]

    def section(self, name: str, record: type[R]) -> R:
        """Return one section as a record whose fields are ``Sampled``, ``int`` or ``float``, named as in the file.

        Raises: InputError if the section lacks a field or has one that the record does not know.
        """
        kept = self._sections.get((name, record))
        if kept is None:
            kept = self._sections[name, record] = self._section(name, record)
        assert isinstance(kept, record)
        return kept

    def _section(self, name: str, record: type[R]) -> R:
        found = {key.partition(".")[2]: entry for key, entry in self.quantities.items() if key.startswith(f"{name}.")}
        fields = {field.name: field for field in msgspec.structs.fields(record)}
        problems = [
            f"calibration: {name}.{key}: missing" for key in fields if key not in found and fields[key].required
        ]
        problems += [
            f"calibration: {name}.{key}: unknown; allowed: {', '.join(fields)}" for key in found if key not in fields
        ]
        if problems:
            raise InputError(problems)
        values: dict[str, object] = {}
        for key, entry in found.items():
            kind = fields[key].type
            values[key] = entry.ms if kind is int else entry.number if kind is float else entry
        return record(**values)

    def of_service(self, service: str, name: str, default: Sampled) -> Sampled:
        """How long one of SERVICE_TIMES takes: as calibrated for this service, else for all, else ``default``."""
        own = self.quantities.get(f"{SERVICE}.{service}.{name}")
        return own or self.quantities.get(f"{SERVICE}.{name}") or default

    def replaced(self, changes: Mapping[str, Sampled]) -> "Calibration":
        """Return a copy with some quantities replaced or added."""
        return Calibration({**self.quantities, **changes})


def load(path: Path = DEFAULT) -> Calibration:
    """Read a calibration file.

    Raises: InputError with every problem of the file.
    """
    return _kept(path)


def _load(path: Path) -> Calibration:
    problems: list[str] = []
    quantities = _read(path, problems)
    if problems:
        raise InputError(problems)
    return Calibration(quantities)


_kept = Kept(_load)


def load_over(path: Path) -> Calibration:
    """Read a file that replaces some quantities of the twin's own, for example one that ``twin fit`` wrote.

    It may also time the services, in place of the catalog: ``[service]`` all of them, ``[service.NAME]`` one.

    Raises: InputError with every problem of the file.
    """
    base = load()
    problems: list[str] = []
    changes = _read(path, problems)
    for name in changes:
        service = name.startswith(f"{SERVICE}.") and name.rpartition(".")[2] in SERVICE_TIMES
        if name not in base.quantities and not service:
            known = [*base.quantities, *(f"{SERVICE}.{time}" for time in SERVICE_TIMES)]
            hint = nearest(name, known)
            problems.append(f"{path}: {name}: no such quantity; allowed: those of {DEFAULT.name}{hint}")
    if problems:
        raise InputError(problems)
    return base.replaced(changes)


def _read(path: Path, problems: list[str]) -> dict[str, Sampled]:
    """All quantities of a file; each problem with one is noted."""
    tables = read_toml(path, "a calibration file")
    quantities: dict[str, Sampled] = {}
    for section, entries in tables.items():
        if not isinstance(entries, dict):
            problems.append(f"{path}: {section}: a section (table of quantities) is expected")
            continue
        for key, entry in entries.items():
            if section == SERVICE and key not in SERVICE_TIMES and isinstance(entry, dict):
                for time, own in entry.items():
                    _take(path, f"{section}.{key}.{time}", own, quantities, problems)
            else:
                _take(path, f"{section}.{key}", entry, quantities, problems)
    return quantities


def _take(path: Path, name: str, entry: object, into: dict[str, Sampled], problems: list[str]) -> None:
    try:
        quantity = msgspec.convert(entry, Sampled)
    except msgspec.ValidationError as error:
        problems.append(f"{path}: {name}: {error}; allowed: source and value, or source, min, p50, p90, max")
        return
    problem = _problem(quantity)
    if problem:
        problems.append(f"{path}: {name}: {problem}")
    else:
        into[name] = quantity


def _problem(quantity: Sampled) -> str:
    quantiles = [q for q in (quantity.min, quantity.p50, quantity.p90, quantity.max) if q is not None]
    if not quantity.source.strip():
        return "source is empty: say where the number comes from"
    if (quantity.value is None) == (not quantiles):
        return "needs either value, or min, p50, p90 and max"
    if quantiles and (len(quantiles) != 4 or quantiles != sorted(quantiles)):
        return "min, p50, p90 and max are all needed, in rising order"
    if min(quantiles or [quantity.number]) < 0:
        return "must not be negative"
    return ""
