"""A CRUSH map as data: devices, buckets, rules and tunables, with weights in 16.16 fixed point as Ceph holds them."""

from typing import Literal

import msgspec

ONE = 0x10000
"""The weight 1.0 in 16.16 fixed point."""
NONE = 0x7FFFFFFF
"""No item at this position: `CRUSH_ITEM_NONE`, a hole in an indep result, padding in a firstn result."""

Algorithm = Literal["uniform", "list", "tree", "straw", "straw2"]
Choice = Literal["choose_firstn", "choose_indep", "chooseleaf_firstn", "chooseleaf_indep"]
Setting = Literal[
    "set_choose_tries",
    "set_chooseleaf_tries",
    "set_choose_local_tries",
    "set_choose_local_fallback_tries",
    "set_chooseleaf_vary_r",
    "set_chooseleaf_stable",
]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A storage daemon's place in the map. ``device_class`` is "" where it has none."""

    id: int
    name: str
    device_class: str = ""


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """An inner node, ``id`` < 0. ``weights``: one for each item, 16.16.

    For a uniform bucket all weights are equal. The weights that straw (lengths) and tree (node weights) buckets draw
    with follow from these and are made when the map is compiled for use. ``straws``: the lengths that a binary map
    holds for a straw bucket, in 16.16, which rule even if the weights or the tunable would now give others.
    """

    id: int
    name: str
    type_id: int
    alg: Algorithm
    items: tuple[int, ...]
    weights: tuple[int, ...]
    straws: tuple[int, ...] = ()

    @property
    def weight(self) -> int:
        """The sum of the items' weights."""
        return sum(self.weights)


class Take(msgspec.Struct, frozen=True, kw_only=True, tag="take"):
    """Start from this bucket or device. With a device class, ``item`` is already the shadow bucket."""

    item: int


class Choose(msgspec.Struct, frozen=True, kw_only=True, tag="choose"):
    """Choose ``num`` items of a type (0 or less: as many as asked for, less so many)."""

    how: Choice
    num: int
    type_id: int


class Set(msgspec.Struct, frozen=True, kw_only=True, tag="set"):
    """Change a tunable for the steps that follow."""

    what: Setting
    value: int


class Emit(msgspec.Struct, frozen=True, kw_only=True, tag="emit"):
    """Hand out what has been chosen."""


class Unsupported(msgspec.Struct, frozen=True, kw_only=True, tag="unsupported"):
    """Do what this version knows only by name (MSR steps): to map by such a rule is an error."""

    operation: str


Step = Take | Choose | Set | Emit | Unsupported


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How the replicas or shards of a pool are spread. ``type_id``: 1 replicated, 3 erasure.

    ``size_min`` and ``size_max``: the numbers of replicas it was meant for; Ceph no longer heeds them, crushtool does.
    """

    id: int
    name: str
    type_id: int
    steps: tuple[Step, ...]
    size_min: int = 1
    size_max: int = 10


class Tunables(msgspec.Struct, frozen=True, kw_only=True):
    """The tunables that a mapping depends on; the defaults are Ceph's "jewel" profile, in use since 2016."""

    choose_local_tries: int = 0
    choose_local_fallback_tries: int = 0
    choose_total_tries: int = 50
    chooseleaf_descend_once: int = 1
    chooseleaf_vary_r: int = 1
    chooseleaf_stable: int = 1
    straw_calc_version: int = 1


class ChooseArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Other weights and ids for the draws of one straw2 bucket (the balancer's weight-set).

    ``weight_sets``: one tuple of item weights for each position, the last one also for those beyond. ``ids``: hashed
    instead of the items' own, if any.
    """

    bucket: int
    weight_sets: tuple[tuple[int, ...], ...] = ()
    ids: tuple[int, ...] = ()


class CrushMap(msgspec.Struct, frozen=True, kw_only=True):
    """A whole map. ``types``: names by type id. ``choose_args``: sets of them by name (a pool id, or "-1": default)."""

    devices: tuple[Device, ...]
    types: dict[int, str]
    buckets: tuple[Bucket, ...]
    rules: tuple[Rule, ...]
    tunables: Tunables = Tunables()
    choose_args: dict[str, tuple[ChooseArgs, ...]] = {}

    @property
    def device_count(self) -> int:
        """How many device numbers there are: the highest id and one (`max_devices`)."""
        return max((device.id for device in self.devices), default=-1) + 1
