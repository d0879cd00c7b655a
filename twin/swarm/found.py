"""What came of one campaign: small and plain, so that thousands of them travel between processes."""

import msgspec

from trial.verdict import Verdict


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One failover: of which service, for which cause, and how long from the cause to serving again."""

    service: str
    cause: str
    total_ms: int


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one campaign. Two runs of one seed give equal ones, wherever and with how many workers.

    ``broken``: the first check, expectation or invariant that does not hold, "convergence" or "crash"; "" if all hold.
    Two failures with the same verdict and the same ``broken`` are the same failure (for shrinking). ``detail`` says it
    in words. ``kinds``: the kinds of fault that were planned, each once, by name. ``reached``: the names of the rare
    situations that occurred (``twin.swarm.sometimes``).
    """

    seed: int
    verdict: Verdict
    broken: str
    detail: str
    nodes: int
    faults: int
    sim_ms: int
    digest: str
    kinds: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    unavailable_ms: dict[str, int] = {}
