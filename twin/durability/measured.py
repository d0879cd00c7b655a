"""Measured behaviour of a site's components as this package reads it: from ``twin.failures``, or from a file."""

from pathlib import Path
from typing import Literal

import msgspec

from core.errors import InputError
from twin.capacity.assumptions import Assumptions
from twin.durability.behaviour import Behaviour, Burst, Component, Kind
from twin.durability.durations import Duration, Exponential, Fixed, Lognormal, Weibull, mean_hours
from twin.durability.layout import Layout
from twin.failures import components as known
from twin.failures.distributions import YEAR_H, Bathtub, Distribution, Gamma, mean_h
from twin.failures.distributions import Exponential as KnownExponential
from twin.failures.distributions import Lognormal as KnownLognormal
from twin.failures.distributions import Weibull as KnownWeibull
from twin.failures.shocks import SCATTERED_MAX, BurstProcess, aims, calibrated

FILE_BYTES_MAX = 1_000_000


def measured(figures: Assumptions, layout: Layout, recovery: Duration, bursts: bool) -> Behaviour:
    """Return how the components of a site fail, by the published figures.

    Lifetimes are exponential: what these sources publish is rates. With ``bursts``, shocks of racks and zones take
    their part of a node's rate, which stays the same in all (Ford et al.).
    """
    rack_rate = _behind(layout, "rack") * YEAR_H / figures.number("rack_mttf_hours")
    pdu_rate = _behind(layout, "pdu") * YEAR_H / figures.number("pdu_mttf_hours")
    node_rate = YEAR_H / figures.number("node_mttf_hours")
    shocks: tuple[Burst, ...] = ()
    shock_rate = 0.0
    if bursts:
        process = calibrated(
            share=figures.number("burst_share"),
            node_mttf_h=figures.number("node_mttf_hours"),
            domains_per_year=rack_rate + pdu_rate,
        )
        shocks, shock_rate = _shocks(process, layout, figures), process.struck_per_year()
    alone = node_rate - rack_rate - pdu_rate - shock_rate
    if alone <= 0.0:
        raise InputError(
            ["node_mttf_hours: racks, PDUs and bursts alone take a node down more often; allowed: a shorter time"]
        )
    if (cuts := figures.number("site_cuts_per_year")) > 0.0:
        shocks = (*shocks, _site_cut(cuts, figures))
    return Behaviour(
        disk=Component(
            life=Exponential(mean_hours=YEAR_H / figures.number("disk_annual_rate")),
            down=recovery,
            lost_ratio=1.0,
            source=figures.source("disk_annual_rate"),
        ),
        node=_component("node", YEAR_H / alone, known.NODE, figures),
        pdu=_component("pdu", figures.number("pdu_mttf_hours"), known.PDU, figures) if pdu_rate else None,
        rack=_component("rack", figures.number("rack_mttf_hours"), known.RACK, figures) if rack_rate else None,
        bursts=shocks,
        recovery=recovery,
    )


def _behind(layout: Layout, unit: Kind) -> float:
    """The share of the nodes that hang on such a unit."""
    of = layout.rack_of if unit == "rack" else layout.pdu_of
    return float((of >= 0).mean()) if len(of) else 0.0


def _component(kind: Kind, mttf_hours: float, like: known.Component, figures: Assumptions) -> Component:
    return Component(
        life=Exponential(mean_hours=mttf_hours),
        down=duration(like.behaviour.down),
        lost_ratio=figures.number(f"{kind}_lost_ratio"),
        source=figures.source(f"{kind}_mttf_hours"),
    )


