"""How fast the twin is where every message is simulated, against simpy with a process for each node's beat."""

from collections.abc import Generator, Iterator

import simpy

from bench.running import cpu_s, run_text
from bench.table import Row

MINUTES = 30
SCENARIO = f"""# Why: a rack of twenty loses its database's holder every few minutes, with every checker looking on.
seed = 1
rack = {{ nodes = 20 }}
catalog = "catalog/minimal.toml"
fidelity = "protocol"
duration_ms = {MINUTES * 60_000}
heal_ms = 300_000

[[fault]]
kind = "power_loss"
target = "holder-of:mariadb"
at_ms = 60_000
for_ms = 30_000
every_ms = 300_000
times = 5
"""
BEATERS, BEAT_S, PEER_S = 1_000, 1.0, 200


def rows() -> Iterator[Row]:
    """Measure the ratio to real time, and events per second beside those of the peer."""
    outcome = run_text(SCENARIO)
    ratio = outcome["sim_ms"] / max(outcome["wall_ms"], 1)
    yield Row(what="simulated / wall time", measured=f"{ratio:,.0f} x", target=">= 1,000 x", ok=ratio >= 1_000)
    yield Row(what="wall time per machine step", measured=f"{1_000 * outcome['wall_ms'] / outcome['steps']:.1f} us")
    beats = peer_events_per_s()
    own = outcome["events"] / outcome["wall_ms"] * 1_000
    yield Row(what="kernel events a second, each with its machine's work", measured=f"{own:,.0f}")
    yield Row(what="peer hb1000: simpy, 1,000 processes that only time out", measured=f"{beats:,.0f}")
    yield Row(what="beats the peer would need for this run, each 250 ms", measured=f"{outcome['sim_ms'] // 250 * 20:,}")
    yield Row(what="kernel events the twin needed", measured=f"{outcome['events']:,}")


def peer_events_per_s() -> float:
    """Measure events per CPU second of 1,000 simpy processes, each with a timeout a second."""

    def beat(env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        while True:
            yield env.timeout(BEAT_S)

    env = simpy.Environment()
    for _ in range(BEATERS):
        env.process(beat(env))
    before = cpu_s()
    env.run(until=PEER_S)
    return BEATERS * PEER_S / BEAT_S / (cpu_s() - before)
