"""Faults of one campaign: when what strikes whom. Every kind draws for every component from a stream of its own.

A component is a node, a PDU, a switch, a role such as ``holder-of:mariadb``, the whole rack, or a plot around one of
these. Its times are those of a Poisson process. So one node more changes nothing of what any other component draws.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec

from core.specs import Timing
from twin.swarm.dice import Dice, firsts_below
from twin.swarm.kinds import Key, Kind, Plot, Step, Struck, kinds_of
from twin.swarm.profile import Profile
from twin.swarm.stage import Stage
from twin.swarm.tape import Table

_REFERENCE: dict[Struck, int] = {"node": 5, "pdu": 2, "switch": 2, "spare": 1, "all": 1, "none": 1}
"""Rates of components are such that a rack of so many of them has the profile's number of faults."""
_STEPS_MEAN = 2
_SOME = 0.3
"""How many faults that may cut nodes off from some others only do so."""


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who plays in one campaign: the kinds of faults and the plots that exist in it, and the mean number of faults.

    ``possible``: all kinds that are fair in it. A plot brings along what it needs of them.
    """

    possible: dict[str, Kind]
    kinds: dict[str, Kind]
    plots: tuple[Plot, ...]
    faults: int


def cast(seed: int, profile: Profile, stage: Stage) -> Cast:
    """Draw which kinds exist at all and how much happens. Depends on the services, never on the number of nodes."""
    dice = Dice(seed, "campaign/kinds")
    faults = dice.log_uniform(profile.tables.faults[0], profile.tables.faults[1])
    possible = {name: kind for name, kind in profile.kinds.items() if _is_possible(kind, stage)}
    drawn = firsts_below(seed, "campaign/kinds", list(possible), profile.tables.kinds_share)
    kinds = {name: possible[name] for name in drawn or [dice.choice(list(possible))]} if possible else {}
    told = firsts_below(seed, "campaign/plots", [plot.name for plot in profile.plots], profile.tables.kinds_share)
    plots = tuple(plot for plot in profile.plots if plot.name in told)
    return Cast(possible=possible, kinds=kinds, plots=plots, faults=faults)


def _is_possible(kind: Kind, stage: Stage) -> bool:
    """Whether a kind is fair with these services, and has what its keys need."""
    needs = {key.how for key in kind.keys}
    return (kind.volumeless or not stage.volumeless) and ("volume" not in needs or bool(stage.volumes))


def faults_of(seed: int, profile: Profile, stage: Stage, playing: Cast) -> list[Table]:
    """Draw all faults of a campaign, in order of their times."""
    drawn = [*_singles(seed, profile, stage, playing), *_plotted(seed, profile, stage, playing)]
    drawn.sort(key=lambda fault: (fault["at_ms"], fault["kind"], fault.get("target", "")))
    return _fair(drawn, stage, playing.possible)


# -- single faults -----------------------------------------------------------------------------------------------------


def _singles(seed: int, profile: Profile, stage: Stage, playing: Cast) -> Iterator[Table]:
    weights = sum(kind.rate for kind in playing.kinds.values())
    alone = playing.faults * (1 - profile.tables.plots_share) if playing.plots else playing.faults
    span_ms = profile.tables.duration_ms - profile.tables.quiet_ms
    for kind in playing.kinds.values() if alone else ():
        shares = sum(kind.strikes.values())
        for struck, share in kind.strikes.items():
            components = components_of(struck, stage)
            count = len(components) if struck == "role" else _REFERENCE[struck]
            if not components:
                continue
            mean_ms = span_ms * count * weights * shares / (alone * kind.rate * share)
            for component, dice in _struck(seed, f"campaign/{kind.name}", components, span_ms / mean_ms):
                for at_ms in _times(dice, profile, mean_ms):
                    yield _fault(kind, component, at_ms, dice, stage)


def _struck(seed: int, stream: str, components: Sequence[str], expected: float) -> Iterator[tuple[str, Dice]]:
    """The components that are struck at all, each with its stream: most are not, and their first draw says so."""
    for component in firsts_below(seed, stream, components, -math.expm1(-expected)):
        yield component, Dice(seed, f"{stream}/{component}")


def components_of(struck: Struck, stage: Stage) -> tuple[str, ...]:
    """Name what one sort of stream strikes, as targets of faults."""
    match struck:
        case "node":
            return stage.nodes
        case "role":
            return roles(stage)
        case "pdu":
            return tuple(f"pdu:{pdu}" for pdu in stage.pdus)
        case "switch":
            return tuple(f"switch:{switch}" for switch in stage.switches)
        case "spare":
            return stage.spares
        case "all":
            return ("all",)
        case "none":
            return ("",)


def roles(stage: Stage) -> tuple[str, ...]:
    """Name the roles that faults are aimed at; who has them shows when they strike."""
    of_services = [f"{role}:{name}" for name in stage.singletons for role in ("holder-of", "standby-of")]
    return (*of_services, "leader", "minority", "minority(leader)", "majority")


def _times(dice: Dice, profile: Profile, mean_ms: float) -> Iterator[int]:
    """The times of one component: exponential gaps, from the end of the quiet time to that of the fault phase."""
    at_ms = float(profile.tables.quiet_ms)
    while True:
        at_ms += dice.exponential(mean_ms)
        if at_ms >= profile.tables.duration_ms:
            return
        yield int(at_ms)


def _fault(
    kind: Kind, target: str, at_ms: int, dice: Dice, stage: Stage, service: str = "", step: Step | None = None
) -> Table:
    """One fault; everything about it is drawn in a fixed order."""
    fault: Table = {"kind": kind.name, "at_ms": at_ms}
    if target:
        fault["target"] = target
    lasting = dice.chance(kind.lasting)
    low, high = step.for_ms if step is not None and step.for_ms is not None else kind.for_ms
    for_ms = _rounded(dice.log_uniform(max(1, low), max(1, high)))
    if not lasting or (step is not None and step.for_ms is not None):
        fault["for_ms"] = for_ms
    for key in kind.keys:
        value = _drawn(key, dice, stage, service or _service_in(target, stage))
        if value is not None:
            fault[key.name] = step.keys.get(key.name, value) if step is not None else value
    return fault


def _service_in(target: str, stage: Stage) -> str:
    """The service that a role belongs to, if it belongs to one."""
    name = target.partition(":")[2]
    return name if target.startswith(("holder-of:", "standby-of:")) and name in stage.singletons else ""


def _drawn(key: Key, dice: Dice, stage: Stage, service: str) -> object:
    """A value for one key; None leaves it as it is. ``service``: the one that this is about, if it is about one."""
    lot = dice.word()
    match key.how:
        case "number":
            return _number(key, dice)
        case "one":
            return key.values[lot % len(key.values)]
        case "some":
            chosen = [value for index, value in enumerate(key.values) if lot >> index & 1]
            return chosen or list(key.values[:1])
        case "service":
            return service or stage.services[lot % len(stage.services)]
        case "volume":
            return stage.volumes[lot % len(stage.volumes)]
        case "nodes":
            some = dice.chance(_SOME)
            return [node for node in stage.nodes if lot_of(lot, node) & 1] or None if some else None
        case "node":
            return min(stage.nodes, key=lambda node: lot_of(lot, node)) if dice.chance(_SOME) else None
        case "disk":
            return lot % max(1, stage.disks)


def _number(key: Key, dice: Dice) -> int:
    """All orders of magnitude alike, unless the range goes below one."""
    if key.least > 0:
        return _rounded(dice.log_uniform(key.least, key.greatest))
    return _rounded(dice.integers(key.least, key.greatest + 1))


def lot_of(lot: int, name: str) -> int:
    """A number for each of many names from one draw, so that one name more does not change those of the others."""
    return int.from_bytes(blake2b(f"{lot}/{name}".encode(), digest_size=8).digest(), "little")


def _rounded(value: int) -> int:
    """To two digits: a person reads these."""
    step = int(10 ** max(0, len(str(abs(value))) - 2))
    return -(-value // step * step) if value < 0 else value // step * step


# -- plots -------------------------------------------------------------------------------------------------------------


def _plotted(seed: int, profile: Profile, stage: Stage, playing: Cast) -> Iterator[Table]:
    weights = sum(plot.rate for plot in playing.plots)
    span_ms = profile.tables.duration_ms - profile.tables.quiet_ms
    plots = playing.faults * profile.tables.plots_share / _STEPS_MEAN
    for plot in playing.plots if plots else ():
        components, count = _around(plot, stage)
        mean_ms = span_ms * count * weights / (plots * plot.rate)
        for component, dice in _struck(seed, f"campaign/plot/{plot.name}", components, span_ms / mean_ms):
            for at_ms in _times(dice, profile, mean_ms):
                yield from _told(plot, component, at_ms, dice, profile, stage, playing)


def _around(plot: Plot, stage: Stage) -> tuple[tuple[str, ...], int]:
    """The components that a plot is told around, and how many of them share its rate."""
    match plot.around:
        case "service":
            return stage.singletons, len(stage.singletons)
        case "node":
            return stage.nodes, _REFERENCE["node"]
        case "rack":
            return ("rack",), 1


def _told(
    plot: Plot, component: str, at_ms: int, dice: Dice, profile: Profile, stage: Stage, playing: Cast
) -> Iterator[Table]:
    """The faults of one plot, with kinds that exist in this campaign if there is one for the step."""
    about = {plot.around: component}
    service = component if plot.around == "service" else ""
    session_ms = stage.timing.get("session_timeout_ms", Timing().session_timeout_ms)
    for step in plot.steps:
        names = kinds_of(step, playing.kinds) or kinds_of(step, playing.possible)
        (soonest, latest), (least, most) = step.after_ms, step.after_sessions
        sessions = least + dice.uniform() * (most - least)
        when_ms = at_ms + dice.integers(soonest, latest + 1) + int(sessions * session_ms)
        here = dice.chance(step.share)
        lot = dice.word()
        if not here or not names or not profile.tables.quiet_ms <= when_ms < profile.tables.duration_ms:
            continue
        kind = playing.possible[_weighted(names, playing.possible, lot)]
        target = _target(kind, step.target.format(**about), lot, stage)
        if target is not None:
            yield _fault(kind, target, when_ms, dice, stage, service, step)


def _weighted(names: tuple[str, ...], kinds: Mapping[str, Kind], lot: int) -> str:
    """One of the names by the rates of the kinds."""
    left = (lot >> 32) / 2**32 * sum(kinds[name].rate for name in names)
    for name in names:
        left -= kinds[name].rate
        if left < 0:
            return name
    return names[-1]


def _target(kind: Kind, target: str, lot: int, stage: Stage) -> str | None:
    """The target of a step, turned into what this kind strikes; None if it cannot strike anything like that."""
    if "node" in kind.strikes and (kind.nodes_max == "" or target in stage.nodes):
        return target
    for struck in kind.strikes:
        components = components_of(struck, stage)
        if components:
            return min(components, key=lambda name: lot_of(lot, name))
    return None


# -- fairness ----------------------------------------------------------------------------------------------------------


def _fair(faults: list[Table], stage: Stage, kinds: Mapping[str, Kind]) -> list[Table]:
    """Without those that would strike too many nodes for good, or one component a second time that cannot be."""
    struck: dict[str, dict[str, None]] = {}
    kept = []
    for fault in faults:
        name, target = str(fault["kind"]), str(fault.get("target", ""))
        kind, seen = kinds[name], struck.setdefault(name, {})
        again = target in seen
        if (kind.once and again) or (not again and len(seen) >= _most(kind, stage)):
            continue
        seen[target] = None
        kept.append(fault)
    return kept


def _most(kind: Kind, stage: Stage) -> int:
    """On how many nodes a kind may strike in one campaign."""
    match kind.nodes_max:
        case "1":
            return 1
        case "minority":
            return (len(stage.nodes) - 1) // 2
        case "":
            return len(stage.nodes) * 1_000
