"""Where hosts and OSDs stand in a CRUSH map's hierarchy, its shadow trees left out."""

import msgspec

from twin.crush.map import CrushMap


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """The hierarchy of a map: the bucket above each item, and each bucket's name, type and number."""

    above: dict[int, int]
    names: dict[int, str]
    types: dict[int, str]

    def ancestor(self, item: int, kind: str) -> int | None:
        """The nearest bucket of a type above an item, or None. ``O(levels)``."""
        for _ in range(len(self.names)):
            if item not in self.above:
                return None
            item = self.above[item]
            if self.types[item] == kind:
                return item
        return None


def tree_of(crush: CrushMap) -> Tree:
    """Read the hierarchy out of a map. ``O(buckets + items)``."""
    real = [bucket for bucket in crush.buckets if "~" not in bucket.name]
    return Tree(
        above={item: bucket.id for bucket in real for item in bucket.items},
        names={bucket.id: bucket.name for bucket in real},
        types={bucket.id: crush.types.get(bucket.type_id, "") for bucket in real},
    )


def host_of_osds(crush: CrushMap) -> dict[int, str]:
    """Name the host of each OSD that stands in the map: its bucket of type host, or itself if there is none."""
    tree = tree_of(crush)
    hosts: dict[int, str] = {}
    for device in crush.devices:
        if device.id in tree.above:
            host = tree.ancestor(device.id, "host")
            hosts[device.id] = tree.names[host] if host is not None else device.name
    return hosts
