"""Published fits of how long machines stay up and down, restated as figures."""

import msgspec

from twin.failures.outage import Cause


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Weibull time to failure, lognormal time to repair; all times in hours.

    ``up_shape`` and ``up_scale`` are the Weibull parameters; ``down_mu`` and ``down_sigma`` mean and deviation of the
    logarithm of the hours down. A Weibull shape below 1 means that failures come in clumps: right after a repair the
    next failure is more likely than later.
    """

    up_shape: float
    up_scale: float
    down_mu: float
    down_sigma: float
    source: str


_JPDC = (
    "B. Javadi, D. Kondo, A. Iosup, D. Epema: The Failure Trace Archive: enabling the comparison of failure "
    "measurements and models of distributed systems, JPDC 73(8), 2013, table of fits, data set "
)

FITS: dict[str, Fit] = {
    "g5k06": Fit(up_shape=0.48, up_scale=14.37, down_mu=-2.0, down_sigma=2.2, source=_JPDC + "G5k06"),
    "lanl05": Fit(up_shape=0.48, up_scale=816.6, down_mu=0.05, down_sigma=1.42, source=_JPDC + "Lanl05"),
    "microsoft99": Fit(up_shape=0.55, up_scale=35.3, down_mu=1.42, down_sigma=1.54, source=_JPDC + "Microsoft99"),
}

CAUSE_WEIGHTS: tuple[tuple[Cause, int], ...] = (
    ("facilities", 362),
    ("hardware", 14_341),
    ("human error", 149),
    ("network", 421),
    ("undetermined", 2_652),
    ("software", 5_361),
)
"""Records of each root cause among the 23,286 of LANL's release LA-UR-05-7318 that name one.

Source: counted from the data, which Los Alamos National Laboratory provided.
"""