def _shocks(process: BurstProcess, layout: Layout, figures: Assumptions) -> tuple[Burst, ...]:
    """The shocks of ``twin.failures.shocks``, seen by the whole site: as many processes as it has racks and zones."""
    racks = int(layout.rack_of.max(initial=-1)) + 1 or 1
    zones = -(-racks // process.zone_racks)
    places: tuple[tuple[str, Literal["rack", "zone"], float, int, int], ...] = (
        ("shock of a rack", "rack", racks * process.rack_per_year, process.nodes_per_rack, process.nodes_per_rack),
        ("shock of a zone", "zone", zones * process.zone_per_year, process.zone_nodes, SCATTERED_MAX),
    )
    power = figures.number("burst_power_share")
    found: list[Burst] = []
    for name, place, per_year, size, most in places:
        sizes, chances = aims(min(size, most), process.tail)
        ratios = [(min(1.0, aim / size), chance) for aim, chance in zip(sizes.tolist(), chances.tolist(), strict=True)]
        for why, share, lost in (("", 1.0 - power, 0.0), (" by power", power, figures.number("burst_lost_ratio"))):
            if share > 0.0:
                burst = Burst(
                    name=name + why,
                    every=Exponential(mean_hours=YEAR_H / per_year / share),
                    place=place,
                    zone_racks=process.zone_racks,
                    ratios=tuple(ratios),
                    down=duration(known.NODE.behaviour.down),
                    lost_ratio=lost,
                    source=process.source,
                )
                found.append(burst)
    return tuple(found)


def _site_cut(cuts: float, figures: Assumptions) -> Burst:
    return Burst(
        name="power cut of the site",
        every=Exponential(mean_hours=YEAR_H / cuts),
        ratios=((1.0, 1.0),),
        down=Fixed(hours=figures.number("site_cut_hours")),
        lost_ratio=figures.number("pdu_lost_ratio"),
        source=figures.source("site_cuts_per_year"),
    )


def duration(of: Distribution) -> Duration:
    """Return a distribution of ``twin.failures`` as one of ours; one that we do not have, as its mean."""
    match of:
        case KnownExponential(mean_h=mean):
            return Exponential(mean_hours=mean)
        case KnownWeibull(shape=shape, scale_h=scale):
            return Weibull(shape=shape, scale_hours=scale)
        case KnownLognormal(mu=mu, sigma=sigma):
            return Lognormal(mu=mu, sigma=sigma)
        case Gamma() | Bathtub():
            return Fixed(hours=mean_h(of))


def independent(behaviour: Behaviour, layout: Layout) -> Behaviour:
    """Return the same rates without correlation: each disk lost, each node away, as often as before, but on its own.

    What PDUs, racks and bursts did to a disk or a node is added to its own rate, on the average over the site. Repair
    times of nodes are mixed by their means.
    """
    behind = {"node": 1.0, "pdu": _behind(layout, "pdu"), "rack": _behind(layout, "rack")}
    outages: list[tuple[float, Duration, float]] = [
        (behind[kind] / mean_hours(component.life), component.down, component.lost_ratio)
        for kind, component in behaviour.components
        if kind != "disk"
    ]
    outages += [
        (struck_share(burst, layout) / mean_hours(burst.every), burst.down, burst.lost_ratio)
        for burst in behaviour.bursts
    ]
    rate = sum(each for each, _, _ in outages)
    lost = sum(each * ratio for each, _, ratio in outages) + 1.0 / mean_hours(behaviour.disk.life)
    node = None
    if rate > 0.0:
        away = sum(each * mean_hours(down) for each, down, _ in outages) / rate
        node = Component(
            life=Exponential(mean_hours=1.0 / rate),
            down=Exponential(mean_hours=away),
            lost_ratio=0.0,
            source="the same",
        )
    disk = msgspec.structs.replace(behaviour.disk, life=Exponential(mean_hours=1.0 / lost))
    return Behaviour(disk=disk, node=node, recovery=behaviour.recovery)


def struck_share(burst: Burst, layout: Layout) -> float:
    """Return the chance that a burst strikes a node, averaged over the nodes of a site."""
    racks = int(layout.rack_of.max(initial=-1)) + 1
    total = sum(weight for _, weight in (*burst.ratios, *burst.nodes))
    places = 1
    if burst.place != "site" and racks:
        places = -(-racks // (burst.zone_racks if burst.place == "zone" else 1))
    if burst.ratios:
        return sum(chance * weight for chance, weight in burst.ratios) / total / places
    size = layout.nodes / places
    return sum(min(number, size) * weight for number, weight in burst.nodes) / total / size / places


def read_behaviour(path: Path) -> Behaviour:
    """Read a behaviour from a TOML file; the tables are the records of ``behaviour.py``.

    Raises: InputError with file, key, value and what is allowed.
    """
    from formats.load import read_toml

    tables = read_toml(path, "a file of failure behaviour")
    try:
        found = msgspec.convert(tables, Behaviour)
    except msgspec.ValidationError as error:
        raise InputError(
            [f"{path}: {error}; allowed: what docs/durability.md says under 'A file of your own'"]
        ) from None
    if problems := _problems(found):
        raise InputError([f"{path}: {problem}" for problem in problems])
    return found


def _problems(of: Behaviour) -> list[str]:
    """What is not sensible in a behaviour that has the right form."""
    found: list[str] = []
    if of.disk.lost_ratio != 1.0:
        found.append(f"disk.lost_ratio: {of.disk.lost_ratio}: allowed: 1 (a disk that fails is lost)")
    parts: list[tuple[str, Component | Burst]] = [*of.components]
    parts += [(burst.name[:40], burst) for burst in of.bursts]
    for name, part in parts:
        if not 0.0 <= part.lost_ratio <= 1.0:
            found.append(f"{name}.lost_ratio: {part.lost_ratio}: allowed: from 0 to 1")
        lasting: list[tuple[str, Duration]] = [("down", part.down)]
        lasting.append(("every", part.every) if isinstance(part, Burst) else ("life", part.life))
        found += [f"{name}.{key}: {value}: {why}" for key, value in lasting if (why := _unfit(value, key))]
    for burst in of.bursts:
        weights = [weight for _, weight in (*burst.nodes, *burst.ratios)]
        if bool(burst.nodes) == bool(burst.ratios) or min(weights) < 0.0 or not 0.0 < sum(weights) < float("inf"):
            found.append(f"{burst.name[:40]}: allowed: either nodes or ratios, with weights above 0")
        if any(number < 1 for number, _ in burst.nodes) or any(not 0.0 <= chance <= 1.0 for chance, _ in burst.ratios):
            found.append(f"{burst.name[:40]}: allowed: numbers of nodes from 1, ratios from 0 to 1")
        if burst.zone_racks < 1 or not 0.0 <= burst.rack_ratio <= 1.0:
            found.append(f"{burst.name[:40]}: allowed: zone_racks from 1, rack_ratio from 0 to 1")
    if why := _unfit(of.recovery, "recovery"):
        found.append(f"recovery: {of.recovery}: {why}")
    return found


def _unfit(of: Duration, key: str) -> str:
    """Why a duration cannot be computed with, or nothing."""
    match of:
        case Exponential(mean_hours=hours):
            good = 0.0 < hours < 1e12
        case Weibull(shape=shape, scale_hours=hours):
            good = 0.0 < hours < 1e12 and 0.1 <= shape <= 20.0
        case Lognormal(mu=mu, sigma=sigma):
            good = abs(mu) < 25.0 and 0.0 < sigma <= 5.0
        case Fixed(hours=hours):
            good = 0.0 <= hours < 1e12
    return "" if good else f"allowed: {key} with hours above 0, a shape from 0.1 to 20, a sigma up to 5"
