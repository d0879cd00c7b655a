"""A CRUSH hierarchy while it is changed, as Ceph's monitors change it: ids, weights, weight-sets and shadow trees."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from core.errors import InputError
from formats.problems import nearest, one_of
from twin.crush.map import Bucket, ChooseArgs, CrushMap, Device, Rule, Take
from twin.crush.shadows import add_shadows


@dataclass
class Weighed:
    """The choose_args of one bucket: rows of item weights by position, and hashed ids if any."""

    rows: list[list[int]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


class Tree:
    """The buckets of a map without their shadows, which follow from them when the map is made again.

    Source: ``CrushWrapper`` of Ceph 16.2 (behaviour): ``insert_item``, ``remove_item``, ``move_bucket``,
    ``adjust_item_weight``, ``rebuild_roots_with_classes``.
    """

    def __init__(self, crush: CrushMap) -> None:
        """Take a map apart."""
        self.crush = crush
        self.names = {device.name: device.id for device in crush.devices}
        self.class_of = {device.id: device.device_class for device in crush.devices if device.device_class}
        self.rules = list(crush.rules)
        by_name = {bucket.name: bucket for bucket in crush.buckets}
        shadows = [bucket for bucket in crush.buckets if "~" in bucket.name]
        self.shadow_ids: dict[tuple[int, str], int] = {}
        for shadow in shadows:
            original, _, device_class = shadow.name.partition("~")
            if original in by_name:
                self.shadow_ids[by_name[original].id, device_class] = shadow.id
        self.buckets = {bucket.id: bucket for bucket in crush.buckets if "~" not in bucket.name}
        self.shadows = shadows
        self.weights_changed = False
        self.classes = self._classes()
        self.parents: dict[int, list[int]] = {}
        for bucket in self.buckets.values():
            for item in bucket.items:
                self.parents.setdefault(item, []).append(bucket.id)
        self.weighed = {
            name: {
                one.bucket: Weighed([list(row) for row in one.weight_sets], list(one.ids))
                for one in found
                if one.bucket in self.buckets
            }
            for name, found in crush.choose_args.items()
        }

    def _classes(self) -> list[str]:
        """The device classes in the order of their numbers, which no dump shows: that of the shadows made for them."""
        first: dict[str, int] = {}
        for (_, device_class), shadow in self.shadow_ids.items():
            first[device_class] = max(shadow, first.get(device_class, shadow))
        unknown = sorted(set(self.class_of.values()) - set(first))
        return sorted(first, key=lambda name: -first[name]) + unknown

    def bucket(self, name: str, key: str) -> Bucket:
        """Find a bucket by name. Raises: InputError, naming ``key``, if there is none."""
        for found in self.buckets.values():
            if found.name == name:
                return found
        names = [bucket.name for bucket in self.buckets.values()]
        raise InputError([f'{key} = "{name}": not in the map; allowed: {one_of(names)}{nearest(name, names)}'])

    def type_of(self, name: str, key: str) -> int:
        """Find a type's number by its name. Raises: InputError, naming ``key``, if there is none."""
        for number, known in self.crush.types.items():
            if known == name:
                return number
        names = self.crush.types.values()
        raise InputError([f'{key} = "{name}": no such type; allowed: {one_of(names)}{nearest(name, names)}'])

    def add_device(self, number: int, device_class: str) -> None:
        """Name a device and set its class, before it has a place: so a booting OSD does it."""
        self.names[f"osd.{number}"] = number
        if device_class:
            self.set_class(number, device_class)

    def set_class(self, number: int, device_class: str) -> None:
        """Change a device's class; a class that is new gets its shadow trees now, before any bucket to come."""
        self.class_of[number] = device_class
        if device_class not in self.classes:
            self.classes.append(device_class)
            self._reshadow()

    def add_bucket(self, name: str, type_id: int, parent: Bucket, filled: bool) -> Bucket:
        """Add an empty straw2 bucket below another one, with the first free id, and its shadows.

        ``filled``: devices follow at once, so that it takes part in the weight-sets; an empty one never does.
        """
        if name in self.names or any(bucket.name == name for bucket in self.buckets.values()):
            raise InputError([f'name = "{name}": there is one already; allowed: a new name'])
        taken = set(self.buckets) | {shadow.id for shadow in self.shadows}
        number = next(-1 - at for at in range(len(taken) + 1) if -1 - at not in taken)
        self.buckets[number] = Bucket(id=number, name=name, type_id=type_id, alg="straw2", items=(), weights=())
        for found in self.weighed.values() if filled else ():
            found[number] = Weighed([[] for _ in range(self._positions(found))])
        self.insert(number, parent.id, 0)
        self._reshadow()
        return self.buckets[number]

    def insert(self, item: int, parent: int, weight: int) -> None:
        """Append an item to a bucket and add its weight all the way up; a device's weight-set weights are the same."""
        bucket = self._editable(parent)
        self._replace(bucket, (*bucket.items, item), (*bucket.weights, 0))
        self.parents.setdefault(item, []).append(parent)
        for found in self.weighed.values():
            if parent in found:
                for row in found[parent].rows:
                    row.append(0)
                if found[parent].ids:
                    found[parent].ids.append(item)
        self._weigh_in(parent, item, weight, sets=item >= 0)

    def weigh(self, device: int, weight: int) -> None:
        """Set a device's weight wherever it is, and the weights of all above it to their sums; weight-sets too."""
        for parent in self.parents.get(device, ()):
            self._weigh_in(parent, device, weight, sets=True)

    def _weigh_in(self, parent: int, item: int, weight: int, sets: bool) -> None:
        bucket = self._editable(parent)
        place = bucket.items.index(item)
        self._replace(bucket, bucket.items, (*bucket.weights[:place], weight, *bucket.weights[place + 1 :]))
        for above in self.parents.get(parent, ()):
            self._weigh_in(above, parent, self.buckets[parent].weight, sets=False)
        for found in self.weighed.values():
            for row in found[parent].rows if sets and parent in found else ():
                row[place] = weight
        self.weights_changed = True

    def _sum_up(self, found: dict[int, Weighed]) -> None:
        """Make the weight-sets of all buckets add up, as every change of a weight does.

        If one bucket has a weight-set, those without get their own weights as one.
        """
        positions = self._positions(found)
        for bucket in self.buckets.values():
            one = found.setdefault(bucket.id, Weighed())
            one.rows = one.rows or [list(bucket.weights) for _ in range(positions)]
        for bucket in self._inner_first():
            for place, item in enumerate(bucket.items):
                sums = [sum(row) for row in found[item].rows] if item < 0 else []
                if len(sums) == len(found[bucket.id].rows):
                    for row, total in zip(found[bucket.id].rows, sums, strict=True):
                        row[place] = total

    def _inner_first(self) -> list[Bucket]:
        """All buckets, each after those in it."""
        order: dict[int, Bucket] = {}
        waiting = list(self.buckets.values())
        for _ in range(len(waiting) + 1):
            ready = [bucket for bucket in waiting if all(item >= 0 or item in order for item in bucket.items)]
            order |= {bucket.id: bucket for bucket in ready}
            waiting = [bucket for bucket in waiting if bucket.id not in order]
            if not ready:
                break
        return list(order.values())

    def _positions(self, found: dict[int, Weighed]) -> int:
        """How many positions the first bucket has that has a weight-set; 1 if none has."""
        return next((len(found[at].rows) for at in sorted(found, reverse=True) if found[at].rows), 1)

    def detach(self, item: int) -> None:
        """Take an item out of wherever it is, and its weight off all above."""
        for parent in self.parents.get(item, ()):
            self._weigh_in(parent, item, 0, sets=True)
            bucket = self.buckets[parent]
            place = bucket.items.index(item)
            self._replace(
                bucket,
                (*bucket.items[:place], *bucket.items[place + 1 :]),
                (*bucket.weights[:place], *bucket.weights[place + 1 :]),
            )
            for found in self.weighed.values():
                if parent in found:
                    for row in found[parent].rows:
                        del row[place]
                    del found[parent].ids[place : place + 1]
        self.parents.pop(item, None)

    def remove_device(self, number: int) -> None:
        """Remove a device from the map altogether."""
        self.detach(number)
        self.names = {name: known for name, known in self.names.items() if known != number}
        self.class_of.pop(number, None)

    def remove_bucket(self, bucket: Bucket) -> None:
        """Remove an empty bucket. Raises: InputError if it is not empty, or a rule starts from it."""
        starts = {step.item for rule in self.rules for step in rule.steps if isinstance(step, Take)}
        own = {bucket.id, *(shadow for (number, _), shadow in self.shadow_ids.items() if number == bucket.id)}
        if self.buckets[bucket.id].items:
            raise InputError([f'"{bucket.name}" is not empty; only an empty bucket can be removed'])
        if own & starts:
            raise InputError([f'"{bucket.name}" is where a rule starts; it cannot be removed'])
        self.detach(bucket.id)
        del self.buckets[bucket.id]
        for found in self.weighed.values():
            found.pop(bucket.id, None)
        self.shadow_ids = {key: shadow for key, shadow in self.shadow_ids.items() if key[0] != bucket.id}
        self._reshadow()

    def move(self, bucket: Bucket, parent: Bucket) -> None:
        """Put a bucket below another one, where it comes last.

        Its weight is carried as a float of 24 bits, as Ceph does; its weight-set weights go with it.
        Raises: InputError if that would be a loop.
        """
        above = [parent.id]
        for _ in range(len(self.buckets) + 1):
            if bucket.id in above:
                raise InputError([f'"{bucket.name}" cannot be put below itself or what it holds ("{parent.name}")'])
            above = [one for number in above for one in self.parents.get(number, ())]
        weight = int(np.float32(bucket.weight))
        self.detach(bucket.id)
        self.insert(bucket.id, parent.id, weight)

    def _editable(self, number: int) -> Bucket:
        bucket = self.buckets[number]
        if bucket.alg in ("uniform", "tree"):
            raise InputError(
                [f'"{bucket.name}": its algorithm is {bucket.alg}; allowed for a change: straw2, straw, list']
            )
        return bucket

    def _replace(self, bucket: Bucket, items: tuple[int, ...], weights: tuple[int, ...]) -> None:
        self.buckets[bucket.id] = Bucket(
            id=bucket.id, name=bucket.name, type_id=bucket.type_id, alg=bucket.alg, items=items, weights=weights
        )

    def _reshadow(self) -> None:
        """Make the shadow trees again. Old ones keep their ids; a class that nothing uses any more loses its own."""
        starts = {step.item for rule in self.rules for step in rule.steps if isinstance(step, Take)}
        in_rules = {name for (_, name), shadow in self.shadow_ids.items() if shadow in starts}
        in_use = in_rules | set(self.class_of.values())
        self.classes = [name for name in self.classes if name in in_use]
        self.shadows, self.shadow_ids = add_shadows(
            tuple(self.buckets.values()), self.classes, self.class_of, self.shadow_ids
        )

    def made(self) -> CrushMap:
        """Put the map together again, buckets in the order of Ceph's own dump."""
        for found in self.weighed.values():
            if self.weights_changed and any(one.rows for one in found.values()):
                self._sum_up(found)
        self._reshadow()
        old = {bucket.id: bucket for bucket in self.crush.buckets}
        buckets = [old[new.id] if old.get(new.id) == new else new for new in (*self.buckets.values(), *self.shadows)]
        devices = sorted(self.names.items(), key=lambda pair: pair[1])
        return CrushMap(
            devices=tuple(
                Device(id=number, name=name, device_class=self.class_of.get(number, "")) for name, number in devices
            ),
            types=self.crush.types,
            buckets=tuple(sorted(buckets, key=lambda bucket: -bucket.id)),
            rules=tuple(self.rules),
            tunables=self.crush.tunables,
            choose_args={name: self._choose_args(found) for name, found in self.weighed.items()},
        )

    def _choose_args(self, found: dict[int, Weighed]) -> tuple[ChooseArgs, ...]:
        """Write one set down, with that of the shadows: devices as in the original, buckets by their sums."""
        originals = {shadow: number for (number, _), shadow in self.shadow_ids.items()}
        sums: dict[int, list[int]] = {}
        made = {
            number: ChooseArgs(bucket=number, weight_sets=tuple(map(tuple, one.rows)), ids=tuple(one.ids))
            for number, one in found.items()
            if one.rows or one.ids
        }
        for shadow in self.shadows:
            original = self.buckets[originals[shadow.id]]
            rows = found[original.id].rows if original.id in found else []
            if not rows:
                continue
            own = [
                tuple(
                    row[original.items.index(item)] if item >= 0 else _sum_at(sums.get(item, [0]), position)
                    for item in shadow.items
                )
                for position, row in enumerate(rows)
            ]
            sums[shadow.id] = [sum(row) for row in own]
            made[shadow.id] = ChooseArgs(bucket=shadow.id, weight_sets=tuple(own))
        return tuple(made[number] for number in sorted(made, reverse=True))


def _sum_at(sums: Sequence[int], position: int) -> int:
    """The sum for a position; the last one also for those beyond."""
    return sums[min(position, len(sums) - 1)]


def free_rule(rules: Sequence[Rule]) -> int:
    """Return the id that Ceph gives to the next rule: the first free one."""
    taken = {rule.id for rule in rules}
    return next(number for number in range(len(taken) + 1) if number not in taken)
