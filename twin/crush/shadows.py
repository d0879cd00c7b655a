"""Shadow trees: for each device class, a copy of the hierarchy that holds only the devices of that class."""

from collections.abc import Mapping, Sequence

from twin.crush.map import Bucket


def add_shadows(
    buckets: Sequence[Bucket],
    classes: Sequence[str],
    class_of: Mapping[int, str],
    known: Mapping[tuple[int, str], int],
) -> tuple[list[Bucket], dict[tuple[int, str], int]]:
    """Make the shadow buckets of all roots and classes, as Ceph does.

    ``classes``: in the order of their numbers. ``class_of``: by device id. ``known``: ids that shadows had before, by
    (bucket, class); a new one gets the highest free id below 0. Returns the shadows, inner ones first, and all shadow
    ids by (bucket, class). Buckets without a device of the class have a shadow too, with weight 0.

    Source: `CrushWrapper::populate_classes`, `device_class_clone` of Ceph 16.2 (behaviour).
    """
    made = _Shadows(buckets, class_of, known)
    inside = {item for bucket in buckets for item in bucket.items}
    roots = sorted(bucket.id for bucket in buckets if bucket.id not in inside and "~" not in bucket.name)
    for root in roots:
        for name in classes:
            made.clone(root, name)
    return made.buckets, made.ids


class _Shadows:
    """The shadows made so far, and the ids that are taken."""

    def __init__(
        self, buckets: Sequence[Bucket], class_of: Mapping[int, str], known: Mapping[tuple[int, str], int]
    ) -> None:
        self.originals = {bucket.id: bucket for bucket in buckets}
        self.class_of, self.known = class_of, known
        self.taken = set(self.originals) | set(known.values())
        self.buckets: list[Bucket] = []
        self.ids: dict[tuple[int, str], int] = {}
        self.weights: dict[int, int] = {}

    def clone(self, item_id: int, name: str) -> int:
        """Make the shadow of a bucket and of all below it, inner ones first; return its id."""
        if (item_id, name) in self.ids:
            return self.ids[item_id, name]
        original = self.originals[item_id]
        items, weights = [], []
        for item, weight in zip(original.items, original.weights, strict=True):
            if item < 0:
                items.append(self.clone(item, name))
                weights.append(self.weights[items[-1]])
            elif self.class_of.get(item) == name:
                items.append(item)
                weights.append(weight)
        own = self.known.get((item_id, name)) or self._free()
        self.taken.add(own)
        self.ids[item_id, name], self.weights[own] = own, sum(weights)
        shadow = Bucket(
            id=own,
            name=f"{original.name}~{name}",
            type_id=original.type_id,
            alg=original.alg,
            items=tuple(items),
            weights=tuple(weights),
        )
        self.buckets.append(shadow)
        return own

    def _free(self) -> int:
        item_id = -1
        while item_id in self.taken:
            item_id -= 1
        return item_id
