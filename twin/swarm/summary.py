"""What came of a whole swarm: counted campaign by campaign in any order, and judged at the end."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from trial.gates import Gate, causes_across
from trial.scenario import Expect
from trial.verdict import EXIT_CODES, Expectation, Verdict
from twin.swarm.found import Found
from twin.swarm.gates import judge_gates
from twin.swarm.sometimes import SOMETIMES
from twin.swarm.spread import Spread, Times

LARGE = 2_000
"""A swarm of that many campaigns must reach every rare situation of its profile; a smaller one only reports."""

SEEDS_MAX = 50
"""Seeds that are kept of each kind of failure: the lowest ones."""

KINDS_MAX = 50
"""Kinds of failure whose campaigns are kept; more are only counted."""

_WORST: tuple[Verdict, ...] = ("safety", "crash", "liveness", "input", "pass")


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed campaign, with what became of it.

    ``tape``, ``shrunk``: the files' names, with their texts; empty if there is none. ``faults_left``: in the shrunk
    one, which took ``runs`` runs. ``blame``: which faults were necessary, a line for each. ``reason``: why it failed.
    """

    found: Found
    tape: str = ""
    tape_text: str = ""
    shrunk: str = ""
    shrunk_text: str = ""
    faults_left: int = 0
    runs: int = 0
    blame: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """All campaigns that failed in one way: ``count`` of them, the lowest ``seeds``, and the lowest one's words."""

    verdict: Verdict
    broken: str
    count: int
    seeds: tuple[int, ...]
    detail: str


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """A rare situation, in how many campaigns it occurred, and whether the profile says that it must."""

    name: str
    text: str
    campaigns: int
    wanted: bool


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Campaigns that have something in common (a kind of fault, a number of faults), and how many of them failed."""

    name: str
    campaigns: int
    failed: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a swarm. ``wall_ms`` alone differs between two runs of the same seeds.

    ``faults``: planned in all campaigns. ``bounds``: the gates on failovers, which ``gates`` answers in this order.
    ``unavailable_ms``: of each singleton, in all campaigns together;
    ``unavailable_ms_max``: in the worst one. ``digest``: over the seeds, in order, with the digests of their runs.
    """

    profile: str
    campaigns: int
    first_seed: int
    last_seed: int
    verdicts: dict[str, int]
    sim_ms: int
    wall_ms: int
    faults: int
    broken: tuple[Broken, ...]
    failures: tuple[Failure, ...]
    gates: tuple[Expectation, ...]
    bounds: tuple[Gate, ...]
    failovers: tuple[Spread, ...]
    unavailable_ms: dict[str, int]
    unavailable_ms_max: dict[str, int]
    sometimes: tuple[Reached, ...]
    by_kind: tuple[Share, ...]
    by_faults: tuple[Share, ...]
    digest: str

    @property
    def failed(self) -> int:
        """How many campaigns failed."""
        return self.campaigns - self.verdicts.get("pass", 0)

    @property
    def missing(self) -> tuple[str, ...]:
        """The rare situations that the profile wants and no campaign reached."""
        return tuple(one.name for one in self.sometimes if one.wanted and not one.campaigns)

    @property
    def too_calm(self) -> bool:
        """Whether a large swarm missed some of them."""
        return self.campaigns >= LARGE and bool(self.missing)

    @property
    def ok(self) -> bool:
        """Whether no campaign failed, every gate holds, and a large swarm reached what it must."""
        return exit_code(self) == 0


def exit_code(summary: Summary) -> int:
    """The exit code of a swarm: that of its worst campaign (safety, crash, liveness); 3 for a gate or a calm swarm."""
    worst = next(verdict for verdict in _WORST if summary.verdicts.get(verdict) or verdict == "pass")
    if worst != "pass":
        return EXIT_CODES[worst]
    late = summary.too_calm or any(not gate.ok for gate in summary.gates)
    return EXIT_CODES["liveness"] if late else 0


def to_json(summary: Summary) -> bytes:
    """One JSON object on one line, keys in declared order."""
    return msgspec.json.encode(summary) + b"\n"


