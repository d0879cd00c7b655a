"""Hosts from a rack file, from OpenDC's description of a site, or from three numbers."""

import json
import re
from pathlib import Path

from core.errors import InputError
from formats.problems import show
from formats.rack import load_rack
from twin.packing.mix import GIB, HeldTable, MixFile
from twin.packing.records import AMOUNT_MAX, Hosts, make_hosts

HOSTS_MAX = 200_000
FILE_BYTES_MAX = 64 << 20
_UNITS = {
    "bytes": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
BARE_UNIT = 1 << 20
"""A memory size without a unit counts MiB, as the memory of OpenDC's tasks does."""


def read_hosts(path: Path, file: MixFile) -> Hosts:
    """Read hosts from a rack file (``.toml``) or a topology (``.json``), less what the mix file holds back.

    Raises: InputError with file and field.
    """
    if path.suffix == ".json":
        return _topology(path, file)
    return _rack(path, file)


def equal_hosts(count: int, cores: int, memory_bytes: int, per_rack: int, file: MixFile) -> Hosts:
    """Make ``count`` equal hosts, ``per_rack`` to a rack, each rack on PDUs of its own in turn (two a rack)."""
    racks = [index // per_rack + 1 for index in range(count)]
    wide = len(str(racks[-1]))
    names = [f"r{rack:0{wide}d}n{index % per_rack + 1}" for index, rack in enumerate(racks)]
    pdus = [f"r{rack:0{wide}d}p{index % 2 + 1}" for index, rack in enumerate(racks)]
    held = file.held
    return make_hosts(
        names,
        cores,
        memory_bytes,
        racks=[f"r{rack:0{wide}d}" for rack in racks],
        pdus=pdus,
        cores_ratio=file.cores_ratio,
        memory_ratio=file.memory_ratio,
        held_cores=held.cores,
        held_memory_bytes=round(held.memory_gib * GIB),
    )


def _rack(path: Path, file: MixFile) -> Hosts:
    """Servers of a rack file; what they hold back grows with their OSDs. Their disks belong to the storage."""
    servers = load_rack(path).nodes
    osds = [len(server.osd_disks) for server in servers]
    return make_hosts(
        [server.id for server in servers],
        [server.spec.cores for server in servers],
        [server.spec.memory_bytes for server in servers],
        racks=[server.spec.rack for server in servers],
        pdus=[server.spec.power_domain for server in servers],
        cores_ratio=file.cores_ratio,
        memory_ratio=file.memory_ratio,
        held_cores=[_held_cores(file.held, count) for count in osds],
        held_memory_bytes=[_held_memory(file.held, count) for count in osds],
    )


def _held_cores(held: HeldTable, osds: int) -> int:
    return held.cores + -(-round(held.cores_per_osd * osds * 1_000) // 1_000)


def _held_memory(held: HeldTable, osds: int) -> int:
    return round((held.memory_gib + held.memory_gib_per_osd * osds) * GIB)


def _topology(path: Path, file: MixFile) -> Hosts:
    """OpenDC's JSON: clusters of hosts, each cluster taken for a rack. Source: OpenDC, topology format."""
    site = _json(path)
    names: list[str] = []
    cores: list[int] = []
    memory: list[int] = []
    racks: list[str] = []
    for at, cluster in enumerate(_list(path, "clusters", site, "clusters")):
        rack = str(cluster.get("name", f"C{at + 1:02d}"))[:80]
        for index, host in enumerate(_list(path, f"clusters[{at}].hosts", cluster, "hosts")):
            where = f"clusters[{at}].hosts[{index}]"
            count = _count(path, f"{where}.count", host.get("count", 1))
            cpu = _table(path, where, host, "cpu")
            each = _count(path, f"{where}.cpu.coreCount", cpu.get("coreCount"))
            each *= _count(path, f"{where}.cpu.count", cpu.get("count", 1))
            size = _memory(path, f"{where}.memory.memorySize", _table(path, where, host, "memory"))
            if len(names) + count > HOSTS_MAX:
                raise InputError([f"{path}: {where}.count: more than {HOSTS_MAX} hosts; allowed: that many"])
            name = str(host.get("name", f"host{index + 1}"))[:80]
            names += [f"{rack}-{name}-{number}" if count > 1 else name for number in range(1, count + 1)]
            cores += [each] * count
            memory += [size] * count
            racks += [rack] * count
    if not names:
        raise InputError([f"{path}: clusters: hold no host; needed: at least one"])
    return make_hosts(
        names,
        cores,
        memory,
        racks=racks,
        cores_ratio=file.cores_ratio,
        memory_ratio=file.memory_ratio,
        held_cores=file.held.cores,
        held_memory_bytes=round(file.held.memory_gib * GIB),
    )


def _json(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError([f"{path}: is larger than {FILE_BYTES_MAX} bytes; needed: a topology"])
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError([f"{path}: cannot be read ({error.strerror}); needed: a topology"]) from None
    except (ValueError, RecursionError) as error:
        raise InputError([f"{path}: is not JSON ({error}); needed: a topology"]) from None
    if not isinstance(found, dict):
        raise InputError([f"{path}: is {show(found)}; needed: an object with clusters"])
    return found


def _list(path: Path, where: str, table: dict[str, object], key: str) -> list[dict[str, object]]:
    found = table.get(key)
    if found is None:
        raise InputError([f"{path}: {where} is missing; needed: an array of objects"])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError([f"{path}: {where} = {show(found)}: needed: an array of objects"])
    return found


def _table(path: Path, where: str, table: dict[str, object], key: str) -> dict[str, object]:
    found = table.get(key)
    if found is None:
        raise InputError([f"{path}: {where}.{key} is missing; needed: an object"])
    if not isinstance(found, dict):
        raise InputError([f"{path}: {where}.{key} = {show(found)}: needed: an object"])
    return found


def _count(path: Path, where: str, value: object) -> int:
    if value is None:
        raise InputError([f"{path}: {where} is missing; allowed: a whole number from 1 to {HOSTS_MAX}"])
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= HOSTS_MAX:
        raise InputError([f"{path}: {where} = {show(value)}: allowed: a whole number from 1 to {HOSTS_MAX}"])
    return value


def _memory(path: Path, where: str, memory: dict[str, object]) -> int:
    value = memory.get("memorySize")
    if value is None:
        raise InputError([f"{path}: {where} is missing; needed: the memory of a host"])
    size: float = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value * BARE_UNIT
    elif isinstance(value, str) and (found := re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", value)):
        size = round(float(found[1]) * _UNITS.get(found[2].lower() or "mib", -1))
    if not 0 < size <= AMOUNT_MAX:
        raise InputError([f'{path}: {where} = {show(value)}: allowed: MiB as a number, or a string as in "512 GiB"'])
    return int(size)
