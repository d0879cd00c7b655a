"""Failover times of a singleton with a volume, as the protocol-fidelity twin measures them."""

from twin.years.singletons import Failover

_SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_HOW = (
    "measured in the twin, protocol fidelity, default timers and calibration: mariadb on racks/five.toml with "
    "catalog/minimal.toml, its holder lost once for each of the seeds 1 to 200"
)

SILENT = Failover(
    shares=_SHARES,
    quantiles_ms=(3_290, 3_380, 3_438, 3_574, 3_783, 4_070, 4_245, 4_437, 5_031, 5_465),
    source=f"{_HOW}, by a crash that leaves its power on (node_crash): its session has to expire",
)
"""Nobody can prove the holder off; most failures of nodes are like that (a crash), so it is the default."""

PROVEN = Failover(
    shares=_SHARES,
    quantiles_ms=(1_482, 1_546, 1_579, 1_667, 1_811, 2_049, 2_319, 2_459, 2_784, 2_976),
    source=f"{_HOW}, by a loss of power that its BMC proves (power_loss)",
)
"""The holder's BMC proves that it is off."""
