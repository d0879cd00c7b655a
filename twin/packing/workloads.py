"""Workloads of real clouds, read from files by path: what each machine asked for, when it came, how long it stayed.

Three forms are known by their first line: Azure's vmtable (no header), one machine of Bitbrains' GWA-T-12 (a series,
separated by semicolons), and OpenDC's tasks. Files may be gzip or xz.
"""

import csv
import gzip
import lzma
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import TextIO

import msgspec
import numpy as np

from core.errors import InputError
from formats.problems import show
from twin.packing.records import AMOUNT_MAX, Flavour, Ints, Mix
from twin.table import Table

ROWS_MAX = 5_000_000
TASKS_HEADER = ("id", "submission_time", "duration", "cpu_count", "cpu_capacity", "mem_capacity")
BITBRAINS_FIRST = "Timestamp [ms]"
AZURE_COLUMNS = 11
AZURE_CORES_OVER, AZURE_GIB_OVER = {">24": 30.0}, {">64": 70.0}
"""The last buckets of the second data set, read as its own notebook reads them."""
MIB, GIB = 1 << 20, 1 << 30
LARGEST_TASK_MIB = 64 << 20
"""No machine has 64 TiB: a memory column with more than that in MiB is in KiB, as Bitbrains' is."""
LATEST = 1 << 53


