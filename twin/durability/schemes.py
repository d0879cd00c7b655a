"""Replication schemes and the copysets they make: the chance that a share of the nodes, lost at once, takes data along.

Source of schemes, parameters and formulas: A. Cidon, S. Rumble, R. Stutsman, S. Katti, J. Ousterhout, M. Rosenblum:
Copysets: reducing the frequency of data loss in cloud storage, USENIX ATC 2013 (sections 1 to 4, table 1).
"""

import math
from itertools import combinations
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Nodes = npt.NDArray[np.int32]
Style = Literal["random", "window", "copyset", "chained"]


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """A way to choose the nodes of a chunk.

    ``scatter_width``: how many other nodes hold copies of one node's data; None means all. ``style``:

    * random: any nodes; as many copysets as the scatter width allows, or as there are chunks if those are fewer;
    * window: a node and others out of the ``scatter_width`` nodes that follow it;
    * copyset: permutations of the nodes, cut into copysets;
    * chained: a node and those that follow it.
    """

    name: str
    style: Style
    replicas: int = 3
    scatter_width: int | None = None
    chunks_per_node: int = 10_000

    def count(self, nodes: int) -> float:
        """Return the number of copysets; not whole where the scheme does not divide the nodes evenly."""
        width = min(nodes - 1, self.scatter_width if self.scatter_width is not None else nodes - 1)
        match self.style:
            case "random":
                wide = nodes * math.comb(width + 1, self.replicas - 1) if self.scatter_width is not None else math.inf
                return min(float(wide), nodes * self.chunks_per_node / self.replicas, math.comb(nodes, self.replicas))
            case "window":
                return float(nodes * math.comb(width, self.replicas - 1))
            case "copyset":
                return nodes * width / (self.replicas * (self.replicas - 1))
            case "chained":
                return float(nodes)


PUBLISHED = {
    "Facebook_random": Scheme(name="Facebook HDFS, random", style="random", scatter_width=10),
    "Facebook_copyset": Scheme(name="Facebook HDFS, copyset", style="copyset", scatter_width=10),
    "HDFS_random": Scheme(name="HDFS, random", style="random", scatter_width=200),
    "HDFS_copyset": Scheme(name="HDFS, copyset", style="copyset", scatter_width=200),
    "RAMCloud_random": Scheme(name="RAMCloud, random", style="random", chunks_per_node=8_000),
    "RAMCloud_copyset": Scheme(name="RAMCloud-style, copyset", style="copyset", scatter_width=2, chunks_per_node=8_000),
    "chained": Scheme(name="chained", style="chained"),
}
"""Cidon et al., table 1: replication 3, chunks of each node, scatter width. Names as in figures 1 and 6."""


def loss_closed_form(nodes: int, failed: int, replicas: int, copysets: float) -> float:
    """Return the chance that ``failed`` of the nodes, chosen at random, hold at least one whole copyset.

    Each of the C(failed, replicas) sets that are gone is a copyset with chance copysets / C(nodes, replicas); the sets
    are taken as independent. Exact for copysets drawn at random; for others an approximation.
    """
    share = copysets / math.comb(nodes, replicas)
    if share >= 1.0:
        return float(failed >= replicas)
    return -math.expm1(math.comb(failed, replicas) * math.log1p(-share))


def make_copysets(scheme: Scheme, nodes: int, rng: np.random.Generator) -> Nodes:
    """Make the copysets of a cluster. Returns int32, shape (copysets, replicas), each row sorted, no row twice."""
    match scheme.style:
        case "random":
            return _at_random(nodes, scheme.replicas, round(scheme.count(nodes)), rng)
        case "window":
            return _windows(nodes, scheme.replicas, min(nodes - 1, scheme.scatter_width or nodes - 1))
        case "copyset":
            return _permutations(nodes, scheme, rng)
        case "chained":
            starts = np.arange(nodes, dtype=np.int32)[:, None]
            return np.unique(np.sort((starts + np.arange(scheme.replicas, dtype=np.int32)) % nodes, axis=1), axis=0)


def _at_random(nodes: int, replicas: int, count: int, rng: np.random.Generator) -> Nodes:
    """Draw ``count`` different sets, each as likely as any other."""
    if math.comb(nodes, replicas) <= 4 * count:
        every = np.array(list(combinations(range(nodes), replicas)), dtype=np.int32)
        return every[np.sort(rng.choice(len(every), count, replace=False))]
    found = np.empty((0, replicas), dtype=np.int32)
    for _ in range(1_000):
        drawn = rng.integers(0, nodes, (max(64, 2 * (count - len(found))), replicas), dtype=np.int32)
        drawn.sort(axis=1)
        fresh = drawn[(np.diff(drawn, axis=1) > 0).all(axis=1)]
        merged = np.concatenate([found, fresh])
        powers = nodes ** np.arange(replicas, dtype=np.int64)
        _, first = np.unique(merged @ powers, return_index=True)
        found = merged[np.sort(first)][:count]
        if len(found) == count:
            return found
    raise ValueError(f"{count} different copysets of {replicas} in {nodes} nodes were not found")


def _windows(nodes: int, replicas: int, width: int) -> Nodes:
    picks = np.array(list(combinations(range(width), replicas - 1)), dtype=np.int32) + 1
    starts = np.arange(nodes, dtype=np.int32)
    others = (starts[:, None, None] + picks[None]) % nodes
    whole = np.concatenate([np.broadcast_to(starts[:, None, None], (nodes, len(picks), 1)), others], axis=2)
    return np.unique(np.sort(whole.reshape(-1, replicas), axis=1), axis=0)


def _permutations(nodes: int, scheme: Scheme, rng: np.random.Generator) -> Nodes:
    width = min(nodes - 1, scheme.scatter_width if scheme.scatter_width is not None else nodes - 1)
    rounds = math.ceil(width / (scheme.replicas - 1))
    whole = nodes - nodes % scheme.replicas
    rows = [rng.permutation(nodes)[:whole].reshape(-1, scheme.replicas) for _ in range(rounds)]
    return np.unique(np.sort(np.concatenate(rows).astype(np.int32), axis=1), axis=0)
