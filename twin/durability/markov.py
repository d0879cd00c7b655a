"""Mean time to data loss by continuous-time Markov chain, without a subtraction, so it is exact however rare loss is.

The chain counts the failed shards of one group. Solving its equations with a general solver loses all digits where
repair is 10^5 times faster than failure (a published table has negative times there); these recursions only add,
multiply and divide positive numbers.
Source of the idea: W. Grassmann, M. Taksar, D. Heyman: Regenerative analysis and steady state distributions for Markov
chains, Operations Research 33(5), 1985.
"""

from typing import Literal

import msgspec
import numpy as np

Repair = Literal["serial", "parallel"]


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """Replication or erasure coding.

    ``shards``: copies, or data and coding shards; ``tolerance``: how many may be lost.
    """

    shards: int
    tolerance: int

    @property
    def name(self) -> str:
        """Name the code as in "3 copies" or "4+2"."""
        data = self.shards - self.tolerance
        return f"{self.shards} copies" if data == 1 else f"{data}+{self.tolerance}"


def replicated(copies: int) -> Code:
    """Return n-way replication."""
    return Code(shards=copies, tolerance=copies - 1)


def erasure(data: int, coding: int) -> Code:
    """Return an erasure code of ``data`` and ``coding`` shards."""
    return Code(shards=data + coding, tolerance=coding)


def _rates(code: Code, mttf_hours: float, mttr_hours: float, repair: Repair) -> list[tuple[float, float]]:
    """Rates per hour, (up, down) in the number of failed shards, for each state before loss."""
    at_once = [min(failed, 1) if repair == "serial" else failed for failed in range(code.tolerance + 1)]
    return [((code.shards - failed) / mttf_hours, at_once[failed] / mttr_hours) for failed in range(len(at_once))]


def mttdl_hours(code: Code, mttf_hours: float, mttr_hours: float, repair: Repair) -> float:
    """Return the mean time from all shards whole to data loss, in hours.

    ``mttf_hours``, ``mttr_hours``: of one shard's disk. ``repair``: one shard at a time, or all at once.
    """
    total, step = 0.0, 0.0
    for up, down in _rates(code, mttf_hours, mttr_hours, repair):
        step = (1.0 + down * step) / up
        total += step
    return total


def loss_within(code: Code, mttf_hours: float, mttr_hours: float, repair: Repair, hours: float) -> float:
    """Return the chance that a group is lost within ``hours``, all shards whole at the start.

    The transition matrix of a short step has only positive terms (uniformization); squaring it keeps them so.
    """
    rates = _rates(code, mttf_hours, mttr_hours, repair)
    size = len(rates) + 1
    fastest = max(up + down for up, down in rates)
    squarings = max(0, int(np.ceil(np.log2(max(fastest * hours, 1e-300) / 0.25))))
    jump = fastest * hours / 2.0**squarings
    chain = np.zeros((size, size))
    chain[-1, -1] = 1.0
    for state, (up, down) in enumerate(rates):
        chain[state, state + 1] = up / fastest
        if state:
            chain[state, state - 1] = down / fastest
        chain[state, state] = 1.0 - (up + down) / fastest
    step, term = np.eye(size), np.eye(size)
    for order in range(1, 40):
        term = term @ chain * (jump / order)
        step = step + term
    step /= step.sum(axis=1, keepdims=True)
    for _ in range(squarings):
        step = step @ step
        step /= step.sum(axis=1, keepdims=True)
    return float(step[0, -1])
