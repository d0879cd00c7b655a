"""How long a rack without power takes, on the wall's clock, until every node has joined."""

from collections.abc import Iterator

from bench.running import run_text
from bench.table import Row

TARGET_MS = 10_000
SCENARIO = """# Why: a thousand dark machines are powered, booted and joined, one from the other.
seed = 1
rack = {{ nodes = {nodes} }}
catalog = "catalog/minimal.toml"
fidelity = "capacity"
start = "first"
duration_ms = {duration_ms}
heal_ms = 1_800_000

[clients]
every_ms = 0

[expect]
joined = {nodes}
"""


def rows() -> Iterator[Row]:
    """Measure racks of 100 and 1,000 nodes."""
    for nodes, target_ms in ((100, None), (1_000, TARGET_MS)):
        outcome = run_text(SCENARIO.format(nodes=nodes, duration_ms=7_200_000))
        wall_ms = outcome["wall_ms"]
        yield Row(
            what=f"{nodes:,} nodes, two simulated hours",
            measured=f"{wall_ms / 1_000:.1f} s",
            target=f"<= {target_ms / 1_000:.0f} s" if target_ms else "",
            ok=wall_ms <= target_ms if target_ms else None,
        )
        yield Row(what=f"{nodes:,} nodes, machine steps", measured=f"{outcome['steps']:,}")
