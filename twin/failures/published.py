"""Published fits and figures of failures, restated as numbers with their sources; no recording is shipped.

Every figure is of one component (a node, a disk, a rack), never of a site: a site of N nodes has N of them.
"""

import math

import msgspec

from twin.failures.distributions import (
    YEAR_H,
    Bathtub,
    Distribution,
    Exponential,
    Gamma,
    Lognormal,
    Weibull,
    mean_h,
)
from twin.failures.likelihood import FAMILIES, Family
from twin.failures.outage import Cause

JPDC = (
    "B. Javadi, D. Kondo, A. Iosup, D. Epema: The Failure Trace Archive: enabling the comparison of failure "
    "measurements and models of distributed systems, JPDC 73(8), 2013, table of fits"
)
FORD = "D. Ford et al.: Availability in Globally Distributed Storage Systems, OSDI 2010"
LANL = "Los Alamos National Laboratory, release LA-UR-05-7318, whom we thank for the data"
BACKBLAZE = "Backblaze Drive Stats until 2024 Q2 (backblaze.com), survival by model of zachmayer/backblaze_analysis"
DEAN = "J. Dean: Designs, Lessons and Advice from Building Large Distributed Systems, LADIS 2009 keynote"
GILL = "P. Gill, N. Jain, N. Nagappan: Understanding Network Failures in Data Centers, SIGCOMM 2011"


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How long a component stays up and how long it is down; ``source`` says who measured it."""

    up: Distribution
    down: Distribution
    source: str

    @property
    def availability(self) -> float:
        """The share of time up in the long run: mean up / (mean up + mean down)."""
        return mean_h(self.up) / (mean_h(self.up) + mean_h(self.down))


_FTA: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # for each data set: up, then down; exponential mean, Weibull shape and scale, lognormal mu and sigma, gamma shape
    # and scale; hours
    "g5k06": ((32.41, 0.48, 14.37, 1.51, 2.42, 0.34, 94.35), (7.41, 0.35, 0.47, -2.0, 2.2, 0.19, 39.92)),
    "lanl05": ((1779.99, 0.48, 816.6, 5.56, 2.39, 0.35, 5102.71), (5.92, 0.58, 2.18, 0.05, 1.42, 0.38, 15.44)),
    "ldns04": ((141.06, 0.51, 79.3, 3.25, 2.33, 0.39, 362.43), (8.61, 0.63, 5.62, 0.91, 1.64, 0.51, 16.87)),
    "microsoft99": ((67.01, 0.55, 35.3, 2.62, 1.84, 0.41, 162.19), (16.49, 0.6, 9.34, 1.42, 1.54, 0.46, 35.52)),
    "nd07cpu": ((13.73, 0.45, 4.16, 0.3, 2.2, 0.3, 46.16), (4.25, 0.51, 0.74, -1.02, 1.27, 0.28, 15.07)),
    "overnet03": ((2.29, 0.85, 2.04, 0.19, 0.98, 0.91, 2.53), (12.0, 0.44, 2.98, 0.08, 1.8, 0.29, 41.64)),
    "pl05": ((159.49, 0.33, 19.35, 1.44, 2.86, 0.2, 788.03), (49.61, 0.36, 5.59, 0.4, 2.45, 0.21, 237.65)),
    "skype06": ((16.27, 0.64, 10.86, 1.6, 1.57, 0.53, 30.79), (14.31, 0.63, 9.48, 1.4, 1.73, 0.5, 28.53)),
    "websites02": ((11.85, 0.46, 3.68, 0.23, 2.02, 0.31, 38.67), (1.18, 0.65, 0.61, -1.12, 1.13, 0.5, 2.37)),
}

FTA_SETS: tuple[str, ...] = tuple(_FTA)
"""The nine data sets of the Failure Trace Archive that have published fits, of nodes of a grid up to web sites."""


def fta(data_set: str, family: Family) -> Behaviour:
    """One row of the table of fits of the Failure Trace Archive. Raises: KeyError for a set that is not there."""
    up, down = _FTA[data_set]
    return Behaviour(up=_of(family, up), down=_of(family, down), source=f"{JPDC}, data set {data_set}, {family}")


def fta_fits() -> dict[tuple[str, Family], Behaviour]:
    """All 36 rows of that table."""
    return {(name, family): fta(name, family) for name in FTA_SETS for family in FAMILIES}


def _of(family: Family, row: tuple[float, ...]) -> Distribution:
    match family:
        case "exponential":
            return Exponential(row[0])
        case "weibull":
            return Weibull(row[1], row[2])
        case "lognormal":
            return Lognormal(row[3], row[4])
        case "gamma":
            return Gamma(row[5], row[6])


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """Repairs of one root cause: how many records, and their minutes down on average and in the middle."""

    records: int
    mean_min: float
    median_min: float


REPAIRS: dict[Cause, Repair] = {
    "facilities": Repair(records=362, mean_min=572.3, median_min=276.0),
    "hardware": Repair(records=14_341, mean_min=343.8, median_min=68.0),
    "human error": Repair(records=149, mean_min=163.1, median_min=44.0),
    "network": Repair(records=421, mean_min=250.0, median_min=70.0),
    "undetermined": Repair(records=2_652, mean_min=441.2, median_min=30.0),
    "software": Repair(records=5_361, mean_min=348.2, median_min=43.0),
}
"""Repairs of all systems of LANL by root cause. Source: computed from the release (``repairs.by_cause``)."""


def repair(cause: Cause) -> Lognormal:
    """The lognormal distribution of hours with the published median and mean of one root cause.

    Median exp(mu), mean exp(mu + sigma^2 / 2). Source of the family: B. Schroeder, G. Gibson: A Large-Scale Study of
    Failures in High-Performance-Computing Systems, DSN 2006: repairs of these data are lognormal best.
    """
    of = REPAIRS[cause]
    sigma = math.sqrt(2.0 * math.log(of.mean_min / of.median_min))
    return Lognormal(math.log(of.median_min / 60.0), sigma)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One drive model of Backblaze's: ``failures`` in ``drive_days``, and its survival of five years with 95 % bounds.

    ``years_97``: the age at which the lower bound of the survival falls to 97 %.
    """

    capacity_tb: int
    drive_days: int
    failures: int
    years_97: float
    survival_5yr: tuple[float, float, float]

    @property
    def annual_rate(self) -> float:
        """Failures a year of service: failures / (drive days / 365.25)."""
        return self.failures / (self.drive_days * 24.0 / YEAR_H)

    @property
    def lifetime(self) -> Weibull:
        """The Weibull distribution through the published survival of five years.

        The shape is that of the summary's curve: both points on its lower bound, 97 % at ``years_97`` and the lower
        bound at five years, have to lie on one Weibull distribution.
        """
        low, middle, _ = self.survival_5yr
        shape = math.log(math.log(low) / math.log(0.97)) / math.log(5.0 / self.years_97)
        return Weibull(shape, 5.0 * YEAR_H / (-math.log(middle)) ** (1.0 / shape))