class _Kind:
    """Campaigns that failed in one way: all counted, the lowest seeds kept."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: dict[int, Found] = {}

    def add(self, found: Found) -> None:
        self.count += 1
        self.kept[found.seed] = found
        if len(self.kept) > SEEDS_MAX:
            del self.kept[max(self.kept)]


class Tally:
    """Counts campaigns as they end, in any order, each seed once; memory grows by some dozens of bytes a campaign.

    ``sometimes``: the rare situations that the profile wants. ``expect``: its gates.
    """

    def __init__(self, profile: str, sometimes: Sequence[str] = (), expect: Expect | None = None) -> None:
        self._profile = profile
        self._wanted = tuple(sometimes)
        self._expect = expect if expect is not None else Expect()
        self._digests: dict[int, bytes] = {}
        self._verdicts: Counter[str] = Counter()
        self._kinds: dict[tuple[Verdict, str], _Kind] = {}
        self._times = Times()
        self._down_ms: Counter[str] = Counter()
        self._down_ms_max: dict[str, int] = {}
        self._reached: Counter[str] = Counter()
        self._by_kind: dict[str, Counter[str]] = {}
        self._by_faults: dict[int, Counter[str]] = {}
        self._sim_ms = 0
        self._faults = 0

    def add(self, found: Found) -> None:
        """Count one campaign; one that has been counted already is left out (a lost worker's may come twice)."""
        if found.seed in self._digests:
            return
        self._digests[found.seed] = hashlib.sha256(found.digest.encode()).digest()[:16]
        self._verdicts[found.verdict] += 1
        self._sim_ms += found.sim_ms
        self._faults += found.faults
        self._reached.update(found.reached)
        for move in found.moves:
            self._times.add(move)
        for service, ms in found.unavailable_ms.items():
            self._down_ms[service] += ms
            self._down_ms_max[service] = max(ms, self._down_ms_max.get(service, 0))
        word = "pass" if found.verdict == "pass" else "fail"
        self._by_faults.setdefault(found.faults, Counter())[word] += 1
        for kind in found.kinds:
            self._by_kind.setdefault(kind, Counter())[word] += 1
        if found.verdict != "pass":
            self._kinds.setdefault((found.verdict, found.broken), _Kind()).add(found)

    @property
    def campaigns(self) -> int:
        """How many have been counted."""
        return len(self._digests)

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return len(self._digests) - self._verdicts["pass"]

    def failed_campaigns(self, each: int = 1) -> tuple[Found, ...]:
        """Return the failures worth a closer look: of each way to fail, the ``each`` lowest seeds, the worst first."""
        found: list[Found] = []
        for _, kind in self._sorted_kinds()[:KINDS_MAX]:
            found += [kind.kept[seed] for seed in sorted(kind.kept)[:each]]
        return tuple(found)

    def summary(self, failures: Iterable[Failure] = (), wall_ms: int = 0) -> Summary:
        """Sum up what has been counted so far; ``failures``: those that were written, shrunk, explained."""
        seeds = sorted(self._digests)
        return Summary(
            profile=self._profile,
            campaigns=len(seeds),
            first_seed=seeds[0] if seeds else 0,
            last_seed=seeds[-1] if seeds else 0,
            verdicts={verdict: self._verdicts[verdict] for verdict in reversed(_WORST) if self._verdicts[verdict]},
            sim_ms=self._sim_ms,
            wall_ms=wall_ms,
            faults=self._faults,
            broken=tuple(_broken(verdict, broken, kind) for (verdict, broken), kind in self._sorted_kinds()),
            failures=tuple(sorted(failures, key=lambda one: (_WORST.index(one.found.verdict), one.found.seed))),
            gates=judge_gates(self._expect, self._times, self._down_ms_max, large=len(seeds) >= LARGE),
            bounds=self._expect.gates,
            failovers=self._times.spreads(causes_across(self._expect.gates)),
            unavailable_ms=dict(sorted(self._down_ms.items())),
            unavailable_ms_max=dict(sorted(self._down_ms_max.items())),
            sometimes=self._sometimes(),
            by_kind=_shares(dict(sorted(self._by_kind.items()))),
            by_faults=_shares({f"{count}": words for count, words in sorted(self._by_faults.items())}),
            digest=self._digest(seeds),
        )

    def _sorted_kinds(self) -> list[tuple[tuple[Verdict, str], _Kind]]:
        """Ways to fail, the worst first, then the most frequent."""
        return sorted(self._kinds.items(), key=lambda item: (_WORST.index(item[0][0]), -item[1].count, item[0][1]))

    def _sometimes(self) -> tuple[Reached, ...]:
        return tuple(
            Reached(name=one.name, text=one.text, campaigns=self._reached[one.name], wanted=one.name in self._wanted)
            for one in SOMETIMES
        )

    def _digest(self, seeds: Sequence[int]) -> str:
        whole = hashlib.sha256()
        for seed in seeds:
            whole.update(seed.to_bytes(8, "big") + self._digests[seed])
        return whole.hexdigest()


def _broken(verdict: Verdict, broken: str, kind: _Kind) -> Broken:
    seeds = tuple(sorted(kind.kept))
    return Broken(verdict=verdict, broken=broken, count=kind.count, seeds=seeds, detail=kind.kept[seeds[0]].detail)


def _shares(counts: Mapping[str, Counter[str]]) -> tuple[Share, ...]:
    return tuple(Share(name=name, campaigns=words.total(), failed=words["fail"]) for name, words in counts.items())
