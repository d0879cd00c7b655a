"""Flavours of virtual machines, the mix that they come in, and the hosts that they are packed on."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Apart = Literal["node", "rack", "pdu"]
Survive = Literal["none", "node", "rack", "pdu"]
Ints = npt.NDArray[np.int64]

UNLIMITED = 1 << 60
"""What a host offers of a resource that nobody limits; a sum of a hundred thousand demands stays far below."""
AMOUNT_MAX = 1 << 50
"""No single amount of cores or bytes is larger: sums over all hosts and products with counts stay within int64."""


class Flavour(msgspec.Struct, frozen=True, kw_only=True):
    """One size of virtual machine. ``cores``: virtual cores; ``share``: its weight among the virtual machines of a mix.

    With ``members`` above 1 its machines come in groups of so many; ``apart`` keeps each group's on different nodes,
    racks or PDUs (a hard anti-affinity group).
    """

    name: str
    cores: int
    memory_bytes: int
    disk_bytes: int = 0
    share: float = 1.0
    members: int = 1
    apart: Apart | None = None

    @property
    def demand(self) -> tuple[int, int, int]:
        """What one takes: virtual cores, bytes of memory, bytes of disk."""
        return self.cores, self.memory_bytes, self.disk_bytes


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Flavours by share. ``source``: where the shares come from, for people."""

    name: str
    flavours: tuple[Flavour, ...]
    source: str = ""

    @property
    def demands(self) -> Ints:
        """What one machine of each flavour takes: int64 array, shape (flavours, 3): cores, memory, disk."""
        return np.array([flavour.demand for flavour in self.flavours], dtype=np.int64)


class Hosts(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hosts by index, as far as virtual machines may use them.

    ``room``: int64 array, shape (hosts, 3): virtual cores after oversubscription, bytes of memory, bytes of disk, each
    less what is held back. ``racks``, ``pdus``: int64 arrays, shape (hosts,), indexes into the names.
    """

    names: tuple[str, ...]
    room: Ints
    racks: Ints
    pdus: Ints
    rack_names: tuple[str, ...]
    pdu_names: tuple[str, ...]

    def __len__(self) -> int:
        """How many hosts there are."""
        return len(self.names)

    def domains(self, kind: Apart) -> Ints:
        """The domain of each host: int64 array, shape (hosts,)."""
        match kind:
            case "node":
                return np.arange(len(self), dtype=np.int64)
            case "rack":
                return self.racks
            case "pdu":
                return self.pdus

    def domain_names(self, kind: Apart) -> tuple[str, ...]:
        """Name the domains of one kind, by index."""
        match kind:
            case "node":
                return self.names
            case "rack":
                return self.rack_names
            case "pdu":
                return self.pdu_names


Amounts = Sequence[int] | Ints | int


def make_hosts(
    names: Sequence[str],
    cores: Amounts,
    memory_bytes: Amounts,
    disk_bytes: Amounts | None = None,
    racks: Sequence[str] | None = None,
    pdus: Sequence[str] | None = None,
    *,
    cores_ratio: float = 1.0,
    memory_ratio: float = 1.0,
    held_cores: Amounts = 0,
    held_memory_bytes: Amounts = 0,
    held_disk_bytes: Amounts = 0,
) -> Hosts:
    """Make hosts out of what each has: one amount for all, or one for each.

    What is held back (control plane, storage daemons) is taken off before oversubscription; what is left of a core is
    rounded down. No ``disk_bytes``: disk limits nothing. No ``racks``, ``pdus``: all hosts are in one.

    Raises: ValueError for no host, lengths that differ, amounts below 0 or absurdly large, or a ratio not above 0.
    """
    if not names:
        raise ValueError("there is no host")
    if cores_ratio <= 0 or memory_ratio <= 0:
        raise ValueError("an oversubscription ratio must be above 0")
    count = len(names)
    vcpus = np.floor(_left(cores, held_cores, count) * cores_ratio + 1e-9).astype(np.int64)
    memory = _left(memory_bytes, held_memory_bytes, count)
    if memory_ratio != 1.0:
        memory = np.floor(memory * memory_ratio).astype(np.int64)
    disk = np.full(count, UNLIMITED) if disk_bytes is None else _left(disk_bytes, held_disk_bytes, count)
    rack_names, rack_of = _indexed(racks, count, "rack 1")
    pdu_names, pdu_of = _indexed(pdus, count, "PDU 1")
    room = np.stack([vcpus, memory, disk], axis=1)
    return Hosts(names=tuple(names), room=room, racks=rack_of, pdus=pdu_of, rack_names=rack_names, pdu_names=pdu_names)


def _left(amounts: Amounts, held: Amounts, count: int) -> Ints:
    """What is left of each amount, and 0 where more is held back than there is."""
    whole, taken = (np.broadcast_to(np.asarray(values, dtype=np.int64), (count,)) for values in (amounts, held))
    if min(whole.min(), taken.min()) < 0 or max(whole.max(), taken.max()) > AMOUNT_MAX:
        raise ValueError(f"an amount is below 0 or above {AMOUNT_MAX}")
    return np.asarray(np.maximum(whole - taken, 0))


def _indexed(names: Sequence[str] | None, count: int, only: str) -> tuple[tuple[str, ...], Ints]:
    """The names in order of their first host, and the index of each host's."""
    if names is None:
        return (only,), np.zeros(count, dtype=np.int64)
    if len(names) != count:
        raise ValueError(f"{len(names)} domains for {count} hosts")
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return tuple(order), np.array([order[name] for name in names], dtype=np.int64)
