"""``python -m bench [NAME ...]``: run all benchmarks, or the named ones, and print their tables."""

import importlib
import sys
from collections.abc import Callable, Iterable

from bench.table import Row, show

BENCHMARKS = {
    "step": "Machine.step",
    "protocol": "protocol fidelity, 20 nodes, all checkers on",
    "cold_start": "a cold rack of 1,000 nodes, dark to all joined",
    "lanl": "years of failures of one machine room",
    "placement": "placement",
}


def main(names: list[str]) -> int:
    """Run and print; 2 for an unknown name."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or list(BENCHMARKS):
        rows: Callable[[], Iterable[Row]] = importlib.import_module(f"bench.{name}").rows
        print(show(BENCHMARKS[name], rows()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