class Workload(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Machines in order of arrival (then of the file): int64 arrays, shape (machines,). ``notes``: how it was read."""

    name: str
    source: str
    cores: Ints
    memory_bytes: Ints
    arrival_ms: Ints
    duration_ms: Ints
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """How many machines there are."""
        return len(self.cores)

    def mix(self) -> tuple[Mix, Ints]:
        """Return the different demands as flavours with their shares, and the flavour of each machine."""
        demands = np.stack((self.cores, self.memory_bytes), axis=1)
        kinds, flavour_of, counts = np.unique(demands, axis=0, return_inverse=True, return_counts=True)
        flavours = tuple(
            Flavour(name=f"{cores}c-{_size(memory)}", cores=cores, memory_bytes=memory, share=float(count))
            for (cores, memory), count in zip(kinds.tolist(), counts.tolist(), strict=True)
        )
        return Mix(name=self.name, flavours=flavours, source=self.source), flavour_of.reshape(-1).astype(np.int64)

    def events(self) -> Iterator[int]:
        """Yield ``i`` when machine i comes and ``~i`` when it goes, in order of time; at one time they go first."""
        leaving: list[tuple[int, int]] = []
        for index, (came, stays) in enumerate(zip(self.arrival_ms.tolist(), self.duration_ms.tolist(), strict=True)):
            while leaving and leaving[0][0] <= came:
                yield ~heappop(leaving)[1]
            yield index
            heappush(leaving, (came + stays, index))
        while leaving:
            yield ~heappop(leaving)[1]

    def table(self) -> Table:
        """Return the machines as a table."""
        columns = {
            "arrival_ms": self.arrival_ms,
            "duration_ms": self.duration_ms,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
        }
        return Table(
            columns,
            units={"arrival_ms": "ms", "duration_ms": "ms", "memory_bytes": "bytes"},
            title=f"{self.name}: machines",
        )


def _size(memory_bytes: int) -> str:
    return f"{memory_bytes / GIB:g}GiB" if memory_bytes % (GIB // 4) == 0 else f"{memory_bytes // MIB}MiB"


def read_workload(path: Path) -> Workload:
    """Read one file of machines, or of one machine.

    Raises: InputError with file, line and field if it is missing, truncated, of an unknown form, or holds no machine.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise InputError([f"{path}: is empty; needed: machines, one a line"])
    head = first[1]
    if head[0].strip().startswith(BITBRAINS_FIRST):
        return _bitbrains(path, rows)
    if tuple(cell.strip() for cell in head) == TASKS_HEADER:
        return _tasks(path, rows)
    if len(head) == AZURE_COLUMNS:
        return _azure(path, first, rows)
    allowed = f"Azure's vmtable ({AZURE_COLUMNS} columns), {','.join(TASKS_HEADER)}, or Bitbrains' {BITBRAINS_FIRST}"
    said = f"{path}: line 1: {len(head)} columns starting with {show(head[0])}; allowed: {allowed}"
    raise InputError([said])


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines with their numbers, split into fields."""
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if number > ROWS_MAX:
                    raise InputError([f"{path}: has more than {ROWS_MAX} lines; allowed: that many"])
                text = line.strip()
                if text:
                    yield number, next(csv.reader([text], delimiter=";" if ";" in text else ","))
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "is cut off"
        raise InputError([f"{path}: cannot be read ({reason}); needed: a workload file, whole"]) from None


def _opened(path: Path) -> TextIO:
    match path.suffix:
        case ".gz":
            return gzip.open(path, "rt", encoding="utf-8", newline="")
        case ".xz":
            return lzma.open(path, "rt", encoding="utf-8", newline="")
        case _:
            return path.open(encoding="utf-8", newline="")


class _Line:
    """One line: its fields as numbers, or the InputError that says which is none."""

    def __init__(self, path: Path, number: int, fields: Sequence[str], names: Sequence[str]) -> None:
        self.path, self.number, self.fields, self.names = path, number, fields, names
        if len(fields) != len(names):
            wanted = f"{len(names)} ({', '.join(names)})"
            raise InputError([f"{path}: line {number}: {len(fields)} columns; needed: {wanted}"])

    def real(self, name: str, low: float, high: float, words: dict[str, float] | None = None) -> float:
        text = self.fields[self.names.index(name)].strip()
        try:
            value = (words or {}).get(text) or float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            said = f"{self.path}: line {self.number}: {name} = {show(text)}: allowed: a number from {low:g} to {high:g}"
            raise InputError([said])
        return value


def _workload(path: Path, name: str, rows: list[tuple[int, int, int, int]], notes: tuple[str, ...]) -> Workload:
    """Put (arrival, duration, cores, bytes) in order of arrival; times count from the first."""
    if not rows:
        raise InputError([f"{path}: holds no machine; needed: at least one"])
    table = np.array(rows, dtype=np.int64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Workload(
        name=name,
        source=str(path),
        arrival_ms=table[:, 0] - table[0, 0],
        duration_ms=table[:, 1],
        cores=table[:, 2],
        memory_bytes=table[:, 3],
        notes=notes,
    )


_AZURE = (
    "vm id",
    "subscription id",
    "deployment id",
    "vm created",
    "vm deleted",
    "max cpu",
    "avg cpu",
    "p95 max cpu",
    "vm category",
    "vm core count",
    "vm memory",
)


def _azure(path: Path, first: tuple[int, list[str]], rows: Iterator[tuple[int, list[str]]]) -> Workload:
    """Azure's trace: seconds, cores and GiB. Source: AzurePublicDataset, vmtable."""
    found = []
    for number, fields in (first, *rows):
        line = _Line(path, number, fields, _AZURE)
        came = line.real("vm created", 0, LATEST / 1000)
        gone = line.real("vm deleted", came, LATEST / 1000)
        cores = line.real("vm core count", 0, 4_096, AZURE_CORES_OVER)
        memory = line.real("vm memory", 0, 65_536, AZURE_GIB_OVER)
        found.append((round(came * 1000), round((gone - came) * 1000), max(1, round(cores)), round(memory * GIB)))
    return _workload(path, "azure", found, ("times in seconds, memory in GiB",))


def _tasks(path: Path, rows: Iterator[tuple[int, list[str]]]) -> Workload:
    """OpenDC's tasks: milliseconds, cores, and memory in MiB, or in KiB if it cannot be MiB."""
    found, largest = [], 0.0
    for number, fields in rows:
        line = _Line(path, number, fields, TASKS_HEADER)
        memory = line.real("mem_capacity", 0, AMOUNT_MAX / MIB)
        largest = max(largest, memory)
        cores = max(1, round(line.real("cpu_count", 0, 4_096)))
        came, stays = (round(line.real(name, 0, LATEST)) for name in ("submission_time", "duration"))
        found.append((came, stays, cores, memory))
    unit, word = (MIB, "MiB") if largest <= LARGEST_TASK_MIB else (1024, "KiB")
    return _workload(
        path,
        path.name.split(".")[0],
        [(came, stays, cores, round(memory * unit)) for came, stays, cores, memory in found],
        (f"mem_capacity in {word}",),
    )


_BITBRAINS = (
    BITBRAINS_FIRST,
    "CPU cores",
    "CPU capacity provisioned [MHZ]",
    "CPU usage [MHZ]",
    "CPU usage [%]",
    "Memory capacity provisioned [KB]",
    "Memory usage [KB]",
    "Disk read throughput [KB/s]",
    "Disk write throughput [KB/s]",
    "Network received throughput [KB/s]",
    "Network transmitted throughput [KB/s]",
)


def _bitbrains(path: Path, rows: Iterator[tuple[int, list[str]]]) -> Workload:
    """One machine of GWA-T-12: it is there from its first sample to its last, with the most it was provisioned."""
    times: list[float] = []
    cores = memory = 0.0
    for number, fields in rows:
        line = _Line(path, number, fields, _BITBRAINS)
        times.append(line.real(BITBRAINS_FIRST, 0, LATEST))
        cores = max(cores, line.real("CPU cores", 0, 4_096))
        memory = max(memory, line.real("Memory capacity provisioned [KB]", 0, AMOUNT_MAX / 1024))
    if not times:
        raise InputError([f"{path}: holds no sample; needed: at least one"])
    scale = 1000 if max(times) < 1e11 else 1
    came, gone = round(min(times) * scale), round(max(times) * scale)
    notes = ("timestamps are seconds, whatever the header says",) if scale == 1000 else ()
    row = (came, gone - came, max(1, round(cores)), round(memory * 1024))
    return _workload(path, path.name.split(".")[0], [row], notes)
