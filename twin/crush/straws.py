"""The lengths and node weights that straw and tree buckets draw with, made from their items' weights."""

from collections.abc import Sequence

WRAP = 0xFFFFFFFF


def straw_lengths(weights: Sequence[int], version: int) -> list[int]:
    """Make straw lengths, 16.16, in the items' order, as the tunable `straw_calc_version` (0, or 1 and up) has it.

    The lightest item gets a straw of 1.0, heavier ones longer ones, so that the odds come near the weights. Version 0
    counts items of equal and of zero weight wrongly, and clusters that began with it keep its lengths.

    Source: `crush_calc_straw` of Ceph 16.2 (behaviour; checked against the lengths in maps that crushtool compiles).
    """
    order = sorted(range(len(weights)), key=lambda item: (weights[item], item))
    lengths = [0] * len(weights)
    left, straw, below, before = len(weights), 1.0, 0.0, 0
    for at, item in enumerate(order):
        weight = weights[item]
        if weight == 0:
            left -= 1 if version >= 1 else 0
            continue
        lengths[item] = int(straw * 0x10000) & WRAP
        if at + 1 == len(order):
            break
        heavier = weights[order[at + 1]]
        if version == 0 and heavier == weight:
            continue
        below += (float(weight) - before) * left
        left -= 1 if version >= 1 else sum(1 for other in order[at + 1 :] if weights[other] == heavier)
        above = float((left * (heavier - weight)) & WRAP)  # the original multiplies in 32 bits
        straw *= (1.0 / (below / (below + above))) ** (1.0 / left) if left else 1.0
        before = weight
    return lengths


def tree_weights(weights: Sequence[int]) -> list[int]:
    """Make the node weights of a tree bucket: item ``i`` is node ``2 * i + 1``, an inner node the sum of its two.

    The count of nodes is a power of two, and the root is node ``count / 2``; node 0 is not used.

    Source: `crush_make_tree_bucket` of Ceph 16.2 (behaviour).
    """
    if not weights:
        return []
    depth = (len(weights) - 1).bit_length() + 1
    nodes = [0] * (1 << depth)
    for item, weight in enumerate(weights):
        nodes[2 * item + 1] = weight
    for level in range(1, depth):
        half = 1 << (level - 1)
        for node in range(1 << level, len(nodes), 1 << (level + 1)):
            nodes[node] = (nodes[node - half] + nodes[node + half]) & WRAP
    return nodes
