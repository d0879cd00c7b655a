"""What came of a run: the verdict, its exit code, and the one object that ``--json`` prints in either world."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Verdict = Literal["pass", "input", "liveness", "safety", "crash"]

EXIT_CODES: dict[Verdict, int] = {"pass": 0, "crash": 1, "input": 2, "liveness": 3, "safety": 4}

PHASES = {
    "session_expiry_ms": "from the last sign of a dead session's owner to its lease gone",
    "fence_ms": "one fence at the storage, from the order to the confirmed barrier",
    "attach_ms": "one opening of a volume, until its client instance is known",
    "mount_ms": "from the open volume to a mounted file system, journal replay included; a part of service_start_ms",
    "service_start_ms": "from the order to start to healthy, mount and recovery included",
    "service_stop_ms": "from the order to stop to stopped, unmount included",
    "agent_restart_ms": "from the death of an agent process to its successor's first step",
    "reconnect_ms": "from a lost connection to the coordination service to the next answered request",
    "commit_ms": "one commit to the coordination service, from the question to the answer",
    "session_close_ms": "the closing of another node's session by its id, until its lease is gone",
    "power_query_ms": "one question to a BMC for its power state, log-in included",
}
"""Phases that ``Outcome.samples`` may hold, each with what it spans. Those of services may end in ``.SERVICE``."""

LATE = ("everywhere_running", "served_when_possible", "agent_is_not_its_services", "no_needless_wait")
"""Checks that are about time: broken, they mean that something did not come soon enough, not that it was unsafe."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One checker's or invariant's finding about a whole run; ``detail`` says what was seen when it is not ok."""

    name: str
    ok: bool
    detail: str = ""


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a scenario's ``[expect]`` against what was measured; both sides in words."""

    name: str
    ok: bool
    wanted: str
    got: str


class Failover(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from", "dest": "to"}):
    """One move of a singleton. ``total_ms`` runs from the cause to serving again and is the sum of the three phases:

    ``detect_ms`` until the claim was committed, ``fence_ms`` until the last fence was confirmed, ``start_ms`` until
    clients were admitted.
    """

    service: str
    cause: str
    source: str
    dest: str
    epoch: int
    at_ms: int
    detect_ms: int
    fence_ms: int
    start_ms: int
    total_ms: int


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """An error nobody expected, raised at ``at_ms`` of the run."""

    at_ms: int
    what: str
    traceback: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run reports. In the twin, ``wall_ms`` alone differs between two runs of the same seed.

    ``lost_writes``, ``double_writers``, ``acknowledged_writes`` and ``client_gap_ms`` are what clients saw
    (``trial.history``). ``samples``: measured milliseconds of named phases (``PHASES``), in order of time. What only
    the twin knows is 0 or empty for a real rack: ``seed``, ``events``, ``steps``, ``digest``.
    """

    verdict: Verdict
    expected: Verdict
    as_expected: bool
    scenario: str
    seed: int
    fidelity: str
    sim_ms: int
    wall_ms: int
    events: int
    steps: int
    digest: str
    failovers: tuple[Failover, ...]
    checks: tuple[Check, ...]
    expectations: tuple[Expectation, ...]
    unavailable_ms: dict[str, int]
    notes: dict[str, int]
    converged_ms: int
    pending: tuple[str, ...] = ()
    crash: Crash | None = None
    figures: dict[str, int] = {}
    lost_writes: int = 0
    double_writers: int = 0
    acknowledged_writes: int = 0
    client_gap_ms: int = 0
    samples: dict[str, tuple[int, ...]] = {}


def judge(
    crash: Crash | None, checks: Iterable[Check], expectations: Iterable[Expectation], pending: Iterable[str]
) -> Verdict:
    """Decide the verdict: a crash before a broken check before what did not come in time.

    ``pending`` is what the rack still waited for when the heal phase ended.
    """
    if crash is not None:
        return "crash"
    broken = [check.name for check in checks if not check.ok]
    if any(name not in LATE for name in broken):
        return "safety"
    late = bool(broken) or any(not expectation.ok for expectation in expectations)
    if late or any(True for _ in pending):
        return "liveness"
    return "pass"


def exit_code(outcome: Outcome) -> int:
    """The exit code of a run: 0 if the verdict is the one that the scenario expects, else the verdict's own.

    A scenario that passes though it expects otherwise is a failed expectation: 3.
    """
    if outcome.as_expected:
        return 0
    return EXIT_CODES[outcome.verdict] or EXIT_CODES["liveness"]


def to_json(outcome: Outcome) -> bytes:
    """One JSON object on one line, keys in declared order."""
    return msgspec.json.encode(outcome) + b"\n"
