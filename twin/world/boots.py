"""What the boot servers of a rack can do, as its scenario has it."""

from trial.scenario import Boots
from twin.calibration import Calibration
from twin.world.boot_server import Pace
from twin.world.netboot import NetbootTimes

BYTES_PER_MS_OF_MBIT = 125
BYTES_OF_MB = 1_000_000


def pace_of(boots: Boots, calibration: Calibration) -> Pace | None:
    """The pace of each boot server; None where nobody has to be found, and the calibration says it all."""
    times = calibration.section("netboot", NetbootTimes)
    if not boots.discover:
        return None
    return Pace(
        server_bytes_per_ms=boots.mbit_max * BYTES_PER_MS_OF_MBIT or times.server_bytes_per_ms,
        client_bytes_per_ms=times.client_bytes_per_ms,
        streams_max=boots.streams_max,
        least_bytes_per_ms=times.least_bytes_per_ms,
        patience_ms=times.http_timeout_ms,
    )
