"""What one more node costs in racks of five to a thousand, against the bounds of linear scaling."""

import time
from collections.abc import Iterator

from bench.running import ROOT
from bench.table import Row
from twin.scaling.certificate import KAPPA_MAX, SIGMA_MAX
from twin.scaling.scale import SIZES, scale

SEEDS = 2


def rows() -> Iterator[Row]:
    """Measure all sizes with two seeds each; cold starts have a benchmark of their own."""
    begun = time.perf_counter()
    catalog = ROOT / "catalog/minimal.toml"
    found = scale(SIZES, SEEDS, catalog=catalog, storms=0, placed=False, clock=time.thread_time_ns)
    taken_s = time.perf_counter() - begun
    usl, last = found.usl, found.rows[-1]
    for name, high, most in (("sigma", usl.sigma_ci[1], SIGMA_MAX), ("kappa", usl.kappa_ci[1], KAPPA_MAX)):
        yield Row(what=f"{name}, upper end of 95 %", measured=f"{high:.2g}", target=f"<= {most:g}", ok=high <= most)
    yield Row(what=f"{last.nodes:,} nodes deliver", measured=f"{last.delivered:,.2f} nodes")
    yield Row(what="  one more joins after", measured=f"{last.join_ms / 1000:,.0f} s")
    yield Row(what="  failover", measured=f"{last.failover_ms / 1000:.2f} s")
    yield Row(what="  watch events per change and node", measured=f"{last.watch_events_per_change / last.nodes:.2f}")
    yield Row(what="  memory of an agent", measured=f"{last.memory_bytes / 1e6:.2f} MB")
    problems = len(found.broken)
    yield Row(what="the certificate", measured=f"{problems} problems", target="none", ok=problems == 0)
    yield Row(what="the measurement itself", measured=f"{taken_s:.0f} s")
