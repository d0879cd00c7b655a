"""Mix files: the flavours that users ask for and their shares, oversubscription, and what each host holds back."""

from pathlib import Path
from typing import Annotated

import msgspec

from formats.load import Name, build, read_toml
from formats.problems import Problems
from twin.packing.records import Apart, Flavour, Mix

GIB = 1 << 30
Ratio = Annotated[float, msgspec.Meta(gt=0, le=100, description="a ratio above 0, up to 100")]
Gib = Annotated[float, msgspec.Meta(ge=0, le=65_536, description="GiB")]
FLAVOURS_MAX = 1_000


class FlavourTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[flavour]]``: one size of virtual machine."""

    name: Name
    cores: Annotated[int, msgspec.Meta(ge=1, le=4_096)]
    memory_gib: Annotated[float, msgspec.Meta(ge=1 / 1024, le=65_536)]
    disk_gb: Annotated[float, msgspec.Meta(ge=0, le=10**6)] = 0.0
    share: Annotated[float, msgspec.Meta(gt=0, le=10**6)] = 1.0
    members: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    apart: Apart | None = None


class HeldTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[held]``: what each host keeps for itself, and more for each storage daemon on it."""

    cores: Annotated[int, msgspec.Meta(ge=0, le=4_096)] = 0
    memory_gib: Gib = 0.0
    cores_per_osd: Annotated[float, msgspec.Meta(ge=0, le=64)] = 0.0
    memory_gib_per_osd: Gib = 0.0
    source: str = ""


class MixTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole mix file."""

    name: Name
    source: str = ""
    cores_ratio: Ratio = 1.0
    memory_ratio: Ratio = 1.0
    held: HeldTable = HeldTable()
    flavour: tuple[FlavourTable, ...] = ()


class MixFile(msgspec.Struct, frozen=True, kw_only=True):
    """A mix and how hosts are filled with it: virtual cores for each core, and what is held back."""

    mix: Mix
    cores_ratio: float = 1.0
    memory_ratio: float = 1.0
    held: HeldTable = HeldTable()


def load_mix(path: Path) -> MixFile:
    """Read a mix file.

    Raises: InputError with every problem of the file.
    """
    problems = Problems(str(path))
    tables = build(read_toml(path, "a mix file"), MixTables, problems)
    if tables is None:
        problems.check()
        raise AssertionError("a problem was noted")
    if not tables.flavour:
        problems.say("flavour is missing; needed: at least one [[flavour]]")
    if len(tables.flavour) > FLAVOURS_MAX:
        problems.say(f"{len(tables.flavour)} flavours; allowed: {FLAVOURS_MAX} at most")
    seen: dict[str, int] = {}
    for index, flavour in enumerate(tables.flavour):
        if flavour.name in seen:
            problems.add(f"flavour[{index}].name", flavour.name, f"already that of flavour[{seen[flavour.name]}]")
        seen.setdefault(flavour.name, index)
        if flavour.members > 1 and flavour.apart is None:
            problems.say(f'flavour[{index}].apart is missing; needed with members: "node", "rack" or "pdu"')
        if flavour.apart is not None and flavour.members == 1:
            problems.add(f"flavour[{index}].members", 1, "needed with apart: at least 2")
    problems.check()
    return MixFile(
        mix=Mix(name=tables.name, source=tables.source, flavours=tuple(_flavour(one) for one in tables.flavour)),
        cores_ratio=tables.cores_ratio,
        memory_ratio=tables.memory_ratio,
        held=tables.held,
    )


def _flavour(table: FlavourTable) -> Flavour:
    return Flavour(
        name=table.name,
        cores=table.cores,
        memory_bytes=round(table.memory_gib * GIB),
        disk_bytes=round(table.disk_gb * 10**9),
        share=table.share,
        members=table.members,
        apart=table.apart,
    )