def _model(capacity_tb: int, drive_days: int, failures: int, years_97: float, *survival: float) -> Model:
    low, middle, high = survival
    return Model(
        capacity_tb=capacity_tb,
        drive_days=drive_days,
        failures=failures,
        years_97=years_97,
        survival_5yr=(low, middle, high),
    )


DRIVES: dict[str, Model] = {
    "wdc wuh721816ale6l4": _model(16, 11_616_742, 102, 5.678, 0.97461, 0.97907, 0.98276),
    "st16000nm001g": _model(16, 22_614_411, 480, 3.359, 0.94879, 0.95316, 0.95717),
    "toshiba mg07aca14ta": _model(14, 51_123_732, 1_376, 3.124, 0.94402, 0.94690, 0.94963),
    "wdc huh721212aln604": _model(12, 20_559_877, 882, 2.261, 0.92062, 0.92551, 0.93011),
    "st8000nm0055": _model(8, 36_632_508, 1_893, 2.097, 0.91460, 0.91839, 0.92203),
    "st4000dm000": _model(4, 81_347_421, 5_770, 1.593, 0.88507, 0.88826, 0.89136),
}
"""A few of the 81 drive models. Source: ``BACKBLAZE``; more by path (``backblaze.load_survival``)."""

DRIVES_2013 = Bathtub((0.0, 1.5, 3.0), (0.051, 0.014, 0.118))
"""Consumer drives of 2013: 5.1 % a year for 18 months, 1.4 % for 18 months, then 11.8 %.

Source: B. Beach: How long do disk drives last?, Backblaze, November 2013; 80 % were running after four years.
"""

FORD_NODE_MTTF_H = 4.3 / 12.0 * YEAR_H
FORD_RACK_MTTF_H = 10.2 * YEAR_H
FORD_DISK_MTTF_H = (10.0 * YEAR_H, 50.0 * YEAR_H)
FORD_BURST_SHARE = 0.37
"""Of node failures, in bursts of two or more nodes within 120 s. Source: ``FORD``."""
FORD_FALSE_SHARE = 0.08
"""So many would be by chance, if nodes failed independently, at most. Source: ``FORD``."""
FORD_CELL_NODES = 3_900
"""The number of nodes at which chance alone gives that share with the published time to failure and window.

Source: computed, ``bursts.chance_of_false_burst``; the cells of the paper have 1,000 to 7,000 nodes.
"""
