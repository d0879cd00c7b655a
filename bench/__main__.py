"""``python -m bench [NAME[=VALUE] ...]``: run the named benchmarks, or all but the long ones, and print their tables.

A value is for those that take one: ``sessions=2`` measures for two minutes, ``swarm=10`` takes ten thousand seeds.
"""

import importlib
import sys
from collections.abc import Callable, Iterable

from bench.table import Row, show

BENCHMARKS = {
    "step": "Machine.step",
    "protocol": "protocol fidelity, 20 nodes, all checkers on",
    "cold_start": "a cold rack of 1,000 nodes, dark to all joined",
    "boot": "1,000 dark machines that nobody has listed: found, booted, admitted",
    "lanl": "years of failures of one machine room",
    "years": "a year of failures of big sites, in bulk",
    "placement": "placement",
    "scaling": "one more node, in racks of 5 to 1,000",
    "crush": "CRUSH mappings, what-ifs and their memory",
    "packing": "virtual machines on hosts: schedulers, plans, losses",
    "swarm": "campaigns of random failures, five nodes, ten minutes each",
    "idle": "what a node costs that has nothing to do, on a lab of real processes",
    "sessions": "agents' sessions against a real ensemble of three",
}
LONG = ("idle", "sessions")
"""These need real servers (and ``idle`` root) and minutes, so they run only when they are named."""
VALUES = {"idle": "minutes", "sessions": "minutes", "swarm": "thousands of seeds"}


def main(words: list[str]) -> int:
    """Run and print; 2 for an unknown name or a value that is no number."""
    wanted = [word.partition("=")[::2] for word in words] or [(name, "") for name in BENCHMARKS if name not in LONG]
    unknown = [name for name, _ in wanted if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    bad = [value for name, value in wanted if value and not (name in VALUES and value.replace(".", "", 1).isdigit())]
    if bad:
        allowed = ", ".join(f"{words} for {name}" for name, words in VALUES.items())
        print(f"{', '.join(bad)}: allowed: {allowed}", file=sys.stderr)
        return 2
    for name, value in wanted:
        rows: Callable[..., Iterable[Row]] = importlib.import_module(f"bench.{name}").rows
        print(show(BENCHMARKS[name], rows(float(value)) if value else rows()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
